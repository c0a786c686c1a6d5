//! `headwater serve`: the wiring. Bind every port, open the data folder, serve, and at the end drain, seal and leave.
//!
//! ```text
//!  bind ports -> admin answers "not ready" -> recover the data folder -> serve Kafka -> "ready"
//!      |                                                                      |
//!      |            SIGTERM / SIGINT: stop accepting, finish what is under way, seal and checkpoint, exit 0
//!      |            a second signal:  exit at once (the next start recovers)
//!      +----------- engine failure:   say why, exit with a code of its own; nothing is served after it
//! ```

mod announce;
mod bind;
mod engine_options;

use crate::admin::{Admin, Hosts, Sources};
use crate::config::{self, Config, ConfigArgs};
use crate::exit::{ENGINE_FAILED, Failure, NOT_STARTED};
use crate::signals::{ENDED_AT_ONCE, Signals};
use crate::{logging, memory, process};
use bind::Ports;
use headwater_engine::env::Env;
use headwater_engine::{Engine, Options};
use headwater_protocol::metrics::Metrics;
use headwater_protocol::{Limits, Phase, Trigger};
use headwater_protocol_kafka as kafka;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Runs the server until a signal or a failure ends it.
pub fn run(args: &ConfigArgs) -> Result<(), Failure> {
    let effective = config::load(args)?;
    logging::start(&effective.config.log);
    memory::keep_some();
    for warning in &effective.warnings {
        tracing::warn!("{warning}");
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all().thread_name("serve");
    if let Some(count) = effective.config.worker_threads {
        runtime.worker_threads(count);
    }
    let runtime = runtime.build()?;
    let outcome = runtime.block_on(serve(effective.config));
    // Whatever still runs was told to stop and had its time.
    runtime.shutdown_background();
    outcome
}

async fn serve(config: Config) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let descriptors_max = process::raise_open_files_limit();
    let ports = Ports::bind(&config).await?;

    let (kafka_trigger, kafka_shutdown) = Trigger::new();
    // The admin port ends last, so that a supervisor sees the drain.
    let (admin_trigger, admin_shutdown) = Trigger::new();
    let kafka_metrics = Arc::new(kafka::metrics());
    let admin_metrics = Arc::new(Metrics::new("admin", []));
    let listeners = vec![kafka_metrics.clone(), admin_metrics.clone()];
    let sources = Sources { listeners, descriptors_max, started: process::unix_seconds() };
    let admin = Admin::new(Hosts::new(&config.admin_hosts, &config.admin.host), sources, kafka_shutdown.clone());
    let admin_task = tokio::spawn(admin.clone().run(ports.admin, admin_shutdown, admin_metrics));

    let options = engine_options::within(config.engine.clone(), descriptors_max);
    let connections_room = connections_room(descriptors_max, options.open_files_max);
    let opened = tokio::select! {
        opened = tokio::task::spawn_blocking(move || open(options)) => opened,
        // Recovery may be left at any point: the next start begins it anew.
        signal = signals.next() => {
            tracing::info!(signal, "ended while the data folder was being opened");
            return Ok(());
        }
    };
    let (engine, mut failed) = opened.map_err(|panic| Failure::new(NOT_STARTED, panic.to_string()))??;
    admin.opened(&engine);
    tokio::spawn(engine.wake_together());

    let kafka_options = kafka_options(&config, ports.kafka_address.port(), connections_room);
    let kafka_serving = kafka::serve(ports.kafka, engine.clone(), kafka_options, kafka_metrics, kafka_shutdown);
    let kafka_task = tokio::spawn(kafka_serving);
    admin.serves();
    announce::ready(&config, ports.kafka_address, ports.admin_address);

    tokio::select! {
        signal = signals.next() => tracing::info!(signal, "shutting down; a second signal ends at once"),
        why = &mut failed => return Err(engine_failure(&why.unwrap_or_default())),
    }
    let drained = tokio::select! {
        drained = drain(&engine, &kafka_trigger, kafka_task) => drained,
        why = &mut failed => Err(engine_failure(&why.unwrap_or_default())),
        signal = signals.next() => {
            tracing::warn!(signal, "ended at once; the next start recovers");
            std::process::exit(ENDED_AT_ONCE);
        }
    };
    admin_trigger.advance(Phase::Draining);
    let _ = admin_task.await;
    drained
}

/// Opens the data folder and starts the engine. The receiver hears why it stopped, if ever it does.
fn open(options: Options) -> Result<(Engine, oneshot::Receiver<String>), Failure> {
    let place = options.data_dir.display().to_string();
    let env = Env::real(&options.data_dir).map_err(|error| {
        Failure::new(NOT_STARTED, format!("cannot use the data folder {place}: {error}"))
            .hint("--data-dir names another one")
    })?;
    let engine = Engine::open(env, options).map_err(|error| engine_options::open_failure(&place, &error))?;
    let (tell, failed) = oneshot::channel();
    engine.on_failure(Box::new(move |why| {
        let _ = tell.send(why.to_owned());
    }));
    engine.start()?;
    Ok((engine, failed))
}

/// Takes no more requests, finishes those under way, then makes the data folder ready for a quick start.
async fn drain(
    engine: &Engine,
    kafka_trigger: &Trigger,
    kafka_task: JoinHandle<std::io::Result<()>>,
) -> Result<(), Failure> {
    kafka_trigger.advance(Phase::Draining);
    match kafka_task.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "the Kafka listener ended with an error"),
        Err(panic) => tracing::error!(%panic, "the Kafka listener ended with a bug"),
    }
    let sealing = engine.clone();
    let sealed = tokio::task::spawn_blocking(move || sealing.shut_down()).await;
    match sealed {
        Ok(Ok(())) => {
            tracing::info!("everything is on the medium");
            Ok(())
        }
        Ok(Err(stopped)) => Err(engine_failure(&engine.failure().unwrap_or_else(|| stopped.to_string()))),
        Err(panic) => Err(engine_failure(&panic.to_string())),
    }
}

fn engine_failure(why: &str) -> Failure {
    Failure::new(ENGINE_FAILED, format!("the server stopped, because it can no longer promise durability: {why}")).hint(
        "nothing that was acknowledged is lost; put the disk right and start again, the server recovers by itself",
    )
}

/// Descriptors that segments and the server itself leave for connections.
fn connections_room(descriptors_max: u64, open_files_max: usize) -> usize {
    const OWN: usize = 128;
    usize::try_from(descriptors_max).unwrap_or(usize::MAX).saturating_sub(open_files_max + OWN).max(16)
}

fn kafka_options(config: &Config, port: u16, connections_room: usize) -> kafka::Options {
    let advertised = config.kafka_advertised.as_ref().unwrap_or(&config.kafka);
    let connections_max = config.limits.connections_max.min(connections_room);
    if connections_max < config.limits.connections_max {
        tracing::warn!(connections_max, "the limit on open files leaves room for fewer connections");
    }
    kafka::Options {
        advertised_host: advertised.host.clone(),
        advertised_port: if config.kafka_advertised.is_some() { advertised.port } else { port },
        auto_create_topics: config.auto_create_topics,
        default_partitions: config.default_partitions,
        groups: config.groups.clone(),
        limits: Limits { connections_max, ..config.limits.clone() },
        ..kafka::Options::default()
    }
}
