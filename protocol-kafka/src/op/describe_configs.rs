//! DescribeConfigs: settings of topics and of the broker, and the defaults of what cannot be configured yet.

use crate::broker_config;
use crate::call::{Call, Close};
use crate::context::Context;
use crate::limits::{self, RESOURCES_DESCRIBED_MAX};
use crate::map::Failure;
use crate::resource_config::{self, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, ResourceSetting, TOPIC};
use crate::topic_config::{self, Source};
use crate::{topic_name, topics};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult as Entry, DescribeConfigsResult, DescribeConfigsSynonym as Synonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

/// About the memory that one resource takes in the answer.
const RESOURCE_BYTES: usize = 16 << 10;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: DescribeConfigsRequest,
) -> Result<DescribeConfigsResponse, Close> {
    let wants = Wants {
        synonyms: request.include_synonyms,
        documentation: request.include_documentation && call.version >= 3,
        types: call.version >= 3,
    };
    let _charge = limits::account(ctx, request.resources.len().min(RESOURCES_DESCRIBED_MAX) * RESOURCE_BYTES).await;
    let results = request.resources.into_iter().enumerate().map(|(number, resource)| {
        let described =
            if number < RESOURCES_DESCRIBED_MAX { entries(ctx, &wants, &resource) } else { Err(too_many()) };
        let (code, message, mut configs) = match described {
            // The reference answers with an empty message where there is none.
            Ok(configs) => (0, None, configs),
            Err(failure) => (failure.code(), failure.message(), Vec::new()),
        };
        // An empty list of names is no list.
        if let Some(names) = resource.configuration_keys.filter(|names| !names.is_empty()) {
            configs.retain(|entry| names.contains(&entry.name));
        }
        ctx.count_error(call, code);
        DescribeConfigsResult::default()
            .with_error_code(code)
            .with_error_message(Some(message.unwrap_or_default()))
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
            .with_configs(configs)
    });
    Ok(DescribeConfigsResponse::default().with_results(results.collect()))
}

fn too_many() -> Failure {
    let message = format!("One request may describe {RESOURCES_DESCRIBED_MAX} resources.");
    Failure::because(ResponseError::ThrottlingQuotaExceeded, message)
}

struct Wants {
    synonyms: bool,
    documentation: bool,
    types: bool,
}

impl Wants {
    fn entry(&self, name: &'static str, value: Option<String>, source: Source, about: (i8, &'static str)) -> Entry {
        let (kind, documentation) = about;
        let mut entry = Entry::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(value.map(StrBytes::from_string))
            .with_config_source(source as i8);
        if self.types {
            entry.config_type = kind;
        }
        // Without one, the codec would send an empty text.
        entry.documentation = self.documentation.then(|| StrBytes::from_static_str(documentation));
        entry
    }
}

fn synonym(name: &'static str, value: &str, source: Source) -> Synonym {
    Synonym::default()
        .with_name(StrBytes::from_static_str(name))
        .with_value(Some(StrBytes::from_string(value.to_owned())))
        .with_source(source as i8)
}

fn entries(ctx: &Context, wants: &Wants, resource: &DescribeConfigsResource) -> Result<Vec<Entry>, Failure> {
    let name: &str = &resource.resource_name;
    let invalid = |message: &str| Err(Failure::because(ResponseError::InvalidRequest, message));
    match resource.resource_type {
        TOPIC => topic(ctx, wants, name),
        // Defaults for all brokers that were set at run time: none can be.
        BROKER if name.is_empty() => Ok(Vec::new()),
        BROKER => {
            check_broker(ctx, name, "expected {} or empty string, but received")?;
            Ok(broker(ctx, wants))
        }
        BROKER_LOGGER if name.is_empty() => invalid("Broker id must not be empty"),
        // The reference lists the loggers of its own code.
        BROKER_LOGGER => check_broker(ctx, name, "expected {} but received").map(|()| Vec::new()),
        CLIENT_METRICS if name.is_empty() => invalid("Client metrics subscription name must not be empty"),
        CLIENT_METRICS => Ok(unset(wants, resource_config::CLIENT_METRICS_SETTINGS)),
        GROUP if name.is_empty() => invalid("Group name must not be empty"),
        GROUP => Ok(unset(wants, resource_config::GROUP_SETTINGS)),
        _ => invalid(
            "This most likely occurs because of a request being malformed by the client library or the message was sent \
             to an incompatible broker. See the broker logs for more details.",
        ),
    }
}

fn check_broker(ctx: &Context, name: &str, expectation: &str) -> Result<(), Failure> {
    let own = ctx.options.node_id;
    let message = match name.parse::<i32>() {
        Ok(id) if id == own => return Ok(()),
        Ok(id) => format!("Unexpected broker id, {} {id}", expectation.replace("{}", &own.to_string())),
        Err(_) => format!("Broker id must be an integer, but it is: {name}"),
    };
    Err(Failure::because(ResponseError::InvalidRequest, message))
}

fn topic(ctx: &Context, wants: &Wants, name: &str) -> Result<Vec<Entry>, Failure> {
    if let Some(fault) = topic_name::fault(name) {
        return Err(Failure::because(ResponseError::InvalidTopicException, format!("Topic name is invalid: {fault}")));
    }
    let topic = topics::by_name(ctx, name).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let settings = topic.settings();
    let defaults = ctx.engine.topic_defaults();
    let entries = topic_config::SETTINGS.iter().map(|setting| {
        let value = topic_config::value(setting, &settings, defaults);
        let mut entry = wants.entry(
            setting.name,
            Some(value.text.clone()),
            value.source,
            (setting.kind.code(), setting.documentation),
        );
        if wants.synonyms {
            if value.source == Source::Topic {
                entry.synonyms.push(synonym(setting.name, &value.text, Source::Topic));
            }
            if let Some(behind) = setting.synonym {
                let server = topic_config::server_value(setting, defaults);
                if server.source == Source::Server {
                    entry.synonyms.push(synonym(behind.name, &server.text, Source::Server));
                }
                if behind.has_default {
                    entry.synonyms.push(synonym(behind.name, &topic_config::default_of(setting), Source::Default));
                }
            }
        }
        entry
    });
    Ok(entries.collect())
}

fn broker(ctx: &Context, wants: &Wants) -> Vec<Entry> {
    let entries = broker_config::all(ctx).into_iter().map(|setting| {
        let source = setting.source();
        let about = (setting.kind.code(), setting.documentation);
        let mut entry = wants.entry(setting.name, setting.value.clone(), source, about).with_read_only(true);
        if wants.synonyms {
            if let Some(value) = setting.value.as_deref().filter(|_| source == Source::Server) {
                entry.synonyms.push(synonym(setting.name, value, Source::Server));
            }
            if let Some(default) = &setting.default {
                entry.synonyms.push(synonym(setting.name, default, Source::Default));
            }
        }
        entry
    });
    entries.collect()
}

/// What holds for a group or a subscription that nobody has configured.
fn unset(wants: &Wants, settings: &'static [ResourceSetting]) -> Vec<Entry> {
    let entries = settings.iter().map(|setting| {
        let about = (setting.kind.code(), setting.documentation);
        let mut entry = wants.entry(setting.name, Some(setting.default.to_owned()), Source::Default, about);
        if let Some(behind) = setting.synonym.filter(|_| wants.synonyms) {
            entry.synonyms.push(synonym(behind, setting.default, Source::Default));
        }
        entry
    });
    entries.collect()
}
