//! The ports. They are bound before anything else happens, so that a taken address costs nothing but a message.

use crate::config::{Address, Config};
use crate::exit::{Failure, NOT_STARTED};
use std::io::ErrorKind;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// Bound listeners, and where they really are: port 0 takes a free one. Nothing listens at the AWS address: there is no
/// API to serve on it yet.
pub struct Ports {
    pub kafka: TcpListener,
    pub kafka_address: SocketAddr,
    pub admin: TcpListener,
    pub admin_address: SocketAddr,
}

impl Ports {
    /// Binds all of them.
    pub async fn bind(config: &Config) -> Result<Ports, Failure> {
        let (kafka, kafka_address) = bind("kafka", &config.kafka, config.insecure_no_auth).await?;
        let (admin, admin_address) = bind("admin", &config.admin, config.insecure_no_auth).await?;
        Ok(Ports { kafka, kafka_address, admin, admin_address })
    }
}

async fn bind(option: &str, address: &Address, may_be_reached: bool) -> Result<(TcpListener, SocketAddr), Failure> {
    let refused = |error: std::io::Error| {
        let failure = Failure::new(NOT_STARTED, format!("cannot listen on {option} = {address}: {error}"));
        match error.kind() {
            ErrorKind::AddrInUse => failure
                .hint(format!("another program listens there, maybe another headwater; --{option} takes another")),
            ErrorKind::PermissionDenied => failure.hint("ports below 1024 are reserved; take a higher one"),
            _ => failure,
        }
    };
    let listener = TcpListener::bind((address.host.as_str(), address.port)).await.map_err(refused)?;
    headwater_protocol::listener::avoid_pacing(&listener);
    let bound = listener.local_addr().map_err(refused)?;
    // What a name stands for shows only now.
    if !bound.ip().is_loopback() && !may_be_reached {
        let message =
            format!("{option} = {address} is {bound}, which other machines can reach, and nobody has to authenticate");
        return Err(Failure::new(NOT_STARTED, message).hint("--insecure-no-auth says that it is meant"));
    }
    Ok((listener, bound))
}
