//! `serval run`: the order of start and stop.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serval_config::{LogFormat, Server};
use serval_container::{Container, Event, Readiness};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify as Asked, mpsc, watch};
use tracing_subscriber::EnvFilter;

use crate::inherited::Inherited;
use crate::listeners::{First, Listeners, Terms};
use crate::live::{Keeper, Loaded};
use crate::notify::Notify;
use crate::socket::Socket;
use crate::tls::InForce;
use crate::user::{self, User};
use crate::{control, home, sessions, sources, stack, upstream, watch as folders};

/// LIMIT: far above what the pools of all contexts may have together, so that only their own bounds count.
const BLOCKING_THREADS_MAX: usize = 65_536;

/// What has nothing to end has ended by then, on a machine that is busy too.
const AT_ONCE: Duration = Duration::from_secs(1);

/// How long the stop waits for the last lines of the access logs: a disk that hangs must not hold it.
const LOGS_WITHIN: Duration = Duration::from_secs(5);

/// Exit codes: 0 stopped, 1 did not start or a fault of the server, 3 something was cut at the stop, or sessions were not saved.
pub fn run(loaded: Loaded) -> ExitCode {
    start_log(&loaded.server);
    match start(loaded) {
        Ok(code) => code,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

/// Returns why it did not start, in a sentence.
fn start(loaded: Loaded) -> Result<ExitCode, String> {
    // As long as there is one thread.
    let inherited = Inherited::take()?;
    inherited.check(&loaded.server.listeners)?;
    home::mind_the_umask();
    let user = User::of(&loaded.server)?;
    let lock = || home::lock(&loaded.server);
    let _home = match &user {
        None => lock(),
        Some(user) => {
            // Of each thread to come, and of each program that they start.
            let set = rustix::thread::set_no_new_privs(true);
            set.map_err(|error| format!("programs that give rights (setuid) cannot be kept from doing so: {error}"))?;
            user.owns(&loaded.server.var).and_then(|()| user.for_now(lock))
        }
    }?;
    user::warn_of_root(&loaded.server);
    home::warn_of_noexec(&loaded.server);
    home::raise_file_limit(&loaded.server);
    if let Err(sentence) = serval_loader::unload::self_test() {
        tracing::warn!("{sentence}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(loaded.server.io_threads)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("sv-io")
        .on_thread_park(serval_loader::unload::let_go)
        .enable_all()
        .build()
        .map_err(|error| format!("the I/O threads cannot be started: {error}"))?;
    let result = runtime.block_on(serve(loaded, Arc::new(inherited), user));
    // A servlet that never returns keeps its thread; the process ends all the same.
    runtime.shutdown_background();
    result
}

static LOG_FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Changes what the log lets through.
static SET_LEVEL: OnceLock<Box<dyn Fn(EnvFilter) + Send + Sync>> = OnceLock::new();

/// Reads `level` of [log], or says in a sentence what is wrong with it.
pub fn level_filter(level: &str) -> Result<EnvFilter, String> {
    // They warn of each watched folder that is gone, and of what clients send, which is no news.
    let filter = EnvFilter::try_new(format!("notify=error,h2=off,{level}"));
    filter.map_err(|error| format!("`level` in [log] cannot be used: {error}"))
}

pub fn set_level(filter: EnvFilter) {
    if let Some(set) = SET_LEVEL.get() {
        set(filter);
    }
}

fn start_log(config: &Server) {
    let _ = LOG_FORMAT.set(config.log.format);
    let filter = level_filter(&config.log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colours);
    // It would say so on the stream that cannot be written, and panic.
    let log = log.log_internal_errors(false);
    let set: Box<dyn Fn(EnvFilter) + Send + Sync> = match config.log.format {
        LogFormat::Json => {
            let log = log.json().with_env_filter(filter).with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Box::new(move |filter| drop(handle.reload(filter)))
        }
        LogFormat::Terminal => {
            let log = log.with_target(false).with_env_filter(filter).with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Box::new(move |filter| drop(handle.reload(filter)))
        }
    };
    let _ = SET_LEVEL.set(set);
}

async fn serve(
    Loaded { server: config, settings, files, stamp }: Loaded,
    inherited: Arc<Inherited>,
    user: Option<User>,
) -> Result<ExitCode, String> {
    let (began, config) = (Instant::now(), Arc::new(config));
    let notify = Notify::from_env();
    let no_signals = |error| format!("signals cannot be received: {error}");
    let mut signals = Signals::new().map_err(no_signals)?;
    // From here on it asks for the files to be read: until then, it ends the process.
    let hangups = signal(SignalKind::hangup()).map_err(no_signals)?;
    let tls = Arc::new(InForce::default());
    let tls_of_listeners = tls.prepare(&config.listeners)?;
    let mut bound = Vec::new();
    for (number, settings) in config.listeners.iter().enumerate() {
        let terms = Terms { settings: Arc::new(settings.clone()), tls: tls_of_listeners.acceptor(number) };
        bound.push((Socket::bind(settings, &inherited)?, terms));
    }
    // All that is opened from here on, it has to open anew one day: logs, the control socket.
    if let Some(user) = user {
        for (_, terms) in bound.iter().filter(|(_, terms)| !inherited.is_at(&terms.settings.address)) {
            user.takes(&terms.settings)?;
        }
        user.become_for_ever()?;
        files.warn_of_unreadable();
    }
    let container =
        Container::new(config.clone(), Box::new(print), Box::new(stack::of_thread), Box::new(upstream::client_of));
    for (socket, terms) in &bound {
        say(format_args!("listening on {}", socket.shown(&terms.settings)));
    }
    let (stop, stopped) = watch::channel(false);
    let mut tasks = tokio::task::JoinSet::new();
    let pass = container.deploy_pass().await;
    tls.put_in_force(tls_of_listeners);
    let (mut listeners, deploy) = (Listeners::new(container.clone(), inherited.clone()), Arc::new(Asked::new()));
    for bound in bound {
        // In an inherited socket they have waited since before the start, and are to be answered by the servlets.
        let first = if inherited.is_at(&bound.1.settings.address) { First::Servlets } else { First::Connections };
        listeners.add(bound, first);
    }
    let keeper = Keeper::new((container.clone(), tls), listeners, settings, (files, stamp), deploy.clone(), hangups);
    let live = keeper.live();
    let of_keeper = stopped.clone();
    tasks.spawn(async move {
        if let Err(error) = keeper.run(of_keeper).await {
            tracing::error!("a listener has ended by a fault of the server: {error}; please report it");
        }
    });
    let (builds, queue) = mpsc::channel(1);
    tasks.spawn(sources::build_all(container.clone(), queue, stopped.clone()));
    tasks.spawn(folders::watch(container.clone(), pass, builds, deploy, stopped.clone()));
    tasks.spawn(sessions::expire(container.clone(), stopped.clone()));
    tasks.spawn(sessions::save_every(container.clone(), stopped.clone()));
    let mut watchdog = tokio::task::JoinSet::new();
    watchdog.spawn(notify.clone().keep_alive());
    match control::bind(&config) {
        Ok(socket) => drop(tasks.spawn(control::serve(socket, live, stopped))),
        Err(sentence) => tracing::warn!("{sentence}"),
    }
    let ready = async {
        container.settled().await;
        container.set_readiness(Readiness::Ready);
        say(format_args!("ready in {} ms", began.elapsed().as_millis()));
        notify.tell("READY=1");
        std::future::pending().await
    };
    let mut broken = tokio::select! {
        () = ready => None,
        () = signals.next() => None,
        ended = tasks.join_next() => Some(ended),
    };

    container.set_readiness(Readiness::Stopping);
    let config = container.config();
    let (delay, mut drain) = (config.stop_delay, config.shutdown_timeout);
    // However short the manager's own time is.
    let within = delay + drain + sessions::SAVED_WITHIN + LOGS_WITHIN;
    notify.tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", within.as_micros()));
    let mut why_cut = "after shutdown_timeout";
    if broken.is_none() && !delay.is_zero() {
        tracing::info!("not ready any more; stopping in {delay:?} (stop_delay), or at a second signal");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = signals.next() => (drain, why_cut) = (AT_ONCE, "when a second signal came"),
            ended = tasks.join_next() => broken = Some(ended),
        }
    }
    if let Some(ended) = &broken {
        tracing::error!("a part of the server has ended, which it never should; please report it: {ended:?}");
    }
    tracing::info!("stopping");
    let deadline = Instant::now() + drain;
    let _ = stop.send(true);
    // Event streams have no other end.
    container.retire();
    let ended = async {
        while tasks.join_next().await.is_some() {}
        container.stop(deadline).await
    };
    let cut = tokio::select! {
        whole = ended => (!whole).then(|| format!("not all requests had ended {why_cut}")),
        () = tokio::time::sleep_until(deadline.into()) => Some(format!("not all connections had ended {why_cut}")),
        () = signals.next() => Some("a second signal came".to_owned()),
    };
    let saved = sessions::save(container.clone(), signals.next()).await;
    let logs = tokio::task::spawn_blocking(move || container.close_logs());
    if tokio::time::timeout(LOGS_WITHIN, logs).await.is_err() {
        tracing::warn!("an access log could not be written to its end within {LOGS_WITHIN:?}");
    }
    if let Some(why) = &cut {
        tracing::warn!("what still ran was cut: {why}");
    }
    Ok(match broken {
        Some(_) => ExitCode::FAILURE,
        None if cut.is_some() || !saved => ExitCode::from(3),
        None => ExitCode::SUCCESS,
    })
}

/// What asks for the stop: Ctrl-C, and SIGTERM.
struct Signals(Signal, Signal);

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
    }

    async fn next(&mut self) {
        tokio::select! { _ = self.0.recv() => {}, _ = self.1.recv() => {} }
    }
}

fn print(event: &Event) {
    crate::dev::tell(event);
    // The log has said so.
    if event.state == "refused" {
        return;
    }
    let Event { context, state, generation, took, detail } = event;
    let detail = match (detail.as_str(), *state) {
        ("", _) => String::new(),
        // It may be long, and it is in the log.
        (_, "failed") => "; the log says why".to_owned(),
        _ => format!(": {detail}"),
    };
    say(format_args!("{context} {state} (generation {generation}, {} ms){detail}", took.as_millis()));
}

/// Prints a line for whoever started the server. Nobody may be there any more: that is no reason to stop.
pub fn say(line: std::fmt::Arguments<'_>) {
    match LOG_FORMAT.get() {
        // For programs, all is in one form.
        Some(LogFormat::Json) => tracing::info!("{line}"),
        _ => drop(writeln!(std::io::stdout(), "{line}")),
    }
}

/// Waits until the stop begins.
pub async fn told(stopped: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and so is the server.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
