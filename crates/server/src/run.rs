//! `serval run`: the order of start and stop.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use serval_config::{LogFormat, Server};
use serval_container::{Container, Event};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing_subscriber::EnvFilter;

use crate::{listener, sources, watch as folders};

/// LIMIT: far above what the pools of all contexts may have together, so that only their own bounds count.
const BLOCKING_THREADS_MAX: usize = 65_536;

/// Exit codes: 0 stopped, 1 did not start, 3 something was cut at the stop.
pub fn run(config: Server) -> ExitCode {
    start_log(&config);
    if let Err(error) = std::fs::create_dir_all(config.var.join("run")) {
        eprintln!(
            "{} cannot be written: {error}; make it writable, or name another folder as [server] var",
            config.var.display()
        );
        return ExitCode::FAILURE;
    }
    if let Err(sentence) = serval_loader::hooks::self_test() {
        tracing::warn!("{sentence}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.io_threads)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("sv-io")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("the threads cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(serve(Arc::new(config)));
    // A servlet that never returns keeps its thread; the process ends all the same.
    runtime.shutdown_background();
    code
}

fn start_log(config: &Server) {
    let filter = EnvFilter::try_new(&config.log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log.format {
        LogFormat::Json => log.json().init(),
        LogFormat::Terminal => log.with_target(false).init(),
    }
}

async fn serve(config: Arc<Server>) -> ExitCode {
    let began = Instant::now();
    let mut bound = Vec::new();
    for settings in &config.listeners {
        match listener::bind(settings) {
            Ok(socket) => bound.push((socket, settings.clone())),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
    }
    let container = Container::new(config.clone(), Box::new(print));
    for (socket, settings) in &bound {
        let address = socket.local_addr().unwrap_or(settings.address);
        println!("listening on http://{address}");
    }
    let (stop, stopped) = watch::channel(false);
    let mut tasks = tokio::task::JoinSet::new();
    let pass = container.deploy_pass().await;
    for (socket, settings) in bound {
        tasks.spawn(listener::serve(socket, settings, container.clone(), stopped.clone()));
    }
    let (builds, queue) = mpsc::channel(1);
    let building = tokio::spawn(sources::build_all(config.clone(), container.clone(), queue, stopped.clone()));
    let watching = tokio::spawn(folders::watch(container.clone(), pass, builds, stopped));
    container.settled().await;
    println!("ready in {} ms", began.elapsed().as_millis());

    wait_for_signal().await;
    tracing::info!("stopping");
    let deadline = Instant::now() + config.shutdown_timeout;
    let _ = stop.send(true);
    let _ = watching.await;
    let _ = building.await;
    let all = async { while tasks.join_next().await.is_some() {} };
    let mut whole = tokio::select! {
        () = all => true,
        () = tokio::time::sleep_until(deadline.into()) => false,
        () = wait_for_signal() => false,
    };
    whole &= container.stop(deadline).await;
    if whole {
        return ExitCode::SUCCESS;
    }
    tracing::warn!("requests were cut, because they had not ended after shutdown_timeout");
    ExitCode::from(3)
}

async fn wait_for_signal() {
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        }
        _ => tracing::error!("signals cannot be received"),
    }
}

fn print(event: &Event) {
    let Event { context, state, generation, took, detail } = event;
    let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
    println!("{context} {state} (generation {generation}, {} ms){detail}", took.as_millis());
}

/// Waits until the stop begins.
pub async fn told(stopped: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and so is the server.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
