//! Which functions are servlets: chosen by the types of their arguments.

use std::any::Any;
use std::future::Future;

use crate::hooks::{Type, type_of};
use crate::{AsyncBody, Body, Request, Response, Result};

/// A function that answers as a servlet. `Shape` tells the four kinds apart and is always inferred.
///
/// - `fn(&Request, &mut Response) -> Result`
/// - `fn(&Request, &mut Body, &mut Response) -> Result`
/// - `fn(&State, &Request, &mut Response) -> Result`
/// - `fn(&State, &Request, &mut Body, &mut Response) -> Result`
///
/// `State` is what the module's [`start`](macro@crate::start) function returns. See
/// [`AsyncHandler`] for async functions.
#[diagnostic::on_unimplemented(
    message = "this function cannot be a servlet: its arguments or its result are of other types",
    label = "not the arguments and result of a servlet",
    note = "a servlet is fn(&Request, &mut Response) -> Result or fn(&Request, &mut Body, &mut Response) -> Result",
    note = "either may have &State before the others, where State is Send + Sync and returned by the #[start] function"
)]
pub trait Handler<Shape>: Copy + Send + Sync + 'static {
    /// The type of module state that it wants, and its name.
    #[doc(hidden)]
    fn state() -> Option<Type>;

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

/// The state, as the type that a handler wants.
fn state<S: 'static>(state: Option<&(dyn Any + Send + Sync)>) -> &S {
    // INVARIANT: `create` refused the module unless its state is of the type that the handler's `state` names.
    state.and_then(|state| state.downcast_ref()).expect("the state's type was checked when the servlet was created")
}

impl<F> Handler<fn(&Request, &mut Response)> for F
where
    F: Fn(&Request, &mut Response) -> Result + Copy + Send + Sync + 'static,
{
    fn state() -> Option<Type> {
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
    fn state() -> Option<Type> {
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
    fn state() -> Option<Type> {
        Some(type_of::<S>())
    }

    fn call(self, given: Arguments<'_>) -> Result {
        self(state(given.state), given.request, given.response)
    }
}

impl<F, S> Handler<fn(&S, &Request, &mut Body, &mut Response)> for F
where
    F: Fn(&S, &Request, &mut Body, &mut Response) -> Result + Copy + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    fn state() -> Option<Type> {
        Some(type_of::<S>())
    }

    fn call(self, given: Arguments<'_>) -> Result {
        self(state(given.state), given.request, given.body, given.response)
    }
}

/// An async function that answers as a servlet. `Shape` tells the four kinds apart and is always inferred.
///
/// - `async fn(&Request, &mut Response) -> Result`
/// - `async fn(&Request, &mut AsyncBody, &mut Response) -> Result`
/// - `async fn(&State, &Request, &mut Response) -> Result`
/// - `async fn(&State, &Request, &mut AsyncBody, &mut Response) -> Result`
///
/// Its future moves between threads, so what lives over an `.await` is `Send`.
#[diagnostic::on_unimplemented(
    message = "this async function cannot be a servlet: its arguments or its result are of other types, or its future is not Send",
    label = "not the arguments and result of an async servlet",
    note = "an async servlet is async fn(&Request, &mut Response) -> Result or \
            async fn(&Request, &mut AsyncBody, &mut Response) -> Result; its body is an AsyncBody, not a Body",
    note = "either may have &State before the others, where State is Send + Sync and returned by the #[start] function",
    note = "its future moves between threads: it may not hold what is not Send, such as an Rc or a MutexGuard, over an .await"
)]
pub trait AsyncHandler<Shape>: Copy + Send + Sync + 'static {
    /// The type of module state that it wants, and its name.
    #[doc(hidden)]
    fn state() -> Option<Type>;

    #[doc(hidden)]
    fn call<'a>(self, given: AsyncArguments<'a>) -> impl Future<Output = Result> + Send + 'a;
}

/// All that an async handler may be given.
#[doc(hidden)]
pub struct AsyncArguments<'a> {
    pub(crate) state: Option<&'a (dyn Any + Send + Sync)>,
    pub(crate) request: &'a Request,
    pub(crate) body: &'a mut AsyncBody,
    pub(crate) response: &'a mut Response,
}

/// An async function of so many arguments, with the lifetime that its future borrows them for. The compiler cannot say "the
/// future that this function returns is Send, for each lifetime" in a shorter way yet.
macro_rules! async_function {
    ($name:ident($($type:ident),*)) => {
        #[doc(hidden)]
        pub trait $name<'a, $($type),*>: Fn($($type),*) -> Self::Future {
            type Future: Future<Output = Result> + Send + 'a;
        }

        impl<'a, F, Fut, $($type),*> $name<'a, $($type),*> for F
        where
            F: Fn($($type),*) -> Fut,
            Fut: Future<Output = Result> + Send + 'a,
        {
            type Future = Fut;
        }
    };
}

async_function!(AsyncTwo(A, B));
async_function!(AsyncThree(A, B, C));
async_function!(AsyncFour(A, B, C, D));

impl<F> AsyncHandler<fn(&Request, &mut Response)> for F
where
    F: for<'a> AsyncTwo<'a, &'a Request, &'a mut Response> + Copy + Send + Sync + 'static,
{
    fn state() -> Option<Type> {
        None
    }

    fn call<'a>(self, given: AsyncArguments<'a>) -> impl Future<Output = Result> + Send + 'a {
        self(given.request, given.response)
    }
}

impl<F> AsyncHandler<fn(&Request, &mut AsyncBody, &mut Response)> for F
where
    F: for<'a> AsyncThree<'a, &'a Request, &'a mut AsyncBody, &'a mut Response> + Copy + Send + Sync + 'static,
{
    fn state() -> Option<Type> {
        None
    }

    fn call<'a>(self, given: AsyncArguments<'a>) -> impl Future<Output = Result> + Send + 'a {
        self(given.request, given.body, given.response)
    }
}

impl<F, S> AsyncHandler<fn(&S, &Request, &mut Response)> for F
where
    F: for<'a> AsyncThree<'a, &'a S, &'a Request, &'a mut Response> + Copy + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    fn state() -> Option<Type> {
        Some(type_of::<S>())
    }

    fn call<'a>(self, given: AsyncArguments<'a>) -> impl Future<Output = Result> + Send + 'a {
        self(state(given.state), given.request, given.response)
    }
}

impl<F, S> AsyncHandler<fn(&S, &Request, &mut AsyncBody, &mut Response)> for F
where
    F: for<'a> AsyncFour<'a, &'a S, &'a Request, &'a mut AsyncBody, &'a mut Response> + Copy + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    fn state() -> Option<Type> {
        Some(type_of::<S>())
    }

    fn call<'a>(self, given: AsyncArguments<'a>) -> impl Future<Output = Result> + Send + 'a {
        self(state(given.state), given.request, given.body, given.response)
    }
}
