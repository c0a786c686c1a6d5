//! AlterConfigs: gives a resource the settings named, and takes back all others.

use crate::call::{Call, Close};
use crate::config_change::{self, Change, Operation, Others, Resource};
use crate::context::Context;
use crate::map::Failure;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: AlterConfigsRequest,
) -> Result<AlterConfigsResponse, Close> {
    let resources: Vec<Resource> = request
        .resources
        .into_iter()
        .map(|resource| Resource {
            kind: resource.resource_type,
            name: resource.resource_name,
            changes: resource
                .configs
                .into_iter()
                .map(|config| Change { name: config.name, operation: Operation::Set, value: config.value })
                .collect(),
        })
        .collect();
    let outcomes = config_change::alter(ctx, call, &resources, Others::Go, request.validate_only).await;
    let responses = resources.into_iter().zip(outcomes).map(|(resource, outcome)| {
        let failure = outcome.err();
        AlterConfigsResourceResponse::default()
            .with_error_code(failure.as_ref().map_or(0, Failure::code))
            .with_error_message(failure.and_then(|failure| failure.message()))
            .with_resource_type(resource.kind)
            .with_resource_name(resource.name)
    });
    Ok(AlterConfigsResponse::default().with_responses(responses.collect()))
}
