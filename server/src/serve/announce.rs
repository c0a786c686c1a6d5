//! The lines on standard output that tell where to connect. The last one is `ready`: scripts wait for it.

use crate::config::Config;
use headwater_engine::Durability;
use std::io::Write;
use std::net::SocketAddr;

/// Says that the server serves, and where.
pub fn ready(config: &Config, kafka: SocketAddr, admin: SocketAddr) {
    let durability = match config.engine.durability {
        Durability::Fsync => "fsync: what is acknowledged survives a power cut",
        Durability::Os => "os: what is acknowledged survives a crash of the process, not a power cut",
    };
    let advertised = config.kafka_advertised.as_ref().map(|to| format!(", clients are told {to}")).unwrap_or_default();
    let data_dir = std::path::absolute(&config.engine.data_dir).unwrap_or_else(|_| config.engine.data_dir.clone());
    let text = format!(
        "headwater {}\n  data   {} (durability {durability})\n  kafka  {kafka}{advertised}\n  aws    none: no AWS API is \
         served yet, nothing listens on {}\n  admin  http://{admin} (/health/ready, /metrics)\nready\n",
        env!("CARGO_PKG_VERSION"),
        data_dir.display(),
        config.aws,
    );
    // A closed standard output is no reason not to serve.
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        tracing::debug!(%error, "nobody reads the start lines");
    }
}
