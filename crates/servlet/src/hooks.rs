//! The functions of a module that are not servlets, filters or listeners: `#[start]`, `#[stop]`, `#[carry]`, `#[restore]`, `#[job]`.

use std::any::{Any, TypeId, type_name};
use std::sync::atomic::Ordering;

use crate::glue::{Slot, State};
use crate::job::Job;
use crate::{Context, Result};

/// What an attribute declares of a module.
pub struct Hook {
    name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Start(&'static dyn Start),
    Stop(&'static dyn Stop),
    Carry(&'static dyn Carry),
    Restore(&'static dyn Restore),
    Job(&'static Job),
    /// Something that takes the state: only the type is looked at.
    Wants(fn() -> Option<Type>),
}

/// A type of state, and its name.
pub type Type = (TypeId, &'static str);

pub(crate) fn type_of<S: 'static>() -> Type {
    (TypeId::of::<S>(), type_name::<S>())
}

/// A function with its types, until it is one of the traits below without them.
pub struct Function<F>(pub F);

#[doc(hidden)]
pub trait Start: Sync {
    fn start(&self, context: &Context) -> Result<State>;
    fn state(&self) -> Type;
}

impl<S: Send + Sync + 'static> Start for Function<fn(&Context) -> Result<S>> {
    fn start(&self, context: &Context) -> Result<State> {
        Ok(Box::new((self.0)(context)?))
    }

    fn state(&self) -> Type {
        type_of::<S>()
    }
}

#[doc(hidden)]
pub trait Stop: Sync {
    fn stop(&self, state: State);
    fn state(&self) -> Type;
}

impl<S: Send + Sync + 'static> Stop for Function<fn(S)> {
    fn stop(&self, state: State) {
        if let Ok(state) = state.downcast() {
            (self.0)(*state);
        }
    }

    fn state(&self) -> Type {
        type_of::<S>()
    }
}

#[doc(hidden)]
pub trait Carry: Sync {
    fn carry(&self, state: &(dyn Any + Send + Sync)) -> Vec<u8>;
    fn state(&self) -> Type;
}

impl<S: Send + Sync + 'static> Carry for Function<fn(&S) -> Vec<u8>> {
    fn carry(&self, state: &(dyn Any + Send + Sync)) -> Vec<u8> {
        state.downcast_ref().map(self.0).unwrap_or_default()
    }

    fn state(&self) -> Type {
        type_of::<S>()
    }
}

#[doc(hidden)]
pub trait Restore: Sync {
    fn restore(&self, state: &(dyn Any + Send + Sync), bytes: &[u8]) -> Result;
    fn state(&self) -> Type;
}

impl<S: Send + Sync + 'static> Restore for Function<fn(&S, &[u8]) -> Result> {
    fn restore(&self, state: &(dyn Any + Send + Sync), bytes: &[u8]) -> Result {
        state.downcast_ref().map_or(Ok(()), |state| (self.0)(state, bytes))
    }

    fn state(&self) -> Type {
        type_of::<S>()
    }
}

impl Hook {
    pub const fn start<S: Send + Sync + 'static>(
        name: &'static str,
        function: &'static Function<fn(&Context) -> Result<S>>,
    ) -> Hook {
        Hook { name, kind: Kind::Start(function) }
    }

    pub const fn stop<S: Send + Sync + 'static>(name: &'static str, function: &'static Function<fn(S)>) -> Hook {
        Hook { name, kind: Kind::Stop(function) }
    }

    pub const fn carry<S: Send + Sync + 'static>(
        name: &'static str,
        function: &'static Function<fn(&S) -> Vec<u8>>,
    ) -> Hook {
        Hook { name, kind: Kind::Carry(function) }
    }

    pub const fn restore<S: Send + Sync + 'static>(
        name: &'static str,
        function: &'static Function<fn(&S, &[u8]) -> Result>,
    ) -> Hook {
        Hook { name, kind: Kind::Restore(function) }
    }

    pub const fn job(name: &'static str, job: &'static Job) -> Hook {
        Hook { name, kind: Kind::Job(job) }
    }

    pub const fn wants(name: &'static str, state: fn() -> Option<Type>) -> Hook {
        Hook { name, kind: Kind::Wants(state) }
    }
}

/// What a module has declared, each with its name.
#[derive(Default)]
pub(crate) struct Hooks {
    pub start: Option<(&'static str, &'static dyn Start)>,
    pub stop: Option<(&'static str, &'static dyn Stop)>,
    pub carry: Option<(&'static str, &'static dyn Carry)>,
    pub restore: Option<(&'static str, &'static dyn Restore)>,
    pub jobs: Vec<(&'static str, &'static Job)>,
}

impl Hooks {
    /// Sorts them; an error names those that contradict each other.
    pub fn collect(slots: &'static [Slot<Hook>]) -> std::result::Result<Hooks, String> {
        let mut hooks = Hooks::default();
        let mut wanted: Vec<(&str, Type)> = Vec::new();
        for slot in slots {
            // SAFETY: `Slot::new` is given a reference to a static.
            let Hook { name, kind } = unsafe { &*slot.0.load(Ordering::Relaxed) };
            let (name, kind) = (*name, *kind);
            let (word, before) = match kind {
                Kind::Start(function) => ("#[start]", replace(&mut hooks.start, (name, function))),
                Kind::Stop(function) => ("#[stop]", replace(&mut hooks.stop, (name, function))),
                Kind::Carry(function) => ("#[carry]", replace(&mut hooks.carry, (name, function))),
                Kind::Restore(function) => ("#[restore]", replace(&mut hooks.restore, (name, function))),
                Kind::Job(job) => {
                    hooks.jobs.push((name, job));
                    ("#[job]", None)
                }
                Kind::Wants(_) => ("", None),
            };
            if let Some(before) = before {
                return Err(format!("a module has one {word} function, but this has {before} and {name}"));
            }
            let state = match kind {
                Kind::Start(_) => None,
                Kind::Stop(function) => Some(function.state()),
                Kind::Carry(function) => Some(function.state()),
                Kind::Restore(function) => Some(function.state()),
                Kind::Job(job) => (job.state)(),
                Kind::Wants(state) => state(),
            };
            wanted.extend(state.map(|state| (name, state)));
        }
        let made = hooks.start.map(|(_, start)| start.state());
        for (name, wanted) in wanted {
            differs(made, wanted).map_or(Ok(()), |text| Err(format!("{name} takes {text}")))?;
        }
        Ok(hooks)
    }
}

fn replace<T: Copy>(place: &mut Option<(&'static str, T)>, with: (&'static str, T)) -> Option<&'static str> {
    place.replace(with).map(|(name, _)| name)
}

/// Says how the wanted state differs from what `#[start]` makes; `None`: it does not.
pub(crate) fn differs(made: Option<Type>, wanted: Type) -> Option<String> {
    let (wanted, wanted_name) = wanted;
    match made {
        Some((made, _)) if made == wanted => None,
        Some((_, made_name)) => Some(format!("{wanted_name}, but the #[start] function returns {made_name}")),
        None => Some(format!("{wanted_name}, but there is no #[start] function")),
    }
}
