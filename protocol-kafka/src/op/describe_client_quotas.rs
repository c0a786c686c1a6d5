//! DescribeClientQuotas: none are set, since none can be.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::map::Failure;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};
use kafka_protocol::protocol::StrBytes;
use std::collections::HashSet;

/// How an entity is meant: by its name, the default one, any.
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const ANY: i8 = 2;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: DescribeClientQuotasRequest,
) -> Result<DescribeClientQuotasResponse, Close> {
    let response = DescribeClientQuotasResponse::default();
    Ok(match check(&request.components) {
        Ok(()) => response.with_error_message(Some(StrBytes::new())).with_entries(Some(Vec::new())),
        Err(failure) => {
            ctx.count_error(call, failure.code());
            response.with_error_code(failure.code()).with_error_message(failure.message()).with_entries(None)
        }
    })
}

fn check(components: &[ComponentData]) -> Result<(), Failure> {
    let invalid = |message: &str| Err(Failure::because(ResponseError::InvalidRequest, message));
    let mut seen = HashSet::new();
    for component in components {
        let entity: &str = &component.entity_type;
        match (component.match_type, &component._match) {
            (EXACT, None) => return invalid("Request specified MATCH_TYPE_EXACT, but set match string to null."),
            (DEFAULT, Some(_)) => {
                return invalid("Request specified MATCH_TYPE_DEFAULT, but also specified a match string.");
            }
            (ANY, Some(_)) => {
                return invalid("Request specified MATCH_TYPE_SPECIFIED, but also specified a match string.");
            }
            (EXACT | DEFAULT | ANY, _) => {}
            (other, _) => return invalid(&format!("Unknown match type {other}")),
        }
        match entity {
            "user" | "client-id" | "ip" => {}
            "" => return invalid("Invalid empty entity type."),
            _ => {
                let message = format!("Unsupported entity type {entity}");
                return Err(Failure::because(ResponseError::UnsupportedVersion, message));
            }
        }
        if !seen.insert(entity) {
            return invalid(&format!("Entity type {entity} cannot appear more than once in the filter."));
        }
    }
    if seen.contains("ip") && seen.len() > 1 {
        return invalid(
            "Invalid entity filter component combination. IP filter component should not be used with user or clientId \
             filter component.",
        );
    }
    Ok(())
}
