//! A filter that was created, and the calls of its hooks.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;

use serval_abi::*;

use crate::config::Config;
use crate::description::Promise;
use crate::error::Refusal;
use crate::exchange::Exchange;
use crate::library::failure_text;
use crate::module::Module;
use crate::servlet::{Outcome, Scope};
use crate::table::starting;

pub struct Filter {
    name: String,
    promise: Promise,
    this: *mut c_void,
    /// A copy: a description of another version may be shorter.
    hooks: sv_filter,
    /// The library keeps its view.
    _config: Box<Config>,
    module: Arc<Module>,
}

// SAFETY: as `Module`; the config is never written after it was made.
unsafe impl Send for Filter {}
// SAFETY: as above.
unsafe impl Sync for Filter {}

/// A filter's handle, memory and state in one dispatch.
pub struct Entered {
    scope: Scope,
    state: *mut c_void,
}

// SAFETY: the state belongs to the filter, whose hooks servlet.h lets be called on any thread, one at a time for a dispatch.
unsafe impl Send for Entered {}

impl Entered {
    #[expect(clippy::new_without_default, reason = "it begins a dispatch, and is no value")]
    pub fn new() -> Entered {
        Entered { scope: Scope::new(), state: null_mut() }
    }
}

/// An error status, and a text for the log.
pub type Failed = (sv_status, String);

impl Filter {
    /// Creates an instance, named `name`, of the filter that the module's library declares at `index`. May block; called on a
    /// control thread.
    pub fn create(
        module: &Arc<Module>,
        index: usize,
        name: &str,
        init: Vec<(String, String)>,
    ) -> Result<Filter, Refusal> {
        let declared = &module.library().declared().filters[index];
        // SAFETY: `declared` was made of this array, so index is inside; it was read by its size.
        let hooks = unsafe { crate::sized::sized(*module.library().module().filters.add(index), SV_FILTER_SIZE_1_0) };
        let Some(hooks) = hooks else {
            return Err(Refusal::Description(format!("the filter `{name}` has changed")));
        };
        let config = Config::new(name, init);
        let mut this = null_mut();
        if let Some(create) = hooks.create {
            let mut error = sv_str::ABSENT;
            // SAFETY: by servlet.h: a control thread, after init, with places for the results; the config outlives the filter.
            let status = starting(module.context(), || unsafe {
                create(module.context(), module.this(), config.view(), &mut this, &mut error)
            });
            if status != SV_OK {
                return Err(Refusal::CreateFilter { filter: name.to_owned(), text: failure_text(status, error) });
            }
        }
        let promise = declared.promise;
        Ok(Filter { name: name.to_owned(), promise, this, hooks, _config: config, module: module.clone() })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn is_nonblocking(&self) -> bool {
        self.promise == Promise::Nonblocking
    }

    pub fn has_on_response(&self) -> bool {
        self.hooks.on_response.is_some()
    }

    pub fn has_on_body(&self) -> bool {
        self.hooks.on_body.is_some()
    }

    /// `Next`: go on, also without the hook; `Done`: answered; `Failed`.
    pub fn on_request(&self, entered: &mut Entered, exchange: &mut dyn Exchange) -> Outcome {
        let Some(on_request) = self.hooks.on_request else { return Outcome::Next };
        let mut state = null_mut();
        let entry = match entered.scope.enter(exchange, &self.module, &self.name) {
            Ok(entry) => entry,
            Err(fault) => return Outcome::Failed(fault.status, fault.text.into_owned()),
        };
        // SAFETY: by servlet.h: after create, with a handle that this thread owns, and a place for the state.
        let status = unsafe { on_request(self.this, entry.raw(), &mut state) };
        drop(entry);
        entered.state = state;
        match status {
            SV_PENDING => Outcome::Failed(SV_E_STATE, "a filter cannot return SV_PENDING".to_owned()),
            status => Outcome::of(status),
        }
    }

    /// The head is about to be committed.
    pub fn on_response(&self, entered: &mut Entered, exchange: &mut dyn Exchange) -> Result<(), Failed> {
        let Some(on_response) = self.hooks.on_response else { return Ok(()) };
        let state = entered.state;
        self.hook(entered, exchange, |this, exchange| {
            // SAFETY: by servlet.h, with the state that on_request has left.
            unsafe { on_response(this, exchange, state) }
        })
    }

    /// A piece of the body; what the filter writes meanwhile goes on in its place.
    pub fn on_body(
        &self,
        entered: &mut Entered,
        exchange: &mut dyn Exchange,
        bytes: &[u8],
        last: bool,
    ) -> Result<(), Failed> {
        let Some(on_body) = self.hooks.on_body else { return Ok(()) };
        let state = entered.state;
        self.hook(entered, exchange, |this, exchange| {
            // SAFETY: as above; the bytes live until it returns.
            unsafe { on_body(this, exchange, state, bytes.as_ptr(), bytes.len(), last.into()) }
        })
    }

    /// The dispatch is over. Frees the state.
    pub fn on_end(&self, mut entered: Entered, exchange: &mut dyn Exchange, result: sv_status) {
        let Some(on_end) = self.hooks.on_end else { return };
        let state = entered.state;
        if let Ok(entry) = entered.scope.enter(exchange, &self.module, &self.name) {
            // SAFETY: by servlet.h: once for each on_request that let the request pass.
            unsafe { on_end(self.this, entry.raw(), state, result) };
        }
    }

    fn hook(
        &self,
        entered: &mut Entered,
        exchange: &mut dyn Exchange,
        call: impl FnOnce(*mut c_void, *mut sv_exchange) -> sv_status,
    ) -> Result<(), Failed> {
        let entry = entered.scope.enter(exchange, &self.module, &self.name);
        let entry = entry.map_err(|fault| (fault.status, fault.text.into_owned()))?;
        match Outcome::of(call(self.this, entry.raw())) {
            Outcome::Done => Ok(()),
            Outcome::Failed(status, text) => Err((status, text)),
            _ => Err((SV_E_STATE, "it returned a status that means nothing here".to_owned())),
        }
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        if let Some(destroy) = self.hooks.destroy {
            // SAFETY: create has succeeded, and this was the last reference.
            unsafe { destroy(self.this) };
        }
    }
}
