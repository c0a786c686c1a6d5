//! Addresses as people write them: `127.0.0.1:9092`, `localhost:9092`, `[::1]:9092`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A host and a port. The host may be a name: it is looked up when it is bound.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl Address {
    /// Whether only this machine can reach it. A name other than `localhost` counts as reachable from outside, because
    /// what it stands for may change after this check.
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }

    /// Whether it stands for every address of the machine, so that nobody can connect to it by that name.
    pub fn is_wildcard(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let wrong = |why: &str| format!("{why}: write HOST:PORT, for example 127.0.0.1:9092 or [::1]:9092");
        let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("has no port"))?;
        let port = port.parse().map_err(|_| wrong("the port is not a number from 0 to 65535"))?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
            Some(_) => return Err(wrong("what stands in brackets is not an IPv6 address")),
            None if host.is_empty() => return Err(wrong("has no host")),
            None if host.contains(':') => return Err(wrong("an IPv6 address stands in brackets")),
            None if !host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) => {
                return Err(wrong("the host has a character that no host name has"));
            }
            None => host,
        };
        Ok(Address { host: host.to_owned(), port })
    }
}
