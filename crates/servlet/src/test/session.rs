//! Sessions of a test, in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::webapp::{Webapp, lock};

pub(super) struct Session {
    pub data: Mutex<Data>,
}

pub(super) struct Data {
    pub id: String,
    pub is_new: bool,
    pub valid: bool,
    pub created: SystemTime,
    pub accessed: SystemTime,
    /// Of the request that runs; it becomes `accessed` with the next one.
    pub seen: SystemTime,
    pub max_inactive_seconds: i64,
    pub attributes: BTreeMap<String, Vec<u8>>,
}

pub(super) const COOKIE: &str = "JSESSIONID";

fn new_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // Not a secret, for there is nobody to guess it.
    format!("{:032X}", COUNT.fetch_add(1, Ordering::Relaxed) + 1)
}

impl Session {
    pub fn create(webapp: &Webapp) -> Arc<Session> {
        let now = SystemTime::now();
        let id = new_id();
        let session = Arc::new(Session {
            data: Mutex::new(Data {
                id: id.clone(),
                is_new: true,
                valid: true,
                created: now,
                accessed: now,
                seen: now,
                max_inactive_seconds: 30 * 60,
                attributes: BTreeMap::new(),
            }),
        });
        lock(&webapp.sessions).insert(id, session.clone());
        session
    }

    /// The session with that id, if it is alive.
    pub fn find(webapp: &Webapp, id: &str) -> Option<Arc<Session>> {
        let mut sessions = lock(&webapp.sessions);
        let session = sessions.get(id)?.clone();
        let mut data = lock(&session.data);
        let limit = Duration::from_secs(u64::try_from(data.max_inactive_seconds).unwrap_or(0));
        let idle = data.seen.elapsed().unwrap_or_default();
        if data.max_inactive_seconds > 0 && idle >= limit {
            data.valid = false;
            sessions.remove(id);
            return None;
        }
        (data.accessed, data.seen, data.is_new) = (data.seen, SystemTime::now(), false);
        drop(data);
        Some(session)
    }

    /// Returns the id before.
    pub fn change_id(&self, webapp: &Webapp) -> String {
        let mut sessions = lock(&webapp.sessions);
        let mut data = lock(&self.data);
        let before = std::mem::replace(&mut data.id, new_id());
        if let Some(session) = sessions.remove(&before) {
            sessions.insert(data.id.clone(), session);
        }
        before
    }

    pub fn invalidate(&self, webapp: &Webapp) {
        let mut sessions = lock(&webapp.sessions);
        let mut data = lock(&self.data);
        data.valid = false;
        sessions.remove(&data.id);
    }
}
