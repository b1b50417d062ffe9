//! What a request means, step by step, by the files of a home as they lie there now: the data of `serval explain`.
//!
//! Each step is decided by the function that decides it for a request, in the same order as in `Container::answer`; here it is put
//! into words, with the line of configuration behind it. Libraries are opened for what they declare, as `serval inspect` does it; no
//! init, servlet or filter of theirs runs. Nothing is written, and a server that runs in the same home is not asked: it may still have
//! a generation from before the last change.

mod cleaning;
mod within;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderName, LOCATION};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use serval_config::lines::{Part, line_of, line_of_server};
use serval_config::{ContextName, Host, Server, Upstream};

use crate::answer::Answered;
use crate::body::ResponseBody;
use crate::context::{Context, OfHost};
use crate::deploy::unpacked_last;
use crate::error_page::HostPages;
use crate::generation::{Files, Generation, Ground};
use crate::proxy::outgoing;
use crate::routes::{DEFAULT_HOST, HostRule, Hosts, Routes, VersionRule, Versions};
use crate::target::{Authority, Refused, Target};
use crate::webapp::{Complaints, Found, wanted};
use crate::{Peer, Readiness, dispatch, exchange, tls};

/// A request as it is typed: nothing of it needs to be well-formed.
pub struct Asked<'a> {
    pub method: &'a str,
    /// The request target.
    pub url: &'a str,
    /// The Host header; `None`: the authority of the URL, else the name of the first host.
    pub host: Option<&'a str>,
    /// Further headers, each as in `Accept: text/html`.
    pub headers: &'a [String],
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is decided: `target`, `host`, `context`, `servlet`, ..., and at last `answer`.
    pub name: &'static str,
    pub result: String,
    /// Why.
    pub notes: Vec<Note>,
}

/// A sentence without an end, and where what it says is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub text: String,
    /// The rule that decides, as in `Servlet 12.2`.
    pub rule: Option<&'static str>,
    pub at: Option<At>,
}

impl Note {
    fn new(text: impl Into<String>) -> Note {
        Note { text: text.into(), rule: None, at: None }
    }

    fn by(self, rule: &'static str) -> Note {
        Note { rule: Some(rule), ..self }
    }

    fn at(self, at: Option<At>) -> Note {
        Note { at, ..self }
    }
}

/// Where something is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// A configuration file, and the line, from 1.
    Line(PathBuf, usize),
    /// The servlet library that declares it.
    Library(PathBuf),
}

impl At {
    /// As people read it: relative to the home when it lies in there.
    pub fn shown(&self, home: &Path) -> String {
        match self {
            At::Line(file, line) => format!("{}:{line}", below(home, file)),
            At::Library(file) => format!("declared by {}", below(home, file)),
        }
    }
}

fn below(home: &Path, path: &Path) -> String {
    path.strip_prefix(home).unwrap_or(path).display().to_string()
}

impl Step {
    fn note(&mut self, note: Note) -> &mut Step {
        self.notes.push(note);
        self
    }
}

/// Returns the steps of a request; never none, and the last one says what is answered, or who answers.
///
/// Reads the descriptors of the host's webapps, and opens the libraries of the one that is asked for. To be called inside of a tokio
/// runtime.
pub fn explain(config: &Server, asked: &Asked<'_>) -> Vec<Step> {
    let mut explanation = Explanation { config, listener: 0, steps: Vec::new() };
    explanation.request(asked);
    explanation.steps
}

struct Explanation<'c> {
    config: &'c Server,
    /// The number of the listener that takes the request.
    listener: usize,
    steps: Vec<Step>,
}

