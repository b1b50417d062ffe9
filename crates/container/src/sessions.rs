//! The sessions of a context (Servlet 7, SEMANTICS 17): what the server keeps of a client between its requests. They belong to the
//! context and not to a generation, and their attributes are bytes, so a reload does not touch them. `snapshots` keeps them on disk.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use serval_abi::{SV_E_LIMIT, SV_E_STATE};
use serval_loader::exchange::{Answer, Fault};

/// LIMIT: attributes of one session; their bytes are bounded by `session_bytes_max`.
pub const ATTRIBUTES_MAX: usize = 1000;
/// What each attribute costs beside its name and value.
const ATTRIBUTE_BYTES: usize = 64;

/// The maps that the sessions of a context are in, so that requests of different ones seldom wait for each other, and for a look at
/// all sessions never long.
const BUCKETS: usize = 16;

type Bucket = HashMap<Arc<str>, Arc<Session>>;

/// All sessions of one context, by id. A bucket is locked for a lookup only, a session for a moment; a bucket may be locked by who
/// has locked a session, and never the other way round.
#[derive(Default)]
pub struct Sessions {
    buckets: [Mutex<Bucket>; BUCKETS],
    hasher: RandomState,
    /// Those that are valid.
    count: AtomicUsize,
    changed: Changed,
    /// Read while an id changes, written while all are collected: no session is between two buckets then.
    moves: RwLock<()>,
}

/// There is something that the last snapshot has not. Marked by who has locked what changes, so that whoever takes the mark, and locks
/// it then, sees the change.
#[derive(Default, Clone)]
struct Changed(Arc<AtomicBool>);

impl Changed {
    fn mark(&self) {
        // Most often it is marked, and stays in all caches.
        if !self.0.load(Ordering::Relaxed) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

pub struct Session {
    /// Milliseconds since 1970.
    pub created: i64,
    state: Mutex<State>,
    changed: Changed,
}

struct State {
    id: Arc<str>,
    /// When the request before this one ended, in milliseconds since 1970.
    accessed: i64,
    /// The same by a clock that nobody sets.
    last: Instant,
    /// Requests that have it now: it does not time out meanwhile.
    users: usize,
    /// `None`: it never times out.
    max_inactive: Option<Duration>,
    attributes: Vec<(String, Bytes)>,
    valid: bool,
    /// The client has not shown yet that it has the id.
    new: bool,
}

/// What is kept of a session while no server runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    pub id: Arc<str>,
    /// Milliseconds since 1970, as `accessed`.
    pub created: i64,
    pub accessed: i64,
    /// How long it has lain unused.
    pub idle: Duration,
    /// `None`: it never times out.
    pub max_inactive: Option<Duration>,
    pub is_new: bool,
    pub attributes: Vec<(String, Bytes)>,
}

/// What a session shows of itself.
pub struct Facts {
    pub id: Arc<str>,
    pub is_new: bool,
    pub accessed: i64,
    /// Seconds; 0: never.
    pub max_inactive: i64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn ended() -> Fault {
    Fault::new(SV_E_STATE, "the session was invalidated")
}

/// 128 bits of the system's, as 32 hexadecimal digits.
fn new_id() -> Answer<Arc<str>> {
    let mut bytes = [0_u8; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        match rustix::rand::getrandom(&mut bytes[filled..], flags) {
            Ok(more) => filled += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                let text = format!("the system has no random bytes for a session's id: {error}");
                return Err(Fault::new(serval_abi::SV_E_IO, text));
            }
        }
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>().into())
}

impl Sessions {
    fn bucket(&self, id: &str) -> MutexGuard<'_, Bucket> {
        // Fewer than the hash has values.
        lock(&self.buckets[self.hasher.hash_one(id) as usize % BUCKETS])
    }

    /// The session of that id for a request, which has it until [`Session::leave`]. `None`: there is none, or its time is up.
    pub fn enter(&self, id: &str) -> Option<Arc<Session>> {
        let session = self.bucket(id).get(id).cloned()?;
        let mut state = lock(&session.state);
        if !state.answers_to(id) {
            return None;
        }
        state.users += 1;
        state.new = false;
        session.changed.mark();
        drop(state);
        Some(session)
    }

