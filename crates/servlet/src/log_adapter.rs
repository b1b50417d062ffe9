//! Feature `log`: what the library, and the crates that it uses, log through the crate `log` goes to the server's log.
//!
//! It is there from before `#[start]` to after `#[stop]`, without a line of the author's: `log::info!("{count} items")`.
//! A library has `log` for itself, so it gets in nobody's way. Other lines than those of [`servlet::log`](crate::log) begin
//! with their target, such as `my_crate::db`.

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::host;

struct Adapter;

static ADAPTER: Adapter = Adapter;

/// The levels of `log` are those of servlet.h, by number too.
fn level(level: Level) -> i32 {
    level as i32
}

impl Log for Adapter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        host::log_enabled(level(metadata.level()))
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            host::log(level(record.level()), &format!("{}: {}", record.target(), record.args()));
        }
    }

    fn flush(&self) {}
}

/// Called when a module begins. The level that the server keeps is asked for once, so that lines below it cost nothing; they
/// are asked for again with each line above.
pub(crate) fn install() {
    // An error: an author, or a test before, has set one. That one stays.
    if log::set_logger(&ADAPTER).is_ok() || std::ptr::addr_eq(log::logger(), &raw const ADAPTER) {
        let kept = [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error]
            .into_iter()
            .find(|kept| host::log_enabled(level(*kept)));
        log::set_max_level(kept.map_or(LevelFilter::Off, |kept| kept.to_level_filter()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serval_abi::{SV_LOG_ERROR, SV_LOG_TRACE};

    #[test]
    fn levels_are_the_same_numbers() {
        assert_eq!((level(Level::Error), level(Level::Trace)), (SV_LOG_ERROR, SV_LOG_TRACE));
    }
}
