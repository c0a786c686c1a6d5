//! UnregisterBroker: there is no broker but this one, and it stays.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::map::Failure;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: UnregisterBrokerRequest,
) -> Result<UnregisterBrokerResponse, Close> {
    let id = request.broker_id.0;
    let failure = if id == ctx.options.node_id {
        Failure::because(
            ResponseError::InvalidRequest,
            format!("Broker {id} is the only node and cannot be unregistered"),
        )
    } else {
        let message = format!("Broker ID {id} is not currently registered");
        Failure::because(ResponseError::BrokerIdNotRegistered, message)
    };
    ctx.count_error(call, failure.code());
    Ok(UnregisterBrokerResponse::default().with_error_code(failure.code()).with_error_message(failure.message()))
}
