//! The way of a next generation: load, check, swap, drain.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serval_loader::private_copy::CopyError;
use serval_loader::{Refusal, Refused};

use super::{Mounted, RETRY};
use crate::Container;
use crate::context::{Context, Waiting};
use crate::dispatch::servlet_count;
use crate::generation::{Generation, Ground, LoadError, Plan};
use crate::given::Given;
use crate::webapp::{Inputs, has_source};

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
}

/// A load that is going on, until it is dropped.
struct Loading(Arc<Container>);

impl Loading {
    fn begin(container: &Arc<Container>) -> Loading {
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

impl Container {
    /// Starts a load of what lies there now. Its end is told, with the number of the generation.
    pub(super) fn begin_load(
        self: &Arc<Self>,
        entry: &mut Mounted,
        now: Inputs,
        told: impl FnOnce(u64, &Loaded) + Send + 'static,
    ) {
        entry.number += 1;
        let context = entry.context.clone();
        let (loading, number, inputs) = (Loading::begin(self), entry.number, now.clone());
        let before = entry.refused.as_ref().filter(|_| now == entry.tried).map(|failure| failure.reason.clone());
        let load = tokio::spawn(async move {
            let webapp = inputs.webapp.clone();
            let loaded = loading.0.load(&context, number, inputs).await;
            if let Loaded::Refused(failure) = &loaded
                && before.as_ref() != Some(&failure.reason)
            {
                loading.0.refused(&context, number, &webapp, failure);
            }
            told(number, &loaded);
            loaded
        });
        entry.load = Some((now, load));
    }

    /// Makes the next generation and swaps it in; any failure leaves the current one.
    async fn load(&self, context: &Arc<Context>, number: u64, inputs: Inputs) -> Loaded {
        let began = Instant::now();
        let refused = |reason: String| Loaded::Refused(Failure { reason, retry_at: None });
        let of_system = |reason: String| Loaded::Refused(Failure { reason, retry_at: Some(Instant::now() + RETRY) });
        let before = context.current.load_full();
        let Some(Given { web, settings, development }) = inputs.given.as_deref().cloned() else {
            return refused("its host is gone".to_owned());
        };
        let web = match web {
            Ok(web) => web,
            Err(problems) => return refused(problems),
        };
        let limit = settings.init_timeout;
        let (named, given) = ((number, context.name.clone()), (web, settings, development));
        let ground = match Ground::open(named, &inputs.webapp, given, Some(&before), self.lives.clone()) {
            Ok(ground) => ground,
            Err(error) => return of_system(format!("{} cannot be opened: {error}", inputs.webapp.display())),
        };
        // Libraries are compared by their copy, which takes longer.
        if !Inputs::of(&inputs.webapp).is_ok_and(|now| now.has_files_of(&inputs)) {
            return Loaded::Again;
        }
        let copies = self.deployment.folder_of("run/generations", context);
        if let Err(error) = std::fs::create_dir_all(&copies) {
            return of_system(format!("{} cannot be made: {error}", copies.display()));
        }
        let name = format!("g{number}-{}", self.exchanges.fetch_add(1, Ordering::Relaxed));
        let plan = Plan {
            ground,
            libraries: inputs.libraries,
            copy_to: copies.join(&name),
            temp: copies.join(format!("{name}.temp")),
            before,
            work: self.deployment.folder_of("work", context),
        };
        let load = tokio::task::spawn_blocking(move || {
            if plan.libraries.is_empty() {
                return Ok(Generation::of_files(plan.ground));
            }
            Generation::load(plan)
        });
        let next = match tokio::time::timeout(limit, load).await {
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
            let checked = tokio::time::timeout(limit, self.check(context, &next, &path)).await;
            let answered =
                checked.unwrap_or_else(|_| Err(format!("has not answered, to the end, for {limit:?} (init_timeout)")));
            if let Err(why) = answered {
                self.drain(next);
                return refused(format!("its check {path} {why}"));
            }
        }
        let count = servlet_count(&next);
        let detail = match count {
            0 => "static files".to_owned(),
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

    /// Says whether nothing but files is to come: there are no libraries, and no source that makes them.
    fn is_files_only(&self, webapp: &Path) -> bool {
        let is_built = self.deployment.config.load().sources && has_source(webapp);
        !is_built && Inputs::of(webapp).is_ok_and(|now| now.libraries.is_empty())
    }

    fn refused(&self, context: &Arc<Context>, number: u64, webapp: &Path, failure: &Failure) {
        let serving = context.current.load();
        let mut meanwhile = "requests are answered 503".to_owned();
        if servlet_count(&serving) > 0 || (serving.number > 0 && self.is_files_only(webapp)) {
            meanwhile = format!("generation {} serves on", serving.number);
        } else {
            context.set_waiting(Waiting::Failed);
        }
        let again = match failure.retry_at {
            Some(_) => format!("it is tried again every {RETRY:?}"),
            None => "it is tried again when WEB-INF/lib or web.toml changes".to_owned(),
        };
        let reason = &failure.reason;
        context.set_refused(Some(reason.clone()));
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
            Ok(Loaded::Refused(failure)) => self.refused = Some(failure),
            Err(error) => {
                self.context.set_refused(Some(FAULT.to_owned()));
                tracing::error!(context = %self.context.name, "a load ended by a fault of the server: {error}")
            }
        }
        (self.pending, self.said, self.tried) = (None, false, inputs);
    }
}
