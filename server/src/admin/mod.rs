//! The admin port: health and metrics over HTTP, for people, Prometheus and supervisors.
//!
//! It changes nothing and reads no request body. Who may ask is decided in [`guard`]; what is answered is in
//! [`Admin::answer`]. The accept loop, with its bound on connections, is the one that every listener uses.

mod guard;
mod metrics;

pub use guard::Hosts;
pub use metrics::Sources;

use bytes::Bytes;
use headwater_engine::Engine;
use headwater_protocol::metrics::{Ended, Metrics};
use headwater_protocol::{Limits, Phase, Shutdown, listener};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

const CONNECTIONS_MAX: usize = 64;
/// Request line and headers together.
const HEAD_SIZE_MAX: usize = 16 << 10;
const HEAD_WAIT_MAX: Duration = Duration::from_secs(30);
/// A connection is asked to end after this long, so that one that reads nothing does not stay for ever.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(300);
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// What the admin port knows.
pub struct Admin {
    hosts: Hosts,
    /// Set once the data folder is recovered.
    engine: OnceLock<Engine>,
    /// Set once every listener serves.
    ready: OnceLock<()>,
    /// The clients' shutdown; the admin port itself goes on while they are drained.
    clients: Shutdown,
    sources: Sources,
}

impl Admin {
    /// An admin port that answers requests for these hosts. `clients` tells whether clients are still served.
    pub fn new(hosts: Hosts, sources: Sources, clients: Shutdown) -> Arc<Admin> {
        Arc::new(Admin { hosts, engine: OnceLock::new(), ready: OnceLock::new(), clients, sources })
    }

    /// The data folder is open.
    pub fn opened(&self, engine: &Engine) {
        let _ = self.engine.set(engine.clone());
    }

    /// Clients are served from now on.
    pub fn serves(&self) {
        let _ = self.ready.set(());
    }

    /// Serves until the shutdown.
    pub async fn run(self: Arc<Admin>, listener: TcpListener, shutdown: Shutdown, metrics: Arc<Metrics>) {
        let limits = Limits { connections_max: CONNECTIONS_MAX, drain_max: DRAIN_MAX, ..Limits::default() };
        let connection = |stream, shutdown| self.clone().connection(stream, shutdown);
        listener::serve(listener, &limits, metrics, shutdown, connection).await;
    }

    async fn connection(self: Arc<Admin>, stream: TcpStream, mut shutdown: Shutdown) -> Ended {
        let local = stream.local_addr().ok();
        let admin = self;
        let service = service_fn(move |request| {
            let answer = admin.answer(&request, local);
            async move { Ok::<_, Infallible>(answer) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WAIT_MAX)
            .max_buf_size(HEAD_SIZE_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let mut time_max = std::pin::pin!(tokio::time::sleep(CONNECTION_TIME_MAX));
        let ended = tokio::select! {
            ended = connection.as_mut() => return if ended.is_ok() { Ended::ByClient } else { Ended::Broken },
            () = shutdown.reached(Phase::Draining) => Ended::Shutdown,
            () = time_max.as_mut() => Ended::Idle,
        };
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            _ = connection => {}
            () = shutdown.reached(Phase::Stopped) => {}
            () = tokio::time::sleep(DRAIN_MAX) => {}
        }
        ended
    }

    fn answer(&self, request: &Request<Incoming>, local: Option<SocketAddr>) -> Response<Full<Bytes>> {
        if let Err(refusal) = self.hosts.admit(request.uri(), request.headers(), local) {
            return text(refusal.status(), format!("{refusal}\n"));
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n");
        }
        match request.uri().path() {
            "/health/live" => self.live(),
            "/health/ready" => self.ready(),
            "/metrics" => self.metrics(),
            "/" => text(StatusCode::OK, "headwater admin: /health/live /health/ready /metrics\n"),
            _ => text(StatusCode::NOT_FOUND, "there are /health/live, /health/ready and /metrics\n"),
        }
    }

    fn live(&self) -> Response<Full<Bytes>> {
        match self.engine.get().and_then(Engine::failure) {
            None => text(StatusCode::OK, "live\n"),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("the engine stopped: {why}\n")),
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let why_not = match self.engine.get() {
            None => Some("the data folder is being opened".to_owned()),
            Some(engine) => engine.failure().map(|why| format!("the engine stopped: {why}")),
        };
        let why_not = why_not.or_else(|| match (self.clients.phase(), self.ready.get()) {
            (Phase::Running, Some(())) => None,
            (Phase::Running, None) => Some("starting".to_owned()),
            _ => Some("shutting down".to_owned()),
        });
        match why_not {
            None => text(StatusCode::OK, "ready\n"),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        match metrics::page(&self.sources, self.engine.get()) {
            Ok(page) => {
                let mut answer = text(StatusCode::OK, page);
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
                answer
            }
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics cannot be written: {error}\n")),
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
