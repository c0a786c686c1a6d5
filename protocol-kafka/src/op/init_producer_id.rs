//! InitProducerId: a number for an idempotent producer. Transactions are not there yet.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::map::Failure;
use headwater_engine::TopicError;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

/// The longest transaction that the reference allows (`transaction.max.timeout.ms`).
const TRANSACTION_TIMEOUT_MS_MAX: i32 = 15 * 60 * 1_000;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: InitProducerIdRequest,
) -> Result<InitProducerIdResponse, Close> {
    let failed = |code: i16| {
        ctx.count_error(call, code);
        Ok(InitProducerIdResponse::default()
            .with_error_code(code)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1))
    };
    if (request.producer_id.0 == -1) != (request.producer_epoch == -1) {
        return failed(ResponseError::InvalidRequest.code());
    }
    if let Some(transactional_id) = &request.transactional_id {
        let error = if transactional_id.is_empty() {
            ResponseError::InvalidRequest
        } else if request.transaction_timeout_ms <= 0 || request.transaction_timeout_ms > TRANSACTION_TIMEOUT_MS_MAX {
            ResponseError::InvalidTransactionTimeout
        } else {
            // What a broker says when the cluster has nobody to coordinate transactions.
            ResponseError::CoordinatorNotAvailable
        };
        return failed(error.code());
    }
    // An idempotent producer that already has an id gets a new one all the same, as from the reference: its sequences start
    // anew, and the old ones can no longer be mixed up with them.
    match ctx.engine.new_producer_id().await {
        Ok(id) => Ok(InitProducerIdResponse::default().with_producer_id(id.0.into()).with_producer_epoch(0)),
        Err(TopicError::Stopped) => Err(Close::Stopped),
        Err(error) => failed(Failure::from(error).code()),
    }
}
