//! A Headwater of its own for one case: real files in a temporary folder, a free port on loopback.

use headwater_engine::{Engine, Options, env::Env};
use headwater_protocol::{Phase, Trigger};
use std::net::SocketAddr;
use std::sync::Arc;

pub struct Server {
    pub address: SocketAddr,
    engine: Engine,
    trigger: Trigger,
    serving: Option<tokio::task::JoinHandle<std::io::Result<()>>>,
    runtime: tokio::runtime::Runtime,
    folder: Arc<tempfile::TempDir>,
}

impl Server {
    pub fn start() -> Server {
        Server::over(Arc::new(tempfile::tempdir().expect("a temporary folder")))
    }

    /// The same data, served again.
    pub fn restart(self) -> Server {
        let folder = self.folder.clone();
        drop(self);
        Server::over(folder)
    }

    fn over(folder: Arc<tempfile::TempDir>) -> Server {
        let env = Env::real(folder.path()).expect("the machine");
        let mut options = Options::new(folder.path().to_owned());
        options.wal_size_initial = 4 << 20;
        options.disk_reserve_bytes = 1 << 20;
        let engine = Engine::open(env, options).expect("an engine");
        engine.start().expect("its threads");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (trigger, shutdown) = Trigger::new();
        let metrics = Arc::new(headwater_protocol_kafka::metrics());
        let mut kafka = headwater_protocol_kafka::Options::default();
        // As the reference is set up.
        kafka.groups.initial_rebalance_delay_ms = 0;
        kafka.groups.topic_partitions = 4;
        let serving =
            runtime.spawn(headwater_protocol_kafka::serve(listener, engine.clone(), kafka, metrics, shutdown));
        Server { address, engine, trigger, serving: Some(serving), runtime, folder }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.trigger.advance(Phase::Stopped);
        if let Some(serving) = self.serving.take() {
            // Failing to stop must not hide why the test failed.
            let _ = self.runtime.block_on(serving);
        }
        let _ = self.engine.shut_down();
    }
}