    /// How many are valid.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether a request of that id would find one.
    pub fn knows(&self, id: &str) -> bool {
        let session = self.bucket(id).get(id).cloned();
        session.is_some_and(|session| lock(&session.state).answers_to(id))
    }

    /// A new one, which the request that makes it has. It takes the id that its client has in another context, where that is given
    /// and free, else one of its own.
    pub fn create(&self, id: Option<&str>, max_inactive: Option<Duration>, count_max: usize) -> Answer<Arc<Session>> {
        let own = new_id()?;
        let one_more = |count| (count < count_max).then_some(count + 1);
        if self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
            let text = format!("there are {count_max} sessions, and that is sessions_max");
            return Err(Fault::new(SV_E_LIMIT, text));
        }
        let insert = |id| {
            let state = State::new(id, max_inactive);
            self.insert(state.accessed, state)
        };
        id.and_then(|id| insert(id.into())).or_else(|| insert(own)).ok_or_else(|| {
            self.count.fetch_sub(1, Ordering::Relaxed);
            Fault::new(serval_abi::SV_E_IO, "the system has given the id of another session")
        })
    }

    /// `None`: there is one of that id.
    fn insert(&self, created: i64, state: State) -> Option<Arc<Session>> {
        let id = state.id.clone();
        let mut bucket = self.bucket(&id);
        let Entry::Vacant(free) = bucket.entry(id) else { return None };
        self.changed.mark();
        Some(free.insert(Session::new(state, created, &self.changed)).clone())
    }

    /// Gives a session another id; the old one is not known any more.
    pub fn change_id(&self, session: &Arc<Session>) -> Answer<(Arc<str>, Arc<str>)> {
        let id = new_id()?;
        let mut state = lock(&session.state);
        if !state.valid {
            return Err(ended());
        }
        let _moves = self.moves.read().unwrap_or_else(PoisonError::into_inner);
        self.changed.mark();
        let old = std::mem::replace(&mut state.id, id.clone());
        self.bucket(&old).remove(&old);
        self.bucket(&id).insert(id.clone(), session.clone());
        Ok((old, id))
    }

    /// Ends a session; whether it lived until now.
    pub fn remove(&self, session: &Session) -> bool {
        let mut state = lock(&session.state);
        let lived = state.end(self);
        if lived {
            self.bucket(&state.id).remove(&state.id);
        }
        lived
    }

    /// Ends those whose time is up, and returns them.
    pub fn expired(&self) -> Vec<Arc<Session>> {
        self.ended(State::is_over)
    }

    /// Ends all, and returns them: their context is gone.
    pub fn clear(&self) -> Vec<Arc<Session>> {
        self.ended(|_| true)
    }

    fn ended(&self, is_over: impl Fn(&State) -> bool) -> Vec<Arc<Session>> {
        let mut over: Vec<Arc<Session>> = Vec::new();
        for bucket in &self.buckets {
            over.extend(all_in(bucket).into_iter().filter(|session| {
                let mut state = lock(&session.state);
                let ends = is_over(&state) && state.end(self);
                if ends {
                    self.bucket(&state.id).remove(&state.id);
                }
                ends
            }));
        }
        over
    }

    /// Whether something has changed since this was asked last.
    pub fn take_change(&self) -> bool {
        self.changed.0.swap(false, Ordering::Relaxed)
    }

    /// What was asked for by [`Sessions::take_change`] is still to be done.
    pub fn set_changed(&self) {
        self.changed.mark();
    }

    /// Each as it is when the iterator comes to it, in no order; those that end meanwhile are left out, and new ones may be.
    pub fn saved(&self) -> impl Iterator<Item = Saved> + use<> {
        let moves = self.moves.write().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<Arc<Session>> = self.buckets.iter().flat_map(all_in).collect();
        drop(moves);
        all.into_iter().filter_map(|session| session.saved())
    }

    /// Takes those that were saved, and have lain unused for so long since then. One whose id is known is left out. There may be more
    /// than `sessions_max`, if that was lowered: then there are no new ones until there are fewer.
    pub fn restore(&self, saved: Vec<Saved>, since: Duration) {
        /// More than the clock goes back.
        const FOR_EVER: Duration = Duration::from_secs(1 << 40);
        let now = Instant::now();
        for saved in saved {
            let unused = saved.idle.saturating_add(since).min(FOR_EVER);
            let state = State {
                id: saved.id,
                accessed: saved.accessed,
                // Before the clock began, maybe, which is no matter to Linux.
                last: now.checked_sub(unused).unwrap_or(now),
                users: 0,
                max_inactive: saved.max_inactive,
                attributes: saved.attributes,
                valid: true,
                new: saved.is_new,
            };
            self.count.fetch_add(usize::from(self.insert(saved.created, state).is_some()), Ordering::Relaxed);
        }
        // They are what the last snapshot has.
        self.take_change();
    }
}

