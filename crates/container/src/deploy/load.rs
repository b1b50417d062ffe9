//! The way of a next generation: load, check, swap, drain; or, for `stop-start`: hold, drain, load, check, swap.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serval_config::{ContextSettings, Switch};
use serval_loader::private_copy::CopyError;
use serval_loader::{Refusal, Refused};

use super::kept::{Kept, Store};
use super::{Mounted, RETRY};
use crate::Container;
use crate::context::{Context, Waiting};
use crate::dispatch::servlet_count;
use crate::generation::{Before, Files, Gate, Generation, Ground, LoadError, Plan};
use crate::given::Given;
use crate::proxy::Proxy;
use crate::webapp::{Inputs, has_source};

/// How long what was cut may take to end.
pub const CUT_WITHIN: Duration = Duration::from_secs(1);
/// LIMIT: how often a load is begun anew, since files change while they are read.
pub const LOADS_MAX: usize = 20;
/// Between two looks at a load that is under way.
pub const LOAD_LOOK: Duration = Duration::from_millis(20);
/// Between two looks at a generation that ends.
const LOOK: Duration = Duration::from_millis(2);
pub const FAULT: &str = "the load ended by a fault of the server; please report it";

#[derive(Clone)]
pub enum Loaded {
    Swapped,
    /// The files changed while they were copied.
    Again,
    Refused(Failure),
}

#[derive(Clone)]
pub struct Failure {
    pub reason: String,
    /// When to try the same files again: what failed was the system.
    pub retry_at: Option<Instant>,
    /// What served before has ended for it, and does not start again.
    pub is_down: bool,
}

/// A load that is going on, until it is dropped.
pub struct Loading(Arc<Container>);

impl Loading {
    pub fn begin(container: &Arc<Container>) -> Loading {
        container.deployment.loading.fetch_add(1, Ordering::AcqRel);
        Loading(container.clone())
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.0.deployment.loading.fetch_sub(1, Ordering::AcqRel);
        self.0.deployment.settled.notify_waiters();
    }
}

/// What a next generation is made from.
#[derive(Clone)]
pub struct From {
    pub inputs: Inputs,
    /// A kept one, to which an operator goes back.
    pub kept: Option<u64>,
}

/// What a current generation that has ended leaves behind for the next one, or for itself, if that does not start.
#[derive(Default)]
struct Estate {
    saved: OnceLock<Arc<HashMap<String, Vec<u8>>>>,
}

impl Container {
    /// Starts a load. `lies`: what lies in the webapp now, which need not be what it is made from. Its end is told, with the number of the
    /// generation.
    pub(super) fn begin_load(
        self: &Arc<Self>,
        entry: &mut Mounted,
        lies: Inputs,
        from: From,
        told: impl FnOnce(u64, &Loaded) + Send + 'static,
    ) {
        let context = entry.context.clone();
        let (loading, number, inputs) = (Loading::begin(self), context.next_number(), lies.clone());
        let before = entry.refused.as_ref().filter(|_| lies == entry.tried).map(|failure| failure.reason.clone());
        let load = tokio::spawn(async move {
            let loaded = loading.0.load(&context, number, &from).await;
            match &loaded {
                Loaded::Swapped => loading.0.remember(&context, &inputs, &from).await,
                Loaded::Refused(failure) if before.as_ref() != Some(&failure.reason) => {
                    loading.0.refused(&context, number, &inputs.webapp, failure)
                }
                Loaded::Refused(_) | Loaded::Again => {}
            }
            told(number, &loaded);
            loaded
        });
        entry.load = Some((lies, load));
    }

    pub(super) fn store_of(&self, context: &Context) -> Store {
        Store(self.deployment.folder_of("generations", context))
    }

