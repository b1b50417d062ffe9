//! The access log of a host: a line for each request (SEMANTICS 21).
//!
//! An [`Entry`] begins in `Container::answer` when the host is known, and becomes a line when the response was sent, or given up.
//! On the way of a request there is no lock and no formatting: it leaves an entry in a bounded queue. In reading order: `entry` (what is
//! noted when), `format` with `local_time` (entries to text), `writer` (the thread), `file` (rotation).

mod entry;
mod file;
mod format;
mod local_time;
mod writer;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use http::request::Parts;
use jiff::tz::TimeZone;
use serval_config::AccessLog;

use entry::Entry;
pub use entry::{Noting, Owner};
use file::LogFile;
use format::Format;
pub use format::Question;
use writer::Writer;

use crate::Peer;

/// LIMIT: requests that have ended and wait to be written. What finds no place is not logged, and counted.
const QUEUE_MAX: usize = 4096;

/// The log of one host.
pub struct Log {
    format: Arc<Format>,
    pub use_remote_ip: bool,
    queue: SyncSender<Option<Box<Entry>>>,
    lost: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Log {
    /// Starts its thread; the file is opened with the first line.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(settings: &AccessLog) -> io::Result<Arc<Log>> {
        let (queue, entries) = sync_channel(QUEUE_MAX);
        let (format, lost) = (Arc::new(Format::new(settings)), Arc::<AtomicU64>::default());
        let file = LogFile::new(settings, TimeZone::system);
        let writer = Writer { format: format.clone(), file, queue: entries, lost: lost.clone() };
        let thread = std::thread::Builder::new().name("sv-log".to_owned()).spawn(|| writer.run())?;
        let (use_remote_ip, thread) = (settings.use_remote_ip, Mutex::new(Some(thread)));
        Ok(Arc::new(Log { format, use_remote_ip, queue, lost, thread }))
    }

    /// A request has come. Its `head` is as the client has sent it.
    pub fn begin(self: &Arc<Log>, head: &Parts, server_name: &str, peer: &Arc<Peer>) -> Owner {
        Entry::begin(self, head, server_name, peer)
    }

    /// A request is refused whose head nobody reads: of it there is the line, as far as it came.
    pub fn begin_unread(self: &Arc<Log>, line: &[u8], why: &'static str, peer: &Arc<Peer>) -> Owner {
        Entry::begin_unread(self, line, why, peer)
    }

    /// Never waits.
    fn send(&self, entry: Box<Entry>) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Some(entry)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all that has ended is written. What ends later is not logged.
    pub fn close(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        if self.queue.send(None).is_ok() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
