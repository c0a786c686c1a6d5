//! UpdateFeatures: no feature has levels here, so each update is refused as the reference refuses one that it does not know.

use crate::call::{Call, Close};
use crate::context::Context;
use crate::map::Failure;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};

/// Upgrades, safe downgrades and unsafe ones.
const KINDS: std::ops::RangeInclusive<i8> = 1..=3;

pub(crate) async fn handle(
    ctx: &Context,
    call: &Call,
    request: UpdateFeaturesRequest,
) -> Result<UpdateFeaturesResponse, Close> {
    let response = UpdateFeaturesResponse::default().with_error_message(None);
    let updates = &request.feature_updates;
    let Some(first) = updates.first() else { return Ok(response) };
    // Of several updates of one feature the last counts.
    let update = updates.iter().rev().find(|update| update.feature == first.feature).unwrap_or(first);
    let failure = refusal(ctx, call.version, update);
    ctx.count_error(call, failure.code());
    Ok(response.with_error_code(failure.code()).with_error_message(failure.message()))
}

fn refusal(ctx: &Context, version: i16, update: &FeatureUpdateKey) -> Failure {
    let FeatureUpdateKey { feature, max_version_level: level, .. } = update;
    let feature: &str = feature;
    let why = if version >= 1 && !KINDS.contains(&update.upgrade_type) {
        "The controller does not support the given upgrade type.".to_owned()
    } else if *level < 0 {
        "A feature version cannot be less than 0.".to_owned()
    } else if *level == 0 {
        format!("Feature {feature} not found.")
    } else {
        format!("Local controller {} does not support this feature.", ctx.options.node_id)
    };
    let message = format!(
        "The update failed for all features since the following feature had an error: Invalid update version {level} for \
         feature {feature}. {why}"
    );
    Failure::because(ResponseError::InvalidUpdateVersion, message)
}