fn all_in(bucket: &Mutex<Bucket>) -> Vec<Arc<Session>> {
    lock(bucket).values().cloned().collect()
}

impl State {
    fn new(id: Arc<str>, max_inactive: Option<Duration>) -> State {
        State {
            id,
            accessed: now(),
            last: Instant::now(),
            users: 1,
            max_inactive,
            attributes: Vec::new(),
            valid: true,
            new: true,
        }
    }

    /// Whether a request of that id finds it.
    fn answers_to(&self, id: &str) -> bool {
        self.valid && *self.id == *id && !self.is_over()
    }

    /// Whether it lived until now.
    fn end(&mut self, of: &Sessions) -> bool {
        let lived = std::mem::replace(&mut self.valid, false);
        of.changed.mark();
        of.count.fetch_sub(usize::from(lived), Ordering::Relaxed);
        lived
    }

    fn is_over(&self) -> bool {
        self.users == 0 && self.max_inactive.is_some_and(|most| self.last.elapsed() >= most)
    }
}

impl Session {
    fn new(state: State, created: i64, changed: &Changed) -> Arc<Session> {
        Arc::new(Session { created, state: Mutex::new(state), changed: changed.clone() })
    }

    /// The request that had it is over.
    pub fn leave(&self) {
        let mut state = lock(&self.state);
        state.users = state.users.saturating_sub(1);
        (state.last, state.accessed) = (Instant::now(), now());
        self.changed.mark();
    }

    /// `None`: it has ended.
    fn saved(&self) -> Option<Saved> {
        let state = lock(&self.state);
        if state.users > 0 {
            // It is to be saved again, since its time does not run.
            self.changed.mark();
        }
        state.valid.then(|| Saved {
            id: state.id.clone(),
            created: self.created,
            accessed: state.accessed,
            idle: if state.users > 0 { Duration::ZERO } else { state.last.elapsed() },
            max_inactive: state.max_inactive,
            is_new: state.new,
            attributes: state.attributes.clone(),
        })
    }

    pub fn facts(&self) -> Facts {
        let state = lock(&self.state);
        let max_inactive = state.max_inactive.map_or(0, |most| i64::try_from(most.as_secs()).unwrap_or(i64::MAX));
        Facts { id: state.id.clone(), is_new: state.new, accessed: state.accessed, max_inactive }
    }

    pub fn is_valid(&self) -> bool {
        lock(&self.state).valid
    }

    /// Also of one that has just ended: its listener functions may still look.
    pub fn attributes(&self) -> Vec<(String, Bytes)> {
        lock(&self.state).attributes.clone()
    }

