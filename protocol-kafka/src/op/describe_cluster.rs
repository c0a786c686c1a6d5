//! DescribeCluster: the brokers and the controller, which are this one node.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::topics;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

/// Kinds of endpoint; a listener for clients is a broker's.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: DescribeClusterRequest,
) -> Result<DescribeClusterResponse, Close> {
    let refuse = |error: ResponseError, message: String| {
        ctx.count_error(call, error.code());
        DescribeClusterResponse::default()
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_string(message)))
            .with_controller_id(BrokerId(-1))
    };
    match if call.version >= 1 { request.endpoint_type } else { BROKERS } {
        BROKERS => {}
        CONTROLLERS => {
            let message =
                "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER";
            return Ok(refuse(ResponseError::MismatchedEndpointType, message.to_owned()));
        }
        other => {
            let message = format!("Unsupported endpoint type {other}");
            return Ok(refuse(ResponseError::UnsupportedEndpointType, message));
        }
    }
    let node = BrokerId(ctx.options.node_id);
    let mut response = DescribeClusterResponse::default()
        .with_cluster_id(ctx.cluster_id.clone())
        .with_controller_id(node)
        .with_brokers(vec![
            DescribeClusterBroker::default()
                .with_broker_id(node)
                .with_host(StrBytes::from_string(ctx.options.advertised_host.clone()))
                .with_port(i32::from(ctx.options.advertised_port))
                .with_rack(ctx.options.rack.clone().map(StrBytes::from_string)),
        ]);
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = topics::CLUSTER_OPERATIONS;
    }
    Ok(response)
}
