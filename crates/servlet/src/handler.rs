//! Which functions are servlets: chosen by the types of their arguments.

use std::any::{Any, TypeId, type_name};

use crate::{Body, Request, Response, Result};

/// A function that answers as a servlet. `Shape` tells the four kinds apart and is always inferred.
///
/// - `fn(&Request, &mut Response) -> Result`
/// - `fn(&Request, &mut Body, &mut Response) -> Result`
/// - `fn(&State, &Request, &mut Response) -> Result`
/// - `fn(&State, &Request, &mut Body, &mut Response) -> Result`
///
/// `State` is what the module's [`start`](macro@crate::start) function returns. Async functions come with a later version.
#[diagnostic::on_unimplemented(
    message = "this function cannot be a servlet: its arguments or its result are of other types",
    label = "not the arguments and result of a servlet",
    note = "a servlet is fn(&Request, &mut Response) -> Result or fn(&Request, &mut Body, &mut Response) -> Result",
    note = "either may have &State before the others, where State is Send + Sync and returned by the #[start] function"
)]
pub trait Handler<Shape>: Copy + Send + Sync + 'static {
    /// The type of module state that it wants, and its name.
    #[doc(hidden)]
    fn state() -> Option<(TypeId, &'static str)>;

    #[doc(hidden)]
    fn call(self, given: Arguments<'_>) -> Result;
}

/// All that a handler may be given.
#[doc(hidden)]
pub struct Arguments<'a> {
    pub(crate) state: Option<&'a (dyn Any + Send + Sync)>,
    pub(crate) request: &'a Request,
    pub(crate) body: &'a mut Body,
    pub(crate) response: &'a mut Response,
}

impl<'a> Arguments<'a> {
    fn state<S: 'static>(&self) -> &'a S {
        // INVARIANT: `create` refused the module unless its state is of the type that `Handler::state` names.
        self.state
            .and_then(|state| state.downcast_ref())
            .expect("the state's type was checked when the servlet was created")
    }
}

impl<F> Handler<fn(&Request, &mut Response)> for F
where
    F: Fn(&Request, &mut Response) -> Result + Copy + Send + Sync + 'static,
{
    fn state() -> Option<(TypeId, &'static str)> {
        None
    }

    fn call(self, given: Arguments<'_>) -> Result {
        self(given.request, given.response)
    }
}

impl<F> Handler<fn(&Request, &mut Body, &mut Response)> for F
where
    F: Fn(&Request, &mut Body, &mut Response) -> Result + Copy + Send + Sync + 'static,
{
    fn state() -> Option<(TypeId, &'static str)> {
        None
    }

    fn call(self, given: Arguments<'_>) -> Result {
        self(given.request, given.body, given.response)
    }
}

impl<F, S> Handler<fn(&S, &Request, &mut Response)> for F
where
    F: Fn(&S, &Request, &mut Response) -> Result + Copy + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    fn state() -> Option<(TypeId, &'static str)> {
        Some((TypeId::of::<S>(), type_name::<S>()))
    }

    fn call(self, given: Arguments<'_>) -> Result {
        self(given.state(), given.request, given.response)
    }
}

impl<F, S> Handler<fn(&S, &Request, &mut Body, &mut Response)> for F
where
    F: Fn(&S, &Request, &mut Body, &mut Response) -> Result + Copy + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    fn state() -> Option<(TypeId, &'static str)> {
        Some((TypeId::of::<S>(), type_name::<S>()))
    }

    fn call(self, given: Arguments<'_>) -> Result {
        self(given.state(), given.request, given.body, given.response)
    }
}
