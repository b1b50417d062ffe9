//! When sessions end by their time, and when they are written to disk; on threads that may block: listener functions are called, and a
//! disk may be slow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serval_container::Container;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::run::told;

/// How long the stop waits for sessions to be written, after the last request.
pub const SAVED_WITHIN: Duration = Duration::from_secs(30);

/// How late a session may end: its listener functions are told then; no request gets it after its time.
const LOOK: Duration = Duration::from_secs(5);

/// Ends those whose time is up, until the stop.
pub async fn expire(container: Arc<Container>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = told(&mut stopped) => return,
        }
        act(&container, Container::expire_sessions).await;
    }
}

/// Writes them as often as `snapshot_every` says, until the stop; never, if that is zero.
pub async fn save_every(container: Arc<Container>, mut stopped: watch::Receiver<bool>) {
    let mut last = Instant::now();
    loop {
        let pause = container.config().snapshot_every;
        let left = pause.saturating_sub(last.elapsed());
        tokio::select! {
            // Another time counts soon.
            () = tokio::time::sleep(if pause.is_zero() { LOOK } else { left.min(LOOK) }) => {}
            () = told(&mut stopped) => return,
        }
        if !pause.is_zero() && last.elapsed() >= pause {
            // What fails is in the log.
            act(&container, |container| _ = container.save_sessions()).await;
            last = Instant::now();
        }
    }
}

async fn act(container: &Arc<Container>, act: fn(&Container)) {
    let container = container.clone();
    if let Err(error) = spawn_blocking(move || act(&container)).await {
        tracing::error!("sessions could not be looked at: {error}; please report it");
    }
}

/// Writes them at the stop, as they are after the last request; false: not all of them could be written, and the log says why. A disk
/// that hangs holds it for [`SAVED_WITHIN`], or until another signal asks for the stop.
pub async fn save(container: Arc<Container>, signal: impl Future<Output = ()>) -> bool {
    let saved = spawn_blocking(move || container.save_sessions());
    let why = tokio::select! {
        saved = saved => match saved {
            Ok(saved) => return saved,
            Err(error) => format!("{error}; please report it"),
        },
        () = tokio::time::sleep(SAVED_WITHIN) => format!("that takes more than {SAVED_WITHIN:?}"),
        () = signal => "another signal came".to_owned(),
    };
    tracing::error!("the sessions of some contexts are as of their last snapshot, and not as of the stop: {why}");
    false
}
