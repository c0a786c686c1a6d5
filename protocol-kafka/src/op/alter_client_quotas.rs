//! AlterClientQuotas: quotas could not act, so to set one is refused; what is wrong with it is said first, as the reference
//! says it.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::map::Failure;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_client_quotas_request::OpData;
use kafka_protocol::messages::alter_client_quotas_response::{EntityData, EntryData};
use kafka_protocol::messages::{AlterClientQuotasRequest, AlterClientQuotasResponse};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;

/// An entity: names by their types.
type Entity = BTreeMap<StrBytes, Option<StrBytes>>;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: AlterClientQuotasRequest,
) -> Result<AlterClientQuotasResponse, Close> {
    let mut outcomes: BTreeMap<Entity, Result<(), Failure>> = BTreeMap::new();
    for entry in request.entries {
        let entity: Entity = entry.entity.into_iter().map(|part| (part.entity_type, part.entity_name)).collect();
        let outcome = match outcomes.contains_key(&entity) {
            true => invalid(format!("Ignoring duplicate entity {}", shown(&entity))),
            false => check(&entity, &entry.ops),
        };
        outcomes.insert(entity, outcome);
    }
    let entries = outcomes.into_iter().map(|(entity, outcome)| {
        let failure = outcome.err();
        let code = failure.as_ref().map_or(0, Failure::code);
        ctx.count_error(call, code);
        let entity =
            entity.into_iter().map(|(kind, name)| EntityData::default().with_entity_type(kind).with_entity_name(name));
        EntryData::default()
            .with_error_code(code)
            .with_error_message(failure.and_then(|failure| failure.message()))
            .with_entity(entity.collect())
    });
    Ok(AlterClientQuotasResponse::default().with_entries(entries.collect()))
}

fn invalid(message: impl Into<String>) -> Result<(), Failure> {
    Err(Failure::because(ResponseError::InvalidRequest, message))
}

/// An entity as the reference writes one.
fn shown(entity: &Entity) -> String {
    let parts = entity.iter().map(|(kind, name)| format!("{}={}", kind, name.as_deref().unwrap_or("null")));
    format!("ClientQuotaEntity(entries={{{}}})", parts.collect::<Vec<_>>().join(", "))
}

fn check(entity: &Entity, changes: &[OpData]) -> Result<(), Failure> {
    if entity.is_empty() {
        return invalid("Invalid empty client quota entity");
    }
    if let Some(kind) = entity.keys().find(|kind| !matches!(&***kind, "user" | "client-id" | "ip")) {
        return invalid(format!("Unhandled client quota entity type: {kind}"));
    }
    let is_ip = entity.keys().any(|kind| &**kind == "ip");
    if is_ip && entity.len() > 1 {
        return invalid("Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId");
    }
    for change in changes {
        let key: &str = &change.key;
        let may_be_fraction = match key {
            "connection_creation_rate" if is_ip => false,
            "producer_byte_rate" | "consumer_byte_rate" if !is_ip => false,
            "request_percentage" | "controller_mutation_rate" if !is_ip => true,
            _ => return invalid(format!("Invalid configuration key {key}")),
        };
        if change.remove {
            continue;
        }
        if change.value.is_nan() || change.value <= 0.0 {
            return invalid(format!("Quota {key} must be greater than 0"));
        }
        if !may_be_fraction && change.value.fract() != 0.0 {
            return invalid(format!("{key} cannot be a fractional value."));
        }
    }
    let set: Vec<&str> = changes.iter().filter(|change| !change.remove).map(|change| &*change.key).collect();
    if set.is_empty() { Ok(()) } else { invalid(format!("Quotas cannot be set on this server: {}", set.join(", "))) }
}