    /// Keeps what the current generation was made from.
    async fn remember(&self, context: &Arc<Context>, lies: &Inputs, from: &From) {
        let (store, generation) = (self.store_of(context), context.current.load_full());
        let (name, lies, from) = (context.name.clone(), lies.clone(), from.clone());
        let remember = move || {
            match from.kept {
                Some(number) => store.pin(number, &lies)?,
                None => store.unpin(),
            }
            if generation.origin == generation.number && generation.proxy.is_none() {
                store.keep(generation.number, &from.inputs, generation.copy())?;
            }
            store.prune(generation.settings.generations_kept, generation.origin);
            Ok::<(), std::io::Error>(())
        };
        let remembered = tokio::task::spawn_blocking(remember).await;
        if let Err(error) = remembered.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            tracing::warn!(context = %name, "there will be no way back to this generation, which is not kept: {error}");
        }
    }

    /// Makes the next generation and swaps it in; any failure leaves the current one, or one that is made from the same.
    async fn load(self: &Arc<Self>, context: &Arc<Context>, number: u64, from: &From) -> Loaded {
        let (before, estate) = (context.current.load_full(), Arc::<Estate>::default());
        context.set_next(Some(number));
        let origin = before.origin;
        let mut loaded = self.make(context, number, from, before, &estate).await;
        if !matches!(loaded, Loaded::Swapped)
            && context.is_held()
            && !context.is_gone()
            && let Err((why, retry_at)) = self.go_back(context, origin, &estate).await
        {
            let reason = match &loaded {
                Loaded::Refused(failure) => failure.reason.clone(),
                _ => "its files keep changing".to_owned(),
            };
            let reason = format!("{reason}; and the generation that has ended for it does not start again: {why}");
            loaded = Loaded::Refused(Failure { reason, retry_at, is_down: true });
        }
        context.set_next(None);
        loaded
    }

    /// The current generation has ended, and the next one does not start: another one is made from what that one was made from. An error
    /// is why not, and when it may be tried again.
    async fn go_back(
        self: &Arc<Self>,
        context: &Arc<Context>,
        origin: u64,
        estate: &Arc<Estate>,
    ) -> Result<(), (String, Option<Instant>)> {
        let (number, before) = (context.next_number(), context.current.load_full());
        let found = self.store_of(context).find(origin).ok_or_else(|| "it was not kept".to_owned());
        // With what it had: the configuration may have changed, and be what does not start.
        let Ground { web, settings, development, proxy, .. } = Ground::clone(&before);
        let upstream = proxy.map(|proxy| proxy.upstream.clone());
        let given = Given { web: Ok(web), settings: ContextSettings::clone(&settings), upstream, development };
        let given = Some(Arc::new(given));
        let (mut why, mut retry_at) = ("its files keep changing".to_owned(), None);
        for _ in 0..LOADS_MAX {
            let from = match found.as_ref().map_err(String::clone).and_then(Kept::inputs) {
                Ok(mut inputs) => {
                    inputs.given.clone_from(&given);
                    From { inputs, kept: Some(origin) }
                }
                Err(reason) => {
                    why = reason;
                    break;
                }
            };
            match self.make(context, number, &from, before.clone(), estate).await {
                Loaded::Swapped => return Ok(()),
                // As what was kept does once more, when the copy that it is linked to is removed.
                Loaded::Again => tokio::time::sleep(LOAD_LOOK).await,
                Loaded::Refused(failure) => {
                    (why, retry_at) = (failure.reason, failure.retry_at);
                    break;
                }
            }
        }
        context.set_waiting(Waiting::Failed);
        let ground = Ground::clone(&context.current.load());
        context.current.store(Generation::of_files(Ground { number: 0, ..ground }));
        Err((why, retry_at))
    }

    async fn make(
        self: &Arc<Self>,
        context: &Arc<Context>,
        number: u64,
        from: &From,
        before: Arc<Generation>,
        estate: &Arc<Estate>,
    ) -> Loaded {
        let began = Instant::now();
        let inputs = &from.inputs;
        let refused = |reason: String| Loaded::Refused(Failure { reason, retry_at: None, is_down: false });
        let of_system = |reason: String| {
            Loaded::Refused(Failure { reason, retry_at: Some(Instant::now() + RETRY), is_down: false })
        };
        // What was kept is given what the configuration says now.
        let now = || self.given(context, inputs.clone(), &Inputs::default()).given;
        let Some(given) = inputs.given.clone().or_else(now) else {
            return refused("its host was removed meanwhile".to_owned());
        };
        let Given { web, settings, upstream, development } = Given::clone(&given);
        let web = match web {
            Ok(web) => web,
            Err(problems) => return refused(problems),
        };
        let limit = settings.init_timeout;
        let files = Files::of(&inputs.webapp, upstream.as_ref());
        let proxy =
            upstream.map(|upstream| Proxy::next(&upstream, &settings, before.proxy.as_ref(), &self.upstream_of));
        let (named, given) = ((number, context.name.clone()), (web, settings, development));
        let mut ground = match Ground::open(named, files, given, Some(&before), self.lives.clone()) {
            Ok(ground) => ground.with(proxy),
            Err(error) => return of_system(format!("{} cannot be opened: {error}", inputs.webapp.display())),
        };
        // Libraries are compared by their copy, which takes longer.
        if !inputs.look_again().is_ok_and(|now| now.has_files_of(inputs)) {
            return Loaded::Again;
        }
        let same = || self.store_of(context).same(inputs).map(|kept| kept.number);
        ground.origin = from.kept.or_else(same).unwrap_or(number);
        let copies = self.deployment.folder_of("run/generations", context);
        if let Err(error) = std::fs::create_dir_all(&copies) {
            return of_system(format!("{} cannot be made: {error}", copies.display()));
        }
        let name = format!("g{number}-{}", self.exchanges.fetch_add(1, Ordering::Relaxed));
        let is_stop_start = before.web.switch == Switch::StopStart || ground.web.switch == Switch::StopStart;
        let plan = Plan {
            ground,
            libraries: inputs.libraries.clone(),
            lib: inputs.inside.join("lib"),
            copy_to: copies.join(&name),
            temp: copies.join(format!("{name}.temp")),
            work: self.deployment.folder_of("work", context),
        };
        let mut longest = limit;
        if is_stop_start {
            longest += 2 * before.settings.drain_timeout + 2 * CUT_WITHIN;
        }
        let hand_over: Box<dyn FnOnce() -> Result<Before, String> + Send> = match estate.saved.get().cloned() {
            Some(saved) => Box::new(move || Ok(Box::new(move |name| saved.get(name).cloned()))),
            None if is_stop_start && before.has_libraries() => {
                let (container, context, estate) = (self.clone(), context.clone(), estate.clone());
                Box::new(move || {
                    // Nobody would wait for the end of it.
                    if began.elapsed() > limit {
                        return Err(format!("it was not known within {limit:?} (init_timeout) what it is"));
                    }
                    container.end_current(&context, before, &estate)
                })
            }
            None => {
                // An init that hangs does not keep it.
                let before = Arc::downgrade(&before);
                Box::new(move || Ok(Box::new(move |name| before.upgrade()?.saved(name))))
            }
        };
        let load = tokio::task::spawn_blocking(move || {
            if plan.libraries.is_empty() {
                return Ok(Generation::of_files(plan.ground));
            }
            Generation::load(plan, hand_over)
        });
        let next = match tokio::time::timeout(longest, load).await {
            Ok(Ok(Ok(next))) => next,
            Ok(Ok(Err(LoadError::Copy(CopyError::Changed)))) => return Loaded::Again,
            Ok(Ok(Err(
                error @ (LoadError::Copy(_) | LoadError::Refused(Refused { refusal: Refusal::Read(_), .. })),
            ))) => return of_system(error.to_string()),
            Ok(Ok(Err(error))) => return refused(error.to_string()),
            Ok(Err(error)) => return refused(format!("the load panicked: {error}")),
            Err(_) => {
                return refused(format!(
                    "its init has not returned for {limit:?} (init_timeout), and keeps its thread"
                ));
            }
        };
        if let Some(path) = next.web.check.clone() {
            context.set_state_of_next("checking");
            let checked = tokio::time::timeout(limit, self.check(context, &next, &path)).await;
            let answered =
                checked.unwrap_or_else(|_| Err(format!("has not answered, to the end, for {limit:?} (init_timeout)")));
            if let Err(why) = answered {
                let (id, after) = (next.id, next.settings.drain_timeout + CUT_WITHIN);
                self.drain(next);
                let deadline = Instant::now() + after;
                // It has what the one before it needs.
                while is_stop_start && !self.lives.is_destroyed(id) && Instant::now() < deadline {
                    tokio::time::sleep(LOAD_LOOK).await;
                }
                return refused(format!("its check {path} {why}"));
            }
        }
        let count = servlet_count(&next);
        let detail = match count {
            0 => next.without_servlets(),
            1 => "1 servlet".to_owned(),
            _ => format!("{count} servlets"),
        };
        if context.is_gone() {
            self.drain(next);
            return refused("the webapp was removed meanwhile".to_owned());
        }
        let old = context.current.swap(next.clone());
        context.set_refused(None);
        if count > 0 || context.waiting() != Waiting::Building {
            context.set_waiting(Waiting::No);
        }
        self.event(context, "ready", number, began.elapsed(), detail);
        for name in next.changed_dependencies(&old) {
            tracing::warn!(context = %context.name, generation = number, "{name} has changed, but as other libraries need it, its old code stays in use: a changed dependency needs a restart");
        }
        self.drain(old);
        Loaded::Swapped
    }

    /// Holds the requests of a context, and ends its current generation (`stop-start`). Blocks. An error is a sentence: that one serves on.
    fn end_current(&self, context: &Context, current: Arc<Generation>, estate: &Estate) -> Result<Before, String> {
        if context.is_gone() {
            return Err("the webapp was removed meanwhile".to_owned());
        }
        context.set_state_of_next("draining");
        let gate = Gate::Held(tokio::sync::watch::Sender::new(()));
        let gate = Generation::of_gate(Ground::clone(&current), gate);
        context.current.store(gate.clone());
        let (id, after) = (current.id, current.settings.drain_timeout);
        self.drain(current.clone());
        let has_ended = |is_over: &dyn Fn() -> bool| {
            let deadline = Instant::now() + after + CUT_WITHIN;
            while !is_over() && Instant::now() < deadline {
                std::thread::sleep(LOOK);
            }
            is_over()
        };
        if !has_ended(&|| Arc::strong_count(&current) == 1) {
            current.serve_on();
            self.lives.serves_on(id);
            let number = current.number;
            context.current.compare_and_swap(&gate, current);
            return Err(format!("calls still run in generation {number} after {after:?} (drain_timeout)"));
        }
        drop(gate);
        let saved = Arc::new(current.saved_of_all());
        let _ = estate.saved.set(saved.clone());
        drop(current);
        if !has_ended(&|| self.lives.is_destroyed(id)) {
            tracing::warn!(context = %context.name, "the old generation is not destroyed after {after:?} (drain_timeout); the next one starts beside it");
        }
        context.set_state_of_next("starting");
        Ok(Box::new(move |name| saved.get(name).cloned()))
    }

    /// Says whether nothing but files is to come: there are no libraries, and no source that makes them.
    fn is_files_only(&self, webapp: &Path) -> bool {
        let is_built = self.deployment.config.load().sources && has_source(webapp);
        !is_built && Inputs::of(webapp).is_ok_and(|now| now.libraries.is_empty())
    }

    pub(super) fn refused(&self, context: &Arc<Context>, number: u64, webapp: &Path, failure: &Failure) {
        let serving = context.current.load();
        let mut meanwhile = "requests are answered 503".to_owned();
        if serving.has_libraries() || (serving.number > 0 && self.is_files_only(webapp)) {
            meanwhile = format!("generation {} serves on", serving.number);
        } else {
            context.set_waiting(Waiting::Failed);
        }
        let again = match failure.retry_at {
            Some(_) => format!("it is tried again every {RETRY:?}"),
            None if webapp.starts_with(self.deployment.config.load().var.join("webapps")) => {
                "it is tried again when the archive changes".to_owned()
            }
            None => "it is tried again when WEB-INF/lib or web.toml changes".to_owned(),
        };
        let reason = &failure.reason;
        context.set_refused(Some(reason.clone()));
        self.event(context, "refused", number, Duration::ZERO, reason.clone());
        tracing::error!(
            context = %context.name, generation = number,
            "the new generation is refused: {reason}; {meanwhile}; {again}"
        );
    }

    /// Lets a generation that gets no more requests come to its end: its exchanges are told, and after a while those that go on
    /// by themselves are ended.
    pub(super) fn drain(&self, old: Arc<Generation>) {
        self.lives.retire(&old);
        old.retire();
        let (context, after, number) = (old.context.clone(), old.settings.drain_timeout, old.number);
        let mut stage = old.stage.subscribe();
        let old = Arc::downgrade(&old);
        tokio::spawn(async move {
            // An error: it is gone, with its end of this.
            let gone = async { while stage.changed().await.is_ok() {} };
            if tokio::time::timeout(after, gone).await.is_ok() {
                return;
            }
            if let Some(old) = old.upgrade() {
                tracing::warn!(
                    %context, generation = number,
                    "exchanges still run in this old generation after {after:?} (drain_timeout): tasks are ended, calls go on"
                );
                old.cut();
            }
        });
    }
}

impl Mounted {
    /// Remembers how the load of these inputs ended.
    pub(super) fn took(&mut self, inputs: Inputs, loaded: Result<Loaded, tokio::task::JoinError>) {
        self.refused = None;
        match loaded {
            Ok(Loaded::Again) => return,
            Ok(Loaded::Swapped) => self.serving = inputs.clone(),
            Ok(Loaded::Refused(failure)) => {
                if failure.is_down {
                    self.serving = Inputs::default();
                }
                self.refused = Some(failure);
            }
            Err(error) => {
                self.context.set_refused(Some(FAULT.to_owned()));
                tracing::error!(context = %self.context.name, "a load ended by a fault of the server: {error}")
            }
        }
        (self.pending, self.said, self.tried) = (None, false, inputs);
    }
}
