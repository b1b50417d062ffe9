//! Who asks: what the session knows of a visitor. Sessions are the server's, so they survive reloads of this library.

use serde::{Deserialize, Serialize};
use servlet::{Request, Result};

use crate::store::Store;

const ATTRIBUTE: &str = "visitor";

/// A visitor. Fields that come later need `#[serde(default)]`: sessions of today will meet the library of tomorrow.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Visitor {
    /// Stands for the visitor in the database; empty: has not been here yet. The session's id would not do: it is a
    /// secret that changes.
    pub author: String,
    /// The name that was signed with last.
    #[serde(default)]
    pub name: String,
}

impl Visitor {
    /// Returns who asks.
    pub fn of(request: &Request) -> Result<Visitor> {
        match request.session_if_any()? {
            Some(session) => session.get_or_default(ATTRIBUTE),
            None => Ok(Visitor::default()),
        }
    }

    /// Returns who asks, known from now on.
    pub fn known(request: &Request, store: &Store) -> Result<Visitor> {
        let mut visitor = Visitor::of(request)?;
        if visitor.author.is_empty() {
            visitor.author = store.new_author()?;
            visitor.remember(request)?;
        }
        Ok(visitor)
    }

    /// Keeps what has changed.
    pub fn remember(&self, request: &Request) -> Result {
        request.session()?.set(ATTRIBUTE, self)
    }

    pub fn wrote(&self, author: &str) -> bool {
        !self.author.is_empty() && self.author == author
    }
}
