//! Checks that look at more than one option.

use super::{Address, Effective, Problem};

/// Everything that is wrong across options.
pub fn across(effective: &Effective) -> Vec<Problem> {
    let config = &effective.config;
    let listeners = [("kafka", &config.kafka), ("aws", &config.aws), ("admin", &config.admin)];
    let mut problems = Vec::new();
    let mut report = |key: &str, message: String| {
        let at = effective.source(key).map_or_else(|| key.to_owned(), ToString::to_string);
        problems.push(Problem { at, message });
    };
    for (key, address) in listeners {
        if !address.is_loopback() && !config.insecure_no_auth {
            report(
                key,
                format!(
                    "`{key} = {address}` can be reached from other machines, and nobody has to authenticate; \
                     use a loopback address such as 127.0.0.1:{}, or say that it is meant with --insecure-no-auth",
                    address.port
                ),
            );
        }
    }
    for (index, (key, address)) in listeners.iter().enumerate() {
        for (other, taken) in &listeners[..index] {
            if overlap(address, taken) {
                report(key, format!("`{key} = {address}` is the same place as `{other} = {taken}`"));
            }
        }
    }
    match &config.kafka_advertised {
        None if config.kafka.is_wildcard() => report(
            "kafka",
            format!(
                "`kafka = {}` is every address of this machine, and Kafka clients must be told one to come back to: \
                 set kafka_advertised (--kafka-advertised)",
                config.kafka
            ),
        ),
        Some(address) if address.is_wildcard() || address.port == 0 => report(
            "kafka_advertised",
            format!("`kafka_advertised = {address}` is not an address that a client can connect to"),
        ),
        _ => {}
    }
    let engine = &config.engine;
    if engine.wal_size_initial > engine.wal_size_max {
        report("wal.size_initial", "`wal.size_initial` is more than `wal.size_max`".to_owned());
    }
    let groups = &config.groups;
    if groups.session_timeout_min_ms > groups.session_timeout_max_ms {
        let message = "`groups.session_timeout_min_ms` is more than `groups.session_timeout_max_ms`".to_owned();
        report("groups.session_timeout_min_ms", message);
    }
    problems
}

fn overlap(one: &Address, other: &Address) -> bool {
    one.port != 0 && one.port == other.port && (one.host == other.host || one.is_wildcard() || other.is_wildcard())
}
