//! Every part of the SDK in servlets of a few lines, for the tests beside it.

mod background;
mod data;
mod faults;
mod streams;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use servlet::prelude::*;

servlet::module!(tokio_workers = 2);

pub struct Kitchen {
    pub news: Broadcast<String>,
    /// Streams that are open, as their tasks see it.
    pub live: Arc<AtomicUsize>,
    /// Handed over to the next generation.
    pub visits: AtomicU64,
    pub generation: u64,
    pub work: PathBuf,
}

#[start]
fn start(context: &Context) -> Result<Kitchen> {
    let work = context.work_folder().ok_or_else(|| error(500, "no work folder"))?.to_owned();
    match std::fs::read_to_string(work.join("start")).as_deref() {
        Ok("panic") => panic!("the kitchen burns"),
        Ok("error") => return Err(error(500, "the kitchen is closed")),
        _ => {}
    }
    let generation = context.generation();
    background::start(context, generation, &work)?;
    Ok(Kitchen {
        news: Broadcast::new(16),
        live: Arc::default(),
        visits: AtomicU64::new(0),
        generation,
        work,
    })
}

#[stop]
fn stop(kitchen: Kitchen) {
    let live = kitchen.live.load(Ordering::SeqCst);
    let ticks = background::count(&kitchen.work, kitchen.generation);
    std::thread::sleep(std::time::Duration::from_millis(60));
    let late = background::count(&kitchen.work, kitchen.generation) - ticks;
    servlet::log::info!("the kitchen of generation {} closes, {live} live, {late} late", kitchen.generation);
}

#[carry]
fn carry(kitchen: &Kitchen) -> Vec<u8> {
    if kitchen.work.join("carry").exists() {
        panic!("in carry");
    }
    kitchen.visits.load(Ordering::SeqCst).to_string().into_bytes()
}

#[restore]
fn restore(kitchen: &Kitchen, bytes: &[u8]) -> Result {
    kitchen.visits.store(std::str::from_utf8(bytes)?.parse()?, Ordering::SeqCst);
    Ok(())
}

#[servlet("/visits")]
fn visits(kitchen: &Kitchen, _: &Request, response: &mut Response) -> Result {
    response.text(format!("{}", kitchen.visits.fetch_add(1, Ordering::SeqCst) + 1))
}

#[servlet("/plain", "/plain/*", inline, init = { "word" = "fn" })]
fn plain(request: &Request, response: &mut Response) -> Result {
    response.text(format!("{} {}", request.init("word").unwrap_or("?"), request.path_info().unwrap_or("-")))
}

#[servlet("/waits")]
async fn waits(kitchen: &Kitchen, _: &Request, response: &mut Response) -> Result {
    response.text(format!("generation {}", kitchen.generation))
}

/// So that a test knows that it has read all lines of what was before.
#[servlet("/mark")]
fn mark(request: &Request, response: &mut Response) -> Result {
    servlet::log::info!("mark {};", request.query().unwrap_or_default());
    response.text("marked")
}

#[servlet("/given")]
fn given(request: &Request, response: &mut Response) -> Result {
    let context = request.context();
    response.text(format!("{:?} {:?}", context.param("currency"), context.resource("db")))
}

#[on(session_created, session_destroyed)]
fn sessions(event: &SessionEvent) {
    servlet::log::info!("a session: {:?}", event.happened());
}

#[servlet("/logs")]
async fn logs(_: &Request, response: &mut Response) -> Result {
    servlet::log::warn!("by servlet {}", 1);
    log::info!("by log {}", 2);
    tracing::info!(target: "till", count = 3, "by tracing");
    servlet::time::sleep(std::time::Duration::from_millis(1)).await;
    let _order = tracing::info_span!("order", id = 7).entered();
    tracing::warn!("after an await");
    log::debug!("nobody asked for this");
    response.text("logged")
}
