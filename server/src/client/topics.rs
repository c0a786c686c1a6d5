//! Operations on topics.

use super::cluster::Retry;
use super::{ClientError, Cluster};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest, TopicName,
};
use kafka_protocol::protocol::{Request, StrBytes};

const TOPIC_RESOURCE: i8 = 2;
const SET_OPERATION: i8 = 0;
const DELETE_OPERATION: i8 = 1;

/// A topic to make.
#[derive(Debug, Default)]
pub struct NewTopic {
    pub name: String,
    /// -1 takes the broker's default.
    pub partitions: i32,
    /// -1 takes the broker's default.
    pub replication: i16,
    pub settings: Vec<(String, String)>,
    pub validate_only: bool,
}

/// What to change in a topic's settings.
#[derive(Debug)]
pub struct SettingsChange<'a> {
    pub set: &'a [(String, String)],
    /// Names of settings that go back to what they inherit.
    pub delete: &'a [String],
    pub validate_only: bool,
}

/// One setting of a topic.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Setting {
    pub name: String,
    pub value: Option<String>,
    /// Where the value comes from: `topic`, `broker` or `default`.
    pub source: &'static str,
}

impl Cluster {
    /// Makes a topic.
    pub async fn create_topic(&mut self, new: &NewTopic) -> Result<(), ClientError> {
        let configs = new
            .settings
            .iter()
            .map(|(name, value)| CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value))))
            .collect();
        let topic = CreatableTopic::default()
            .with_name(TopicName(text(&new.name)))
            .with_num_partitions(new.partitions)
            .with_replication_factor(new.replication)
            .with_configs(configs);
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(self.wait_ms())
            .with_validate_only(new.validate_only);
        let answer = self.ask_controller(|_| request.clone(), i16::MAX).await?;
        for row in answer.topics {
            ClientError::check(row.error_code, row.error_message.as_deref(), || {
                format!("cannot create topic {}", new.name)
            })?;
        }
        Ok(())
    }

    /// Deletes a topic.
    pub async fn delete_topic(&mut self, name: &str) -> Result<(), ClientError> {
        let wait_ms = self.wait_ms();
        let build = |version: i16| {
            let request = DeleteTopicsRequest::default().with_timeout_ms(wait_ms);
            match version {
                6.. => request.with_topics(vec![DeleteTopicState::default().with_name(Some(TopicName(text(name))))]),
                _ => request.with_topic_names(vec![TopicName(text(name))]),
            }
        };
        for row in self.ask_controller(build, i16::MAX).await?.responses {
            ClientError::check(row.error_code, row.error_message.as_deref(), || format!("cannot delete topic {name}"))?;
        }
        Ok(())
    }

    /// Raises the number of a topic's partitions to `total`, or only asks whether that would do.
    pub async fn add_partitions(&mut self, name: &str, total: i32, validate_only: bool) -> Result<(), ClientError> {
        let topic =
            CreatePartitionsTopic::default().with_name(TopicName(text(name))).with_count(total).with_assignments(None);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(self.wait_ms())
            .with_validate_only(validate_only);
        for row in self.ask_controller(|_| request.clone(), i16::MAX).await?.results {
            ClientError::check(row.error_code, row.error_message.as_deref(), || {
                format!("cannot give topic {name} {total} partitions")
            })?;
        }
        Ok(())
    }

    /// Deletes the records of a partition before `offset` (-1: all of them). Answers the new first offset.
    pub async fn delete_records(&mut self, topic: &str, partition: i32, offset: i64) -> Result<i64, ClientError> {
        let mut retry = Retry::new(self.wait());
        loop {
            match self.delete_records_once(topic, partition, offset).await {
                Err(error) => retry.pause_or(error).await?,
                done => return done,
            }
        }
    }

    async fn delete_records_once(&mut self, topic: &str, partition: i32, offset: i64) -> Result<i64, ClientError> {
        let leaders = self.leaders(topic, &[partition]).await?;
        let leader = leaders.keys().next().copied().unwrap_or_default();
        let timeout_ms = self.wait_ms();
        let connection = self.broker(leader).await?;
        let version = connection.version::<DeleteRecordsRequest>(i16::MAX)?;
        let row = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
        let rows = DeleteRecordsTopic::default().with_name(TopicName(text(topic))).with_partitions(vec![row]);
        let request = DeleteRecordsRequest::default().with_topics(vec![rows]).with_timeout_ms(timeout_ms);
        let answer = connection.call(&request, version).await?;
        let row = answer.topics.into_iter().flat_map(|topic| topic.partitions).next();
        let row =
            row.ok_or_else(|| ClientError::Invalid(format!("the broker said nothing about {topic}/{partition}")))?;
        ClientError::check(row.error_code, None, || format!("cannot delete records of {topic}/{partition}"))?;
        Ok(row.low_watermark)
    }

    /// A topic's settings, as they hold now.
    pub async fn settings(&mut self, topic: &str) -> Result<Vec<Setting>, ClientError> {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(text(topic))
            .with_configuration_keys(None);
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let mut settings = Vec::new();
        for row in self.ask(|_| request.clone(), i16::MAX).await?.results {
            ClientError::check(row.error_code, row.error_message.as_deref(), || format!("settings of {topic}"))?;
            settings.extend(row.configs.into_iter().map(|config| Setting {
                name: config.name.to_string(),
                value: config.value.map(|value| value.to_string()),
                source: match config.config_source {
                    1 => "topic",
                    2..=4 => "broker",
                    _ => "default",
                },
            }));
        }
        settings.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(settings)
    }

    /// Changes settings of a topic: gives them values, or takes away those that the topic has of its own.
    pub async fn alter_settings(&mut self, topic: &str, change: &SettingsChange<'_>) -> Result<(), ClientError> {
        let row = |name: &str, operation: i8, value: Option<&str>| {
            AlterableConfig::default()
                .with_name(text(name))
                .with_config_operation(operation)
                .with_value(value.map(text))
        };
        let set = change.set.iter().map(|(name, value)| row(name, SET_OPERATION, Some(value)));
        let delete = change.delete.iter().map(|name| row(name, DELETE_OPERATION, None));
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(text(topic))
            .with_configs(set.chain(delete).collect());
        let request = IncrementalAlterConfigsRequest::default()
            .with_resources(vec![resource])
            .with_validate_only(change.validate_only);
        for row in self.ask_controller(|_| request.clone(), i16::MAX).await?.responses {
            ClientError::check(row.error_code, row.error_message.as_deref(), || {
                format!("cannot change settings of topic {topic}")
            })?;
        }
        Ok(())
    }

    /// Asks the broker that decides.
    async fn ask_controller<R: Request>(
        &mut self,
        build: impl Fn(i16) -> R,
        cap: i16,
    ) -> Result<R::Response, ClientError> {
        let connection = self.controller().await?;
        let version = connection.version::<R>(cap)?;
        connection.call(&build(version), version).await
    }

    /// Asks any broker.
    pub(super) async fn ask<R: Request>(
        &mut self,
        build: impl Fn(i16) -> R,
        cap: i16,
    ) -> Result<R::Response, ClientError> {
        let connection = self.any().await?;
        let version = connection.version::<R>(cap)?;
        connection.call(&build(version), version).await
    }

    pub(super) fn wait_ms(&self) -> i32 {
        i32::try_from(self.wait().as_millis()).unwrap_or(i32::MAX)
    }
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}
