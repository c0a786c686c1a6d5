//! Who may ask over HTTP. A web page must not reach a server that listens on the user's own machine: not directly (its
//! requests carry a foreign Origin), and not by a name of its own that it lets point to this machine (then the Host is
//! that name).

use hyper::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{StatusCode, Uri};
use std::net::{IpAddr, SocketAddr};

/// The names under which the port may be asked, beside the loopback ones.
#[derive(Debug, Default)]
pub struct Hosts {
    configured: Vec<String>,
}

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the request has no usable Host header")]
    NoHost,
    #[error("requests for this Host are refused; admin_hosts (--admin-hosts) names the hosts that are served")]
    ForeignHost,
    #[error("requests from pages of another origin are refused")]
    ForeignOrigin,
}

impl Refusal {
    /// How it is answered.
    pub fn status(&self) -> StatusCode {
        match self {
            Refusal::NoHost => StatusCode::BAD_REQUEST,
            Refusal::ForeignHost | Refusal::ForeignOrigin => StatusCode::FORBIDDEN,
        }
    }
}

impl Hosts {
    /// Names that the configuration gives, and the host that the port was bound by.
    pub fn new(configured: &[String], bound: &str) -> Hosts {
        let names = configured.iter().map(String::as_str).chain([bound]);
        Hosts { configured: names.map(|name| bare(name).to_ascii_lowercase()).collect() }
    }

    /// Lets a request through or refuses it. `local` is the address that the client connected to.
    pub fn admit(&self, uri: &Uri, headers: &HeaderMap, local: Option<SocketAddr>) -> Result<(), Refusal> {
        let host = match uri.authority() {
            Some(authority) => authority.clone(),
            None => single(headers, &HOST)
                .map_err(|()| Refusal::NoHost)?
                .and_then(|text| text.parse::<Authority>().ok())
                .ok_or(Refusal::NoHost)?,
        };
        if host.as_str().contains('@') {
            return Err(Refusal::NoHost);
        }
        if !self.serves(bare(host.host()), local) {
            return Err(Refusal::ForeignHost);
        }
        match single(headers, &ORIGIN) {
            Ok(None) => Ok(()),
            Ok(Some(origin)) if is_same(origin, &host) => Ok(()),
            Ok(Some(_)) | Err(()) => Err(Refusal::ForeignOrigin),
        }
    }

    fn serves(&self, host: &str, local: Option<SocketAddr>) -> bool {
        if host.eq_ignore_ascii_case("localhost") || self.configured.iter().any(|name| name.eq_ignore_ascii_case(host))
        {
            return true;
        }
        // No page can make its own address stand for this one: the address that the client really connected to is as
        // good as a configured name.
        host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || local.is_some_and(|local| local.ip() == ip))
    }
}

/// An IPv6 address without its brackets.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The header's value, when it comes once and is text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

/// Whether a page of this origin came from the very server that it asks. `null` is no origin of ours.
fn is_same(origin: &str, host: &Authority) -> bool {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn ask(host: &[&str], origin: &[&str]) -> Result<(), Refusal> {
        let hosts = Hosts::new(&["broker.example".to_owned()], "[2001:db8::1]");
        let mut headers = HeaderMap::new();
        for (name, values) in [(HOST, host), (ORIGIN, origin)] {
            for value in values {
                headers.append(&name, HeaderValue::from_str(value).unwrap());
            }
        }
        hosts.admit(&Uri::from_static("/metrics"), &headers, "192.0.2.7:9600".parse().ok())
    }

    #[test]
    fn loopback_configured_and_local_hosts_are_served() {
        let served = [
            "localhost",
            "LOCALHOST:9600",
            "127.0.0.1:9600",
            "127.3.2.1",
            "[::1]:9600",
            "broker.example:9600",
            "Broker.Example",
            "[2001:db8::1]:9600",
            "192.0.2.7:9600",
        ];
        for host in served {
            assert_eq!(ask(&[host], &[]), Ok(()), "{host}");
        }
    }

    #[test]
    fn foreign_hosts_are_refused() {
        let foreign = ["evil.example", "localhost.evil.example", "192.0.2.8", "127.0.0.1.evil.example", "0.0.0.0:9600"];
        for host in foreign {
            assert_eq!(ask(&[host], &[]), Err(Refusal::ForeignHost), "{host}");
        }
        for host in [&[][..], &["localhost", "localhost"], &[""], &["evil@localhost"], &["a b"]] {
            assert_eq!(ask(host, &[]), Err(Refusal::NoHost), "{host:?}");
        }
    }

    #[test]
    fn a_page_may_only_ask_the_server_that_it_came_from() {
        assert_eq!(ask(&["localhost:9600"], &["http://localhost:9600"]), Ok(()));
        let foreign = [
            "http://evil.example",
            "http://localhost:3000",
            "http://localhost",
            "http://127.0.0.1:9600",
            "null",
            "",
            "file://",
        ];
        for origin in foreign {
            assert_eq!(ask(&["localhost:9600"], &[origin]), Err(Refusal::ForeignOrigin), "{origin}");
        }
        let two = ["http://localhost:9600", "http://evil.example"];
        assert_eq!(ask(&["localhost:9600"], &two), Err(Refusal::ForeignOrigin));
    }

    #[test]
    fn the_address_in_the_request_line_counts_before_the_header() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("localhost"));
        let refused = Hosts::default().admit(&Uri::from_static("http://evil.example/metrics"), &headers, None);
        assert_eq!(refused, Err(Refusal::ForeignHost));
    }
}