    pub fn attribute(&self, name: &str) -> Option<Bytes> {
        let state = lock(&self.state);
        state.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    /// Sets or removes an attribute, and returns the value before.
    pub fn set(&self, name: &str, value: Option<&[u8]>, bytes_max: usize) -> Answer<Option<Bytes>> {
        let mut state = lock(&self.state);
        if !state.valid {
            return Err(ended());
        }
        if let Some(value) = value {
            let others = state.attributes.iter().filter(|(known, _)| known != name);
            let size = |(name, value): (&str, &[u8])| name.len() + value.len() + ATTRIBUTE_BYTES;
            let (count, used) = others
                .fold((1, size((name, value))), |(count, used), (name, value)| (count + 1, used + size((name, value))));
            if used > bytes_max {
                let text = format!("the attributes of the session would be over {bytes_max} bytes (session_bytes_max)");
                return Err(Fault::new(SV_E_LIMIT, text));
            }
            if count > ATTRIBUTES_MAX {
                return Err(Fault::new(SV_E_LIMIT, "a session has at most 1,000 attributes"));
            }
        }
        self.changed.mark();
        let at = state.attributes.iter().position(|(known, _)| known == name);
        Ok(match (at, value) {
            (Some(at), Some(value)) => {
                Some(std::mem::replace(&mut state.attributes[at].1, Bytes::copy_from_slice(value)))
            }
            (Some(at), None) => Some(state.attributes.remove(at).1),
            (None, Some(value)) => {
                state.attributes.push((name.to_owned(), Bytes::copy_from_slice(value)));
                None
            }
            (None, None) => None,
        })
    }

    pub fn set_max_inactive(&self, seconds: i64) -> Answer {
        let mut state = lock(&self.state);
        if !state.valid {
            return Err(ended());
        }
        self.changed.mark();
        state.max_inactive = u64::try_from(seconds).ok().filter(|&seconds| seconds > 0).map(Duration::from_secs);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_lives_as_long_as_it_is_used() {
        let sessions = Sessions::default();
        let session = sessions.create(None, Some(Duration::ZERO), 1).unwrap();
        let id = session.facts().id;
        assert!(id.len() == 32 && session.facts().is_new);
        assert!(sessions.expired().is_empty(), "a request has it");
        assert_eq!(sessions.create(None, None, 1).err().map(|fault| fault.status), Some(SV_E_LIMIT));
        session.leave();
        assert!(sessions.enter(&id).is_none(), "its time is up");
        assert_eq!(sessions.expired().len(), 1);
        assert!(!session.is_valid());
        assert!(session.set("a", Some(b"1"), 100).is_err());
    }

    #[test]
    fn another_id_is_the_same_session() {
        let sessions = Sessions::default();
        let session = sessions.create(None, None, 9).unwrap();
        assert_eq!(session.set("a", Some(b"1"), 1000).unwrap(), None);
        let (old, new) = sessions.change_id(&session).unwrap();
        assert!(sessions.enter(&old).is_none());
        let again = sessions.enter(&new).unwrap();
        assert_eq!(again.attribute("a").as_deref(), Some(&b"1"[..]));
        assert!(!again.facts().is_new);
        assert!(again.set("b", Some(&[0; 1000]), 1000).is_err());
        assert!(sessions.remove(&again));
        assert!(!sessions.remove(&session));
    }

    #[test]
    fn ids_are_random_in_each_of_their_128_bits() {
        let ids: Vec<u128> = (0..1000).map(|_| u128::from_str_radix(&new_id().unwrap(), 16).unwrap()).collect();
        let distinct: std::collections::HashSet<&u128> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
        for bit in 0..128 {
            let set = ids.iter().filter(|&id| id >> bit & 1 == 1).count();
            // Ten standard deviations around the half.
            assert!((342..=658).contains(&set), "bit {bit} is set in {set} of 1,000");
        }
    }

    #[test]
    fn an_id_of_another_context_is_taken_once() {
        let sessions = Sessions::default();
        let first = sessions.create(Some("0123"), None, 9).unwrap();
        assert_eq!(&*first.facts().id, "0123");
        let second = sessions.create(Some("0123"), None, 9).unwrap();
        assert_eq!(second.facts().id.len(), 32);
        assert!(first.is_valid() && sessions.knows("0123"));
        assert_eq!(sessions.clear().len(), 2);
        assert!(!first.is_valid() && sessions.clear().is_empty());
    }

    #[test]
    fn what_is_saved_comes_back() {
        let sessions = Sessions::default();
        assert!(!sessions.take_change(), "nothing has been");
        let made = sessions.create(None, Some(Duration::from_secs(100)), 9).unwrap();
        assert!(sessions.take_change() && !sessions.take_change());
        let changes: [&dyn Fn(); 5] = [
            &|| drop(made.set("a", Some(b"1"), 1000)),
            &|| drop(made.set_max_inactive(50)),
            &|| drop(sessions.change_id(&made)),
            &|| drop(sessions.enter(&made.facts().id)),
            &|| made.leave(),
        ];
        for change in changes {
            change();
            assert!(sessions.take_change());
        }
        assert!(sessions.expired().is_empty() && !sessions.take_change(), "a look changes nothing");
        let saved: Vec<Saved> = sessions.saved().collect();
        assert!(sessions.take_change(), "it is still used");
        let [one] = &saved[..] else { panic!("{saved:?}") };
        assert_eq!((one.idle, one.max_inactive, one.is_new), (Duration::ZERO, Some(Duration::from_secs(50)), false));

        let after = |since: u64| {
            let later = Sessions::default();
            later.restore([saved.clone(), saved.clone()].concat(), Duration::from_secs(since));
            assert!(later.count() == 1 && !later.take_change());
            later
        };
        let later = after(40);
        let again = later.enter(&one.id).unwrap();
        assert_eq!((again.created, again.attribute("a").as_deref()), (made.created, Some(&b"1"[..])));
        assert_eq!(again.facts().accessed, one.accessed);
        let late = after(50);
        assert!(late.enter(&one.id).is_none());
        assert_eq!((late.expired().len(), late.count()), (1, 0));
        assert_eq!(after(u64::MAX).expired().len(), 1, "however long it was");

        assert!(sessions.remove(&made) && sessions.take_change());
        assert_eq!(sessions.saved().count(), 0);
    }

    /// One is looked for while others change their ids without an end.
    #[test]
    fn none_is_missed_while_ids_change() {
        let sessions = Sessions::default();
        let all: Vec<_> = (0..100).map(|_| sessions.create(None, None, 100).unwrap()).collect();
        let end = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !end.load(Ordering::Relaxed) {
                    all.iter().for_each(|session| drop(sessions.change_id(session).unwrap()));
                }
            });
            let counts: Vec<usize> = (0..500).map(|_| sessions.saved().count()).collect();
            end.store(true, Ordering::Relaxed);
            assert_eq!(counts, [100; 500]);
        });
    }

    #[test]
    fn many_requests_with_one_session_at_the_same_time() {
        const THREADS: usize = 16;
        let sessions = Sessions::default();
        for round in 0..200 {
            let session = sessions.create(None, Some(Duration::from_secs(60)), 1).unwrap();
            let id = session.facts().id;
            let start = std::sync::Barrier::new(THREADS);
            let ended: usize = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..THREADS)
                    .map(|number| {
                        let (sessions, id, start) = (&sessions, &id, &start);
                        scope.spawn(move || {
                            start.wait();
                            let Some(session) = sessions.enter(id) else { return 0 };
                            let _ = session.set("a", Some(&[number as u8; 10]), 1000);
                            let _ = sessions.change_id(&session);
                            let _ = session.set("b", None, 1000);
                            sessions.expired();
                            let ended = round % 2 == 0 && sessions.remove(&session);
                            session.leave();
                            usize::from(ended)
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert!(ended <= 1, "it was ended {ended} times");
            if session.is_valid() {
                let now = sessions.enter(&session.facts().id).expect("it is known by its last id");
                now.leave();
                assert!(sessions.remove(&session));
            }
            assert_eq!(lock(&session.state).users, 1, "only who made it still has it");
            let known: usize = sessions.buckets.iter().map(|bucket| lock(bucket).len()).sum();
            assert_eq!((known, sessions.count.load(Ordering::Relaxed)), (0, 0), "no other id leads to it");
        }
    }
}
