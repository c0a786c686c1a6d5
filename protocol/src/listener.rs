//! The accept loop: a bound on connections, and a shutdown that lets requests in flight finish.

use crate::limits::Limits;
use crate::metrics::{Ended, Metrics};
use crate::shutdown::{Phase, Shutdown, Trigger};
use rustix::net::{AddressFamily, SocketType, sockopt};
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How long the loop rests when the system gives no more descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Accepts connections until the shutdown, and runs `connection` for each in a task of its own. Returns when all have ended;
/// those that have not finished `limits.drain_max` after the shutdown began are told to stop.
pub async fn serve<C, F>(
    listener: TcpListener,
    limits: &Limits,
    metrics: Arc<Metrics>,
    mut shutdown: Shutdown,
    mut connection: C,
) where
    C: FnMut(TcpStream, Shutdown) -> F,
    F: Future<Output = Ended> + Send + 'static,
{
    // The connections hear of their own trigger, so that the end of the drain reaches them too.
    let (trigger, inner) = Trigger::new();
    let is_changed = sockopt::tcp_congestion(&listener).is_ok_and(|control| control == NOT_PACED);
    let usual = paced_by().filter(|_| is_changed);
    let mut tasks: JoinSet<()> = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.reached(Phase::Draining) => break,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(_) if tasks.len() >= limits.connections_max => metrics.over_bound(),
            Ok((stream, _)) => {
                if let Err(error) = prepare(&stream, limits, usual.as_deref()) {
                    tracing::debug!(%error, "a socket option was refused");
                }
                metrics.accepted();
                let running = connection(stream, inner.clone());
                let end = CountEnd { metrics: metrics.clone(), how: None };
                tasks.spawn(async move {
                    let mut end = end;
                    end.how = Some(running.await);
                });
            }
            Err(error) => rest_after(&error).await,
        }
    }
    drop(listener);
    trigger.advance(Phase::Draining);
    let drained = async { while tasks.join_next().await.is_some() {} };
    tokio::select! {
        () = drained => return,
        () = tokio::time::sleep(limits.drain_max) => {}
        () = shutdown.reached(Phase::Stopped) => {}
    }
    trigger.advance(Phase::Stopped);
    while tasks.join_next().await.is_some() {}
}

/// BBR paces what it sends by timers. Between two sockets of one address no queue can fill up, and the timers cost as much processor time as all else that a large answer
/// takes. Sockets keep them even when they change to another algorithm later, so the listener is changed and connections from elsewhere are given back what
/// the machine uses. Decision 0008 has figures.
const PACED: &str = "bbr";
/// Every Linux has it and lets everybody choose it.
const NOT_PACED: &str = "reno";

/// Has a listener's connections begin without pacing. To be called as soon as it is bound: who connects before is paced for good.
pub fn avoid_pacing(listener: &TcpListener) {
    if let Some(usual) = paced_by() {
        // Not where there would be no way back.
        let probe = new_socket().and_then(|socket| {
            sockopt::set_tcp_congestion(&socket, NOT_PACED)?;
            sockopt::set_tcp_congestion(&socket, &usual)
        });
        if let Err(error) = probe.and_then(|()| sockopt::set_tcp_congestion(listener, NOT_PACED)) {
            tracing::warn!(%error, "connections within the machine are paced by {usual}");
        }
    }
}

/// What the system uses, if that paces.
fn paced_by() -> Option<String> {
    let usual = new_socket().and_then(|socket| sockopt::tcp_congestion(&socket)).ok();
    usual.filter(|usual| usual.starts_with(PACED))
}

fn new_socket() -> rustix::io::Result<OwnedFd> {
    rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)
}

/// Sets a connection's socket options. `usual`: what those from elsewhere are given back.
fn prepare(stream: &TcpStream, limits: &Limits, usual: Option<&str>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if let Some(bytes) = limits.send_buffer_bytes {
        sockopt::set_socket_send_buffer_size(stream, bytes)?;
    }
    match usual {
        Some(usual) if stream.peer_addr()?.ip() != stream.local_addr()?.ip() => {
            Ok(sockopt::set_tcp_congestion(stream, usual)?)
        }
        _ => Ok(()),
    }
}

/// Counts a connection's end, however its task ends: by itself, by a panic, or dropped with the runtime.
struct CountEnd {
    metrics: Arc<Metrics>,
    how: Option<Ended>,
}

impl Drop for CountEnd {
    fn drop(&mut self) {
        let how = self.how.unwrap_or(if std::thread::panicking() { Ended::Panicked } else { Ended::Shutdown });
        if how == Ended::Panicked {
            tracing::error!("a connection's task panicked; the connection is closed");
        }
        self.metrics.ended(how);
    }
}

