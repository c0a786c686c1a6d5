//! Which broker a benchmark talks to.

use crate::kafka::Error;
use clap::Args;
use std::net::{SocketAddr, ToSocketAddrs};

/// The broker, by address.
#[derive(Clone, Debug, Args)]
pub struct Broker {
    /// The broker, Headwater or any other that speaks Kafka
    #[arg(long, value_name = "HOST:PORT", env = "HEADWATER_BOOTSTRAP", default_value = "127.0.0.1:9092")]
    pub broker: String,
}

impl Broker {
    /// Its address.
    pub fn address(&self) -> Result<SocketAddr, Error> {
        resolve(&self.broker)
    }
}

/// The first address of `HOST:PORT`.
pub fn resolve(broker: &str) -> Result<SocketAddr, Error> {
    let mut addresses =
        broker.to_socket_addrs().map_err(|error| Error::Answer(format!("{broker} is no address: {error}")))?;
    addresses.next().ok_or_else(|| Error::Answer(format!("{broker} has no address")))
}
