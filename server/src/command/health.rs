//! `headwater health`: asks a server's admin port whether it is well, and says so by its exit code. It is what supervisors run
//! that have no HTTP client at hand, such as the health check of a container without a shell.

use crate::cli::seconds;
use crate::config::Address;
use crate::exit::{FAILED, Failure};
use clap::Args;
use std::io::{self, Write};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer is a line; whoever sends more is no admin port of ours.
const ANSWER_SIZE_MAX: u64 = 64 << 10;

#[derive(Debug, Args)]
#[command(after_help = "\
It ends with 0 when the server is well, and with 1 when it is not or cannot be asked.")]
pub struct HealthArgs {
    /// The server's admin port, as `serve` was told; a wildcard address stands for this machine
    #[arg(long, value_name = "ADDR", env = "HEADWATER_ADMIN", default_value = "127.0.0.1:9600")]
    pub admin: Address,
    /// Ask only whether the server lives, not whether it is ready for clients
    #[arg(long)]
    pub live: bool,
    /// Give up after this long
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    pub timeout: Duration,
}

/// Runs the command.
pub async fn run(args: HealthArgs) -> Result<(), Failure> {
    let address = reachable(args.admin);
    let path = if args.live { "/health/live" } else { "/health/ready" };
    let answer = match tokio::time::timeout(args.timeout, get(&address, path)).await {
        Ok(answer) => answer,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
    };
    let answer = answer.map_err(|error| {
        Failure::new(FAILED, format!("cannot ask {address}: {error}"))
            .hint("--admin says where the server's admin port is; `headwater serve` prints it when it starts")
    })?;
    let Some((status, said)) = parse(&answer) else {
        return Err(Failure::new(FAILED, format!("{address} answers what no Headwater does")));
    };
    match status {
        200 => Ok(writeln!(io::stdout(), "{said}")?),
        // The server says itself what is not well.
        503 => Err(Failure::new(FAILED, said)),
        _ => Err(Failure::new(FAILED, format!("{address} answers {status}: {said}"))),
    }
}

/// Where a server can be asked that listens there.
fn reachable(mut address: Address) -> Address {
    if address.is_wildcard() {
        address.host = if address.host.contains(':') { "::1".to_owned() } else { "127.0.0.1".to_owned() };
    }
    address
}

async fn get(address: &Address, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_SIZE_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The status of an HTTP answer, and its body without the end of the line.
fn parse(answer: &str) -> Option<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()?;
    Some((status, body.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_asked_on_this_machine() {
        for (listens, asked) in [
            ("0.0.0.0:9600", "127.0.0.1:9600"),
            ("[::]:9600", "[::1]:9600"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("broker.example:9600", "broker.example:9600"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()).to_string(), asked);
        }
    }

    #[test]
    fn status_and_body_are_told_apart_and_nonsense_is_none() {
        let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 20\r\n\r\nnot ready: starting\n";
        assert_eq!(parse(answer), Some((503, "not ready: starting")));
        for nonsense in ["", "HTTP/1.1 200 OK\r\n", "\r\n\r\n", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 many\r\n\r\n"] {
            assert_eq!(parse(nonsense), None, "{nonsense:?}");
        }
    }
}