/// A connection that died before it was accepted costs nothing; without descriptors the loop would spin.
async fn rest_after(error: &io::Error) {
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        return;
    }
    tracing::warn!(%error, "cannot accept a connection");
    tokio::time::sleep(ACCEPT_RETRY).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Echoes one byte, then waits for the shutdown.
    async fn echo(mut stream: TcpStream, mut shutdown: Shutdown) -> Ended {
        let mut byte = [0];
        tokio::select! {
            read = stream.read_exact(&mut byte) => if read.is_err() { return Ended::ByClient },
            () = shutdown.reached(Phase::Draining) => return Ended::Shutdown,
        }
        if stream.write_all(&byte).await.is_err() {
            return Ended::Broken;
        }
        shutdown.reached(Phase::Stopped).await;
        Ended::Shutdown
    }

    #[tokio::test]
    async fn a_connection_over_the_bound_is_closed_at_once_and_the_others_live() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits { connections_max: 2, drain_max: Duration::from_millis(20), ..Limits::default() };
        let metrics = Arc::new(Metrics::new("test", []));
        let (trigger, shutdown) = Trigger::new();
        let counted = metrics.clone();
        let server = tokio::spawn(async move { serve(listener, &limits, counted, shutdown, echo).await });
        let mut first = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        first.write_all(b"a").await.unwrap();
        assert_eq!(first.read_u8().await.unwrap(), b'a');
        let mut third = TcpStream::connect(address).await.unwrap();
        assert!(third.read_u8().await.is_err(), "the third is closed");
        second.write_all(b"b").await.unwrap();
        assert_eq!(second.read_u8().await.unwrap(), b'b', "the second is unharmed");
        drop(second);
        trigger.advance(Phase::Draining);
        server.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
        let snapshot = metrics.snapshot();
        assert_eq!(
            (snapshot.connections_open, snapshot.connections_accepted, snapshot.connections_over_bound),
            (0, 2, 1)
        );
    }

    #[tokio::test]
    async fn a_panic_ends_its_own_connection_only() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::new("test", []));
        let (trigger, shutdown) = Trigger::new();
        let counted = metrics.clone();
        let fragile = async |mut stream: TcpStream| {
            let byte = stream.read_u8().await.unwrap_or_default();
            assert_ne!(byte, b'!', "a bug");
            let _ = stream.write_all(&[byte]).await;
            Ended::ByClient
        };
        let server = tokio::spawn(async move {
            serve(listener, &Limits::default(), counted, shutdown, move |stream, _| fragile(stream)).await;
        });
        let mut other = TcpStream::connect(address).await.unwrap();
        let mut doomed = TcpStream::connect(address).await.unwrap();
        doomed.write_all(b"!").await.unwrap();
        assert!(doomed.read_u8().await.is_err());
        other.write_all(b"a").await.unwrap();
        assert_eq!(other.read_u8().await.unwrap(), b'a');
        trigger.advance(Phase::Draining);
        server.await.unwrap();
        let ended = metrics.snapshot().connections_ended;
        assert!(ended.contains(&(Ended::Panicked, 1)) && ended.contains(&(Ended::ByClient, 1)), "{ended:?}");
    }

    /// A server that stops at once, because its disk failed, said of each connection that its task had panicked.
    #[tokio::test]
    async fn a_dropped_task_is_no_panic() {
        let metrics = Arc::new(Metrics::new("test", []));
        let count =
            |how| metrics.snapshot().connections_ended.iter().find(|(of, _)| *of == how).map(|(_, count)| *count);
        for panics in [false, true] {
            let end = CountEnd { metrics: metrics.clone(), how: None };
            let task = tokio::spawn(async move {
                let _end = end;
                assert!(!panics, "on purpose");
                std::future::pending::<()>().await;
            });
            tokio::task::yield_now().await;
            task.abort();
            assert_eq!(task.await.unwrap_err().is_panic(), panics);
        }
        assert_eq!((count(Ended::Shutdown), count(Ended::Panicked)), (Some(1), Some(1)));
    }

    #[tokio::test]
    async fn only_connections_from_elsewhere_are_paced() {
        let Some(usual) = paced_by() else {
            println!("skipped: this system does not pace");
            return;
        };
        // A client of 127.0.0.2 comes from 127.0.0.1.
        for (address, expected) in [("127.0.0.1:0", NOT_PACED), ("127.0.0.2:0", usual.as_str())] {
            let listener = TcpListener::bind(address).await.unwrap();
            avoid_pacing(&listener);
            let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            prepare(&stream, &Limits { send_buffer_bytes: Some(100_000), ..Limits::default() }, Some(&usual)).unwrap();
            assert_eq!(sockopt::tcp_congestion(&stream).unwrap(), expected);
            assert_eq!(sockopt::socket_send_buffer_size(&stream).unwrap(), 200_000);
        }
    }
}
