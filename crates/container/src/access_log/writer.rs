//! The thread of a log: takes entries from the queue, makes lines of them, and writes as many at once as there are.
//!
//! Started by `Log::start`; ends when it is told to, with everything written that came before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::entry::Entry;
use super::file::{LogFile, Trouble};
use super::format::Format;
use super::local_time::LocalTime;

/// What is written at once, at most, and a line more.
const BATCH_BYTES: usize = 32 << 10;
/// While requests come the writer does not wait for each one: to wake it would cost every request a system call.
const GATHER: Duration = Duration::from_millis(2);
const SAID_AGAIN_AFTER: Duration = Duration::from_secs(60);

pub struct Writer {
    pub format: Arc<Format>,
    pub file: LogFile,
    pub queue: Receiver<Option<Box<Entry>>>,
    /// Entries that found no place in the queue, and have not been spoken of.
    pub lost: Arc<AtomicU64>,
}

impl Writer {
    pub fn run(mut self) {
        let mut time = LocalTime::new(TimeZone::system);
        let mut lines = Vec::with_capacity(BATCH_BYTES * 2);
        let mut said = Said::default();
        while let Ok(Some(entry)) = self.queue.recv() {
            let mut next = Some(entry);
            while let Some(entry) = next.take() {
                self.format.write(&entry, &mut time, &mut lines);
                drop(entry);
                next = match self.queue.try_recv() {
                    Ok(Some(entry)) => Some(entry),
                    Ok(None) => {
                        self.write(&mut lines, &mut said);
                        return said.of_lost(self.file.path(), &self.lost, true);
                    }
                    Err(_) => None,
                };
                if lines.len() >= BATCH_BYTES {
                    self.write(&mut lines, &mut said);
                }
            }
            self.write(&mut lines, &mut said);
            std::thread::sleep(GATHER);
        }
        said.of_lost(self.file.path(), &self.lost, true);
    }

    fn write(&mut self, lines: &mut Vec<u8>, said: &mut Said) {
        if let Err(trouble) = self.file.write(lines, Timestamp::now()) {
            if let Trouble::Write(_) = trouble {
                let count = lines.iter().filter(|&&byte| byte == b'\n').count();
                self.lost.fetch_add(count as u64, Ordering::Relaxed);
            }
            said.of_trouble(self.file.path(), &trouble);
        }
        said.of_lost(self.file.path(), &self.lost, false);
        lines.clear();
    }
}

/// When the server's log was told of what: a full disk is no reason to fill it too.
#[derive(Default)]
struct Said {
    trouble: Option<Instant>,
    lost: Option<Instant>,
}

impl Said {
    fn of_trouble(&mut self, path: &std::path::Path, trouble: &Trouble) {
        if is_time(&mut self.trouble) {
            let why = std::error::Error::source(trouble).map(ToString::to_string).unwrap_or_default();
            tracing::error!("access log {}: {trouble}: {why} (said at most once a minute)", path.display());
        }
    }

    fn of_lost(&mut self, path: &std::path::Path, lost: &AtomicU64, last: bool) {
        if lost.load(Ordering::Relaxed) > 0 && (is_time(&mut self.lost) || last) {
            let count = lost.swap(0, Ordering::Relaxed);
            tracing::warn!(
                "access log {}: {count} lines were lost: it could not keep up, or not be written",
                path.display()
            );
        }
    }
}

fn is_time(said: &mut Option<Instant>) -> bool {
    let is_time = said.is_none_or(|said| said.elapsed() > SAID_AGAIN_AFTER);
    if is_time {
        *said = Some(Instant::now());
    }
    is_time
}
