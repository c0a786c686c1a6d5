//! ApiVersions: which operations and versions there are. Answered whatever the version asked, so that any client can find out.

use crate::call::{Call, Outcome, Running};
use crate::context::Context;
use crate::model::Same;
use crate::model::api_versions::{self, ApiVersionsRequest};
use crate::table::{Row, TABLE};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;
use std::sync::Arc;

pub(crate) fn handle(ctx: Arc<Context>, call: Call) -> Running {
    Box::pin(async move {
        let known = TABLE.iter().find(|row| row.key == ApiKey::ApiVersions);
        if known.is_none_or(|row| call.version < row.min || call.version > row.max) {
            // The client's version is not known, so the answer has the form that every client knows, and names only this
            // operation, which is what the client needs to ask again.
            let code = ResponseError::UnsupportedVersion.code();
            ctx.count_error(&call, code);
            let answer = ApiVersionsResponse::default()
                .with_error_code(code)
                .with_api_keys(known.map(entry).into_iter().collect());
            return Call { version: 0, ..call }.answer(&answer).map(Outcome::Done);
        }
        let request: ApiVersionsRequest = call.decode()?;
        let answer = match fault(&ctx, &call, &request) {
            Some(error) => {
                ctx.count_error(&call, error.code());
                ApiVersionsResponse::default().with_error_code(error.code())
            }
            None => ApiVersionsResponse::default().with_api_keys(TABLE.iter().map(entry).collect()),
        };
        let answer: api_versions::ApiVersionsResponse = Same(answer);
        call.answer(&answer).map(Outcome::Done)
    })
}

/// What is wrong with a question that is understood.
fn fault(ctx: &Context, call: &Call, request: &ApiVersionsRequest) -> Option<ResponseError> {
    if call.version >= 3 && !is_software_name(request) {
        return Some(ResponseError::InvalidRequest);
    }
    // A client names both the cluster and the node that it means, or neither.
    if request.cluster_id.is_some() != (request.node_id != -1) {
        return Some(ResponseError::InvalidRequest);
    }
    // Whoever means others has an old address of them, and shall look it up anew.
    let is_meant = |id: &StrBytes| *id == ctx.cluster_id && request.node_id == ctx.options.node_id;
    let is_for_others = request.cluster_id.as_ref().is_some_and(|id| !is_meant(id));
    is_for_others.then_some(ResponseError::RebootstrapRequired)
}

fn entry(row: &Row) -> ApiVersion {
    ApiVersion::default().with_api_key(row.key as i16).with_min_version(row.min).with_max_version(row.max)
}

/// The reference refuses clients whose name or version does not match `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`.
fn is_software_name(request: &ApiVersionsRequest) -> bool {
    let valid = |text: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        edge(text.chars().next())
            && edge(text.chars().next_back())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
    };
    valid(&request.client_software_name) && valid(&request.client_software_version)
}
