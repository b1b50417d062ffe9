//! What runs beside the requests; each says in a file which generation it is of.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use servlet::prelude::*;

use crate::Kitchen;

fn tick(work: &Path, who: &str, generation: u64) {
    let file = std::fs::OpenOptions::new().append(true).create(true).open(work.join("ticks"));
    let written = file.and_then(|mut file| file.write_all(format!("{who} {generation}\n").as_bytes()));
    if let Err(wrong) = written {
        servlet::log::error!("no tick: {wrong}");
    }
}

/// How often this generation has ticked.
pub fn count(work: &Path, generation: u64) -> usize {
    let text = std::fs::read_to_string(work.join("ticks")).unwrap_or_default();
    text.lines().filter(|line| line.ends_with(&format!(" {generation}"))).count()
}

pub fn start(context: &Context, generation: u64, work: &Path) -> Result {
    let (stopping, folder) = (context.stopping(), work.to_owned());
    context.spawn(async move {
        while !stopping.is_stopping() {
            tick(&folder, "spawned", generation);
            let _ = servlet::time::timeout(Duration::from_millis(20), stopping.stopped()).await;
        }
    })?;
    if context.param("stubborn").is_some() {
        let folder = work.to_owned();
        // It does not look whether it has to stop: it is dropped, after its grace.
        context.spawn(async move {
            loop {
                tick(&folder, "stubborn", generation);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })?;
    }
    let folder = work.to_owned();
    context.spawn_thread("ticker", move |stopping| {
        while !stopping.wait(Duration::from_millis(20)) {
            tick(&folder, "thread", generation);
        }
    })
}

#[job(every = "20ms")]
fn job(kitchen: &Kitchen) {
    tick(&kitchen.work, "job", kitchen.generation);
}

#[job(every = "20ms")]
async fn async_job(kitchen: &Kitchen) -> Result {
    servlet::time::sleep(Duration::from_millis(1)).await;
    tick(&kitchen.work, "async job", kitchen.generation);
    Ok(())
}
