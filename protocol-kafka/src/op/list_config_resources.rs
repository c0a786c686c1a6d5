//! ListConfigResources: what has settings. Groups and client metrics have none of their own yet.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::resource_config::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use crate::topics;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use kafka_protocol::protocol::StrBytes;

const KINDS: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: ListConfigResourcesRequest,
) -> Result<ListConfigResourcesResponse, Close> {
    let wanted = match (call.version, request.resource_types) {
        (0, _) => vec![CLIENT_METRICS],
        (_, all) if all.is_empty() => KINDS.to_vec(),
        (_, some) => some,
    };
    if !wanted.iter().all(|kind| KINDS.contains(kind)) {
        let code = ResponseError::UnsupportedVersion.code();
        ctx.count_error(call, code);
        return Ok(ListConfigResourcesResponse::default().with_error_code(code));
    }
    let entry = |name: String, kind: i8| {
        ConfigResource::default().with_resource_name(StrBytes::from_string(name)).with_resource_type(kind)
    };
    let mut resources = Vec::new();
    for kind in [BROKER_LOGGER, BROKER].into_iter().filter(|kind| wanted.contains(kind)) {
        resources.push(entry(ctx.options.node_id.to_string(), kind));
    }
    if wanted.contains(&TOPIC) {
        resources.extend(topics::all(ctx).map(|topic| entry(topic.name().to_owned(), TOPIC)));
    }
    Ok(ListConfigResourcesResponse::default().with_config_resources(resources))
}
