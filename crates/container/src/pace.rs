//! How fast the body of a request comes: `body_rate_min` of the listener.

use std::time::{Duration, Instant};

use serval_config::Listener;

/// How fast a body comes, by the time that it was waited for: a servlet may take its own.
#[derive(Default)]
pub struct Pace {
    since: Option<Instant>,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// The next piece is waited for.
    pub fn waits(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// It has come, with so many bytes.
    pub fn comes(&mut self, bytes: usize) {
        self.waited += self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        self.bytes += bytes as u64;
    }

    /// It has taken body_timeout, and comes slower than body_rate_min.
    pub fn is_slow(&self, listener: &Listener) -> bool {
        self.waited > listener.body_timeout
            && (self.bytes as f64) < listener.body_rate_min as f64 * self.waited.as_secs_f64()
    }
}
