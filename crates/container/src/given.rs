//! What the configuration gives a context: a part of what its generations are made from (`webapp::Inputs`).
//!
//! Read anew when web.toml, a file that it names, or the server's configuration has changed; two that are equal make the same
//! generation, whatever has changed in the files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serval_config::{ContextSettings, Server, Upstream, Web};
use serval_loader::private_copy::Fingerprint;

use crate::webapp::Inputs;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// With the parameters and named values that server.toml gives. An error is what is wrong with it.
    pub web: Result<Web, String>,
    pub settings: ContextSettings,
    /// What answers in the place of the webapp.
    pub upstream: Option<Arc<Upstream>>,
    /// Errors show their reasons.
    pub development: bool,
}

/// A file that web.toml names, as it lay there; None: it cannot be seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    pub path: PathBuf,
    pub print: Option<Fingerprint>,
}

impl Named {
    fn of(path: &Path) -> Named {
        let print = |file: io::Result<_>| file.ok().map(|file| Fingerprint::of(path.display().to_string(), &file));
        Named { path: path.to_owned(), print: print(std::fs::metadata(path)) }
    }
}

/// Of which context, in which configuration.
pub struct Of<'a> {
    pub config: &'a Arc<Server>,
    pub host: &'a str,
    pub path: &'a str,
}

impl Inputs {
    /// Adds what the configuration gives. `last`: as it was at the last look, most often the same.
    pub fn given(mut self, of: &Of<'_>, last: &Inputs) -> Inputs {
        let named: Vec<Named> = last.named.iter().map(|file| Named::of(&file.path)).collect();
        let is_of_same = last.config.as_ref().is_some_and(|config| Arc::ptr_eq(config, of.config));
        if is_of_same && self.has_web_of(last) && named == last.named {
            (self.config, self.named, self.given) = (last.config.clone(), named, last.given.clone());
            return self;
        }
        let Some(host) = of.config.host(of.host) else { return self };
        let read = || of.config.read_web(host, of.path, &self.webapp, &self.inside.join("web.toml"));
        let mut found = read();
        self.named = found.files.iter().map(|path| Named::of(path)).collect();
        if !self.named.is_empty() {
            // Behind the look at them: what is written from now on is seen at the next one.
            found = read();
        }
        let given = Given {
            web: found.settings.map_err(|problems| problems.to_string()),
            settings: host.settings_for(of.path),
            upstream: host.upstream_for(of.path, &self.webapp).cloned(),
            development: of.config.development,
        };
        let same = last.given.as_ref().filter(|last| ***last == given);
        self.given = Some(same.cloned().unwrap_or_else(|| Arc::new(given)));
        self.config = Some(of.config.clone());
        self
    }
}
