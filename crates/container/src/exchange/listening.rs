//! What listener functions see of an exchange (Servlet 11): the request, its attributes and the session. The response is not theirs.

use serval_loader::exchange::printable;
use serval_loader::filter::Failed;

use super::{Exchange, Stage};
use crate::events::Change;
use crate::generation::Generation;

impl Exchange {
    /// Lets `tell` call listener functions with it.
    pub fn shown(&mut self, tell: impl FnOnce(&mut Exchange) -> Result<(), Failed>) -> Result<(), Failed> {
        let stage = std::mem::replace(&mut self.chain.stage, Stage::Event);
        // What a filter writes just now.
        let output = self.chain.output.take();
        let told = tell(self);
        (self.chain.stage, self.chain.output) = (stage, output);
        told
    }

    pub fn request_event(&mut self, kind: u32, change: Change<'_>) {
        self.event(|generation, exchange| generation.request_event(kind, exchange, change));
    }

    pub(super) fn session_event(&mut self, kind: u32, id: &str, change: Change<'_>) {
        self.event(|generation, exchange| generation.session_event(kind, exchange, id, change));
    }

    /// An error changes nothing: it is logged, and what was said of it is forgotten.
    fn event(&mut self, tell: impl FnOnce(&Generation, &mut Exchange) -> Result<(), Failed>) {
        let generation = self.generation.clone();
        let before = (self.failure.take(), self.unavailable.take());
        if let Err((status, text)) = self.shown(|exchange| tell(&generation, exchange))
            && !self.panic_was_said(status)
        {
            let (context, generation, request) = (&generation.context, generation.number, self.request.id);
            let text = self.failure.take().map_or(text, |failure| failure.text);
            tracing::error!(%context, generation, request, "a listener function failed: {}", printable(&text));
        }
        (self.failure, self.unavailable) = before;
    }
}
