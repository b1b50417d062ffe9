//! What happens in the guestbook, as a stream of server-sent events to each open page.
//!
//! The number of a change is the id of its event. A browser whose stream has ended connects again by itself and says
//! which id it has seen last, so it gets what it has missed: also from another generation, for the numbers are in the
//! database.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use servlet::prelude::*;
use servlet::{Broadcast, Event, RecvError};

use crate::store::{Change, Store};
use crate::visitor::Visitor;
use crate::{Guestbook, Shown, number};

/// LIMIT: changes in memory, for streams that begin or are behind. Who has missed more reads the list again.
const CHANGES_KEPT: u32 = 200;
/// How long a browser waits before it connects again.
const RETRY: Duration = Duration::from_millis(500);

/// The latest changes, and who waits for more. Streams look only here: they run where nothing may wait for the
/// database.
pub struct Feed {
    recent: Mutex<Recent>,
    changed: Broadcast<()>,
}

struct Recent {
    /// All that came after this one are in `changes`.
    before: i64,
    changes: VecDeque<Arc<Change>>,
}

impl Recent {
    fn last(&self) -> i64 {
        self.changes.back().map_or(self.before, |change| change.id)
    }
}

impl Feed {
    /// Begins with the latest changes that the database has.
    pub fn open(store: &Store) -> Result<Feed> {
        let before = (store.last_change()? - i64::from(CHANGES_KEPT)).max(0);
        let recent = Mutex::new(Recent { before, changes: VecDeque::new() });
        let feed = Feed { recent, changed: Broadcast::new(1) };
        feed.catch_up(store)?;
        Ok(feed)
    }

    /// Takes over what is new in the database, and tells all streams.
    pub fn catch_up(&self, store: &Store) -> Result {
        loop {
            let after = self.recent.lock().unwrap_or_else(PoisonError::into_inner).last();
            let news = store.changes_after(after, CHANGES_KEPT)?;
            if news.is_empty() {
                return Ok(());
            }
            self.take(news);
        }
    }

    fn take(&self, news: Vec<Change>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        for change in news {
            // Another thread may have been faster.
            if change.id <= recent.last() {
                continue;
            }
            if change.entry.is_none() {
                // Nobody gets to read what was taken back.
                for kept in recent.changes.iter_mut().filter(|kept| kept.entry_id == change.entry_id) {
                    *kept = Arc::new(Change { id: kept.id, entry_id: kept.entry_id, entry: None });
                }
            }
            recent.changes.push_back(Arc::new(change));
        }
        while recent.changes.len() > CHANGES_KEPT as usize {
            recent.before = recent.changes.pop_front().map_or(0, |change| change.id);
        }
        drop(recent);
        self.changed.send(());
    }

    /// Returns what came after that change; `None`: it is too long ago, or from another guestbook.
    fn after(&self, change: i64) -> Option<Vec<Arc<Change>>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let known = recent.before..=recent.last();
        known.contains(&change).then(|| recent.changes.iter().filter(|kept| kept.id > change).cloned().collect())
    }
}

/// The events `entry` (an entry), `deleted` (its id), and `reset` (too much was missed: the page begins anew).
#[servlet("/api/events")]
async fn events(guestbook: &Guestbook, request: &Request, response: &mut Response) -> Result {
    let visitor = Visitor::of(request)?;
    // What a browser says when it connects again goes before what the page has said at first.
    let seen = match number(request.header("last-event-id"), "Last-Event-ID")? {
        Some(seen) => Some(seen),
        None => number(request.param("after")?, "after")?,
    };
    let feed = &guestbook.feed;
    // Before the first look, so that nothing falls between the two.
    let mut changed = feed.changed.subscribe();
    let mut seen = seen.unwrap_or_else(|| feed.recent.lock().unwrap_or_else(PoisonError::into_inner).last());
    let mut stream = response.events().await?;
    stream.send(&Event::new().retry(RETRY)).await?;
    loop {
        let Some(news) = feed.after(seen) else {
            stream.send(&Event::new().event("reset").data("")).await?;
            break;
        };
        for change in news {
            seen = change.id;
            stream.send(&event(&change, &visitor)?).await?;
        }
        // `None`: a newer generation has taken over, and the browser connects to that one.
        match stream.next(changed.recv()).await? {
            Some(Ok(()) | Err(RecvError::Lagged(_))) => (),
            Some(Err(RecvError::Closed)) | None => break,
        }
    }
    stream.finish().await
}

fn event(change: &Change, visitor: &Visitor) -> Result<Event<'static>> {
    let (name, data) = match &change.entry {
        Some(entry) => ("entry", serde_json::to_string(&Shown::to(visitor, entry))?),
        None => ("deleted", change.entry_id.to_string()),
    };
    Ok(Event::new().event(name).id(change.id.to_string()).data(data))
}

/// Looks for what others have written: the generation before this one while it ends, or the program `sqlite3`.
#[job(every = "1s")]
fn watch(guestbook: &Guestbook) -> Result {
    guestbook.feed.catch_up(&guestbook.store)
}