impl Explanation<'_> {
    fn step(&mut self, name: &'static str, result: impl Into<String>) -> &mut Step {
        let number = self.steps.len();
        self.steps.push(Step { name, result: result.into(), notes: Vec::new() });
        &mut self.steps[number]
    }

    /// A sentence with paths in it, each relative to the home when it lies in there.
    fn without_home(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.config.home.display().to_string().trim_end_matches('/')), "")
    }

    fn refused(&mut self, Refused(status, _): Refused) {
        self.step("answer", format!("{status}, and the connection is closed"));
    }

    /// The first of these places that server.toml has.
    fn line(&self, places: &[&[Part<'_>]]) -> Option<At> {
        let line = |place: &&[Part<'_>]| line_of_server(self.config, place).map(|(file, line)| At::Line(file, line));
        places.iter().find_map(line)
    }

    /// Reads the line and the Host header of a request (RFC 9112 3).
    fn request(&mut self, asked: &Asked<'_>) {
        let Asked { method, url, .. } = *asked;
        let uri = Uri::try_from(url);
        let authority = uri.as_ref().ok().and_then(|uri| uri.authority()).map(|authority| authority.as_str());
        let host = asked.host.or(authority).unwrap_or(&self.config.hosts[0].name).to_owned();
        let several = self.config.listeners.len() > 1;
        let port = host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let by_port =
            self.config.listeners.iter().position(|listener| port.is_some() && listener.address.port() == port);
        self.listener = by_port.unwrap_or(0);
        let listener = self.config.listeners[self.listener].clone();
        let at = self.line(&[&[Part::Key("listener"), Part::Nth(self.listener)]]);
        let step = self.step("request", format!("{method} {url} HTTP/1.1, Host: {host}"));
        if asked.host.is_none() && authority.is_none() {
            step.note(Note::new("the Host is the name of the first host; --host names another"));
        }
        if several {
            let which = match by_port {
                Some(_) => format!("as the listener of its port takes it, {}", listener.address),
                None => {
                    format!("as the first listener takes it, {}; a port in the Host names another", listener.address)
                }
            };
            step.note(Note::new(which).at(at));
        }
        let bad_request = Refused(StatusCode::BAD_REQUEST, "");
        let (method, uri, host) = match (Method::from_bytes(method.as_bytes()), uri, HeaderValue::try_from(&host)) {
            (Err(_), ..) => {
                step.note(Note::new("the method is no token").by("RFC 9110 9.1"));
                return self.refused(bad_request);
            }
            // Those who parse URIs cut it off, and what is behind it; the server does not let it come so far.
            (_, Ok(_), _) if url.contains('#') => {
                step.note(Note::new("the target has a `#`, which is never sent").by("RFC 9112 3.2"));
                return self.refused(bad_request);
            }
            (_, Err(error), _) => {
                step.note(Note::new(format!("the target is not one of HTTP: {error}")).by("RFC 9112 3.2"));
                return self.refused(bad_request);
            }
            (.., Err(_)) => {
                step.note(Note::new("the Host cannot be the value of a header").by("RFC 9110 5.5"));
                return self.refused(bad_request);
            }
            (Ok(method), Ok(uri), Ok(host)) => (method, uri, host),
        };
        let mut request = Request::new(());
        (*request.method_mut(), *request.uri_mut()) = (method, uri);
        request.headers_mut().insert(HOST, host);
        for header in asked.headers {
            let parts = header
                .split_once(':')
                .map(|(name, value)| (HeaderName::try_from(name.trim()), HeaderValue::try_from(value.trim())));
            let Some((Ok(name), Ok(value))) = parts else {
                step.note(Note::new(format!("`{header}` is not a header")).by("RFC 9110 5.1"));
                return self.refused(bad_request);
            };
            request.headers_mut().append(name, value);
        }
        let local = listener.address.as_told();
        let peer = Arc::new(Peer::new(local, local, 0, false, Arc::new(listener)));
        self.host(request.into_parts().0, peer);
    }

    /// Finds the host, and cleans the target.
    fn host(&mut self, mut head: Parts, peer: Arc<Peer>) {
        // Without the threads of their logs.
        let quiet = |host: &Host| Host { access_log: None, ..host.clone() };
        let hosts = self.config.hosts.iter().map(quiet).collect();
        let hosts = Hosts::new(&Server { hosts, ..self.config.clone() });
        let server = match Authority::read(&head, &peer) {
            Ok(server) => server,
            Err(refused) => {
                self.step("host", "none").note(Note::new(format!("refused: {}", refused.1)).by("RFC 9112 3.2"));
                return self.refused(refused);
            }
        };
        let name = server.name.clone().unwrap_or_default();
        let (number, rule) = hosts.find(server.name.as_deref());
        let (why, at) = self.why_host(number, rule, &name);
        let config = self.config;
        self.step("host", &config.hosts[number].name).note(Note::new(why).at(at));
        let untouched = head.clone();
        let rules = &peer.listener.uri;
        let raw = head.uri.path_and_query().map_or("/", |raw| raw.as_str()).to_owned();
        let target = match Target::read(&mut head, server.clone(), rules) {
            Ok(target) => target,
            Err(refused) => {
                let takes = |rules: &_| Target::read(&mut untouched.clone(), server.clone(), rules).is_ok();
                let keys = cleaning::keys_that_allow(&raw, rules, takes);
                let at = self.line(&[&[Part::Key("listener"), Part::Nth(self.listener)]]);
                let step = self.step("target", "refused").note(Note::new(refused.1));
                match keys.as_slice() {
                    [] => step.note(Note::new("no key of server.toml lets it in")),
                    keys => {
                        step.note(Note::new(format!("{} in [[listener]] would let it in", keys.join(" and "))).at(at))
                    }
                };
                return self.refused(refused);
            }
        };
        let step = self.step("target", target.path());
        for change in cleaning::changes(target.request_uri(), rules) {
            step.note(Note::new(change).by("Servlet 3.5.2"));
        }
        if target.path() == "*" {
            let answer = dispatch::options_of_the_server(&peer);
            return self.answer(&answer);
        }
        if hosts.ready_path.as_deref() == Some(target.path()) {
            let at = self.line(&[&[Part::Key("server"), Part::Key("ready_path")]]);
            let why = "the server itself tells there whether it is ready, before any context";
            self.step("server", "ready_path").note(Note::new(why).at(at));
            return self.answer(&without_page(Readiness::Ready.answer(&head.method)));
        }
        if let Some(redirect) = tls::to_https(&peer, &head.method, &target, || false) {
            let at = self.line(&[&[Part::Key("listener"), Part::Nth(self.listener), Part::Key("https_redirect_port")]]);
            let why = "by `https_redirect_port`, unless a proxy that the context believes says that the client has come by https";
            self.step("https", "the request has come without TLS").note(Note::new(why).at(at));
            return self.answer(&redirect);
        }
        self.context(&hosts, number, target, head, peer);
    }

    fn why_host(&self, number: usize, rule: HostRule, name: &str) -> (String, Option<At>) {
        let host = &self.config.hosts[number];
        let key = |key: &'static str| [Part::Key("host"), Part::Nth(number), Part::Key(key)];
        let header = [Part::Key("host"), Part::Nth(number)];
        let alias = |alias: &str| {
            let place = host.aliases.iter().position(|other| other == alias).unwrap_or(0);
            let [list, of, aliases] = key("aliases");
            self.line(&[&[list, of, aliases, Part::Nth(place)]])
        };
        match rule {
            HostRule::Name if host.name == name => ("by its name".to_owned(), self.line(&[&key("name"), &header])),
            HostRule::Name => (format!("by its alias `{name}`"), alias(name)),
            HostRule::Wildcard => {
                let wildcard = format!("*.{}", name.split_once('.').map_or("", |(_, rest)| rest));
                (format!("by its alias `{wildcard}`, which stands for one more label"), alias(&wildcard))
            }
            HostRule::Default => {
                (format!("no host is named `{name}`, so the first one answers"), self.line(&[&header]))
            }
        }
    }

    /// Finds the context and its version among what lies in the host's folders.
    fn context(&mut self, hosts: &Hosts, number: usize, target: Target, head: Parts, peer: Arc<Peer>) {
        let (mut routes, mut unserved) = (Routes::default(), Complaints::default());
        let host = &self.config.hosts[number];
        for (name, found) in wanted(host, &mut unserved).unwrap_or_default() {
            let webapp = match found {
                Found::Folder(webapp) | Found::Upstream(webapp) => webapp,
                Found::Archive(file) => match unpacked_last(self.config, &(host.name.clone(), name.clone())) {
                    Some(webapp) => webapp,
                    None => {
                        let sentence = format!("{file:?} was not unpacked yet: start the server once");
                        unserved.insert(file, sentence);
                        continue;
                    }
                },
            };
            match mount(self.config, number, name, &webapp) {
                Ok(context) => routes.insert(Arc::new(context)),
                Err(why) => drop(unserved.insert(webapp.clone(), format!("{webapp:?} is not served: {why}"))),
            }
        }
        hosts.all[number].routes.store(Arc::new(routes));
        let routes = hosts.all[number].routes.load();
        let found = routes.find(target.path()).map(|versions| (versions, versions.choose(&target, &head.headers)));
        let path = found.map(|(_, (context, _))| context.path.as_str());
        let (result, why) = match path {
            Some("") => ("/", "the root: no other context has a path that the target lies in"),
            Some(path) => (path, "the longest path that the target lies in"),
            None => ("none", "no context has a path that the target lies in, and there is no root"),
        };
        let place = found.map(|(_, (context, _))| self.why_context(context));
        let missing = path.is_none_or(str::is_empty);
        let mut unserved: Vec<String> =
            unserved.values().filter(|_| missing).map(|why| self.without_home(why)).collect();
        unserved.sort();
        let step = self.step("context", result).note(Note::new(why).by("Servlet 12.1"));
        if let Some((folder, at)) = place {
            step.note(Note::new(folder).at(at));
        }
        // One of them may have been meant.
        for line in unserved.iter().flat_map(|why| why.lines()) {
            step.note(Note::new(line));
        }
        let Some((versions, (context, rule))) = found else {
            self.step("answer", StatusCode::NOT_FOUND.to_string());
            return;
        };
        self.version(versions, context, rule);
        let webapp = context.current.load().webapp.clone();
        if let Some(upstream) = host.upstream_for(&context.path, &webapp) {
            return self.upstream(upstream, context, target, &peer);
        }
        let Parts { method, version, headers, .. } = head;
        self.within(
            context,
            exchange::Request { id: 0, method, version, headers, target, peer, client: None, body: None, noting: None },
        );
    }

    /// Where a request goes that an upstream answers.
    fn upstream(&mut self, upstream: &Upstream, context: &Context, mut target: Target, peer: &Peer) {
        target.enter(&context.path, &peer.listener.uri);
        let sent = outgoing::target(&target, context, upstream);
        let place = Upstream { path: None, ..upstream.clone() };
        self.step("upstream", format!("{place} is asked for {sent}"))
            .note(Note::new("filters and files of web.toml have no part in it"));
        self.step("answer", "what the upstream says");
    }

    /// The folder of a context, or its upstream, and the entry that names it.
    fn why_context(&self, context: &Context) -> (String, Option<At>) {
        let webapp = &context.current.load().webapp;
        let of = context.host.load();
        let number = self.config.hosts.iter().position(|host| host.name == of.name).unwrap_or(DEFAULT_HOST);
        let mut entries = self.config.hosts[number].contexts.iter();
        let entry = entries.position(|entry| entry.path == context.path && entry.webapp == *webapp);
        let at = entry.and_then(|entry| {
            let host = [Part::Key("host"), Part::Nth(number), Part::Key("context")];
            self.line(&[&[host[0], host[1], host[2], Part::Nth(entry), Part::Key("path")]])
        });
        let upstream = self.config.hosts[number].upstream_for(&context.path, webapp);
        let what = upstream.map_or_else(
            || format!("the folder {}", below(&self.config.home, webapp)),
            |upstream| format!("the upstream {upstream}"),
        );
        (what, at)
    }

    fn version(&mut self, versions: &Versions, context: &Context, rule: VersionRule) {
        let name = |context: &Context| context.version.clone().unwrap_or("none".to_owned());
        if rule == VersionRule::Only && context.version.is_none() {
            return;
        }
        let all: Vec<String> = versions.all().map(|context| name(context)).collect();
        let step = self.step("version", name(context));
        if rule != VersionRule::Only {
            let all = all.join(", ");
            step.note(Note::new(format!("a request without a session gets the newest of {all}, compared as text")));
        }
    }

    /// The answer, as far as it is known without a servlet.
    fn answer(&mut self, answer: &Response<ResponseBody>) {
        let step = self.step("answer", answer.status().to_string());
        // The page of an error has its own type.
        let of_content =
            [CONTENT_TYPE, CONTENT_ENCODING, CACHE_CONTROL].into_iter().filter(|_| answer.status().is_success());
        for name in [LOCATION, ALLOW].into_iter().chain(of_content) {
            for value in answer.headers().get_all(&name) {
                step.note(Note::new(format!("{name}: {}", value.to_str().unwrap_or("?"))));
            }
        }
    }
}

/// Of an error, all but its page.
fn without_page(answered: Answered) -> Response<ResponseBody> {
    answered.unwrap_or_else(|problem| problem.response(ResponseBody::empty(), None))
}

/// The first of these places that the file has.
fn first_line(file: &Path, places: &[&[Part<'_>]]) -> Option<At> {
    places.iter().find_map(|place| Some(At::Line(file.to_owned(), line_of(file, place)?)))
}

/// A context as `deploy` mounts it, before its libraries are there.
fn mount(config: &Server, host: usize, name: ContextName, webapp: &Path) -> Result<Context, String> {
    let settings = config.hosts[host].settings_for(&name.path);
    let web = config.load_web(&config.hosts[host], &name.path, webapp).map_err(|problems| problems.to_string())?;
    let files = Files::of(webapp, config.hosts[host].upstream_for(&name.path, webapp));
    let (named, given) = ((0, name.display().into()), (web, settings, config.development));
    let ground = Ground::open(named, files, given, None, Arc::default()).map_err(|error| error.to_string())?;
    let first = Generation::of_files(ground);
    let of_host = OfHost { name: config.hosts[host].name.clone(), pages: HostPages::default() };
    Ok(Context::new(name, first, Arc::new(of_host)))
}
