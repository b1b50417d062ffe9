//! The session of an exchange (Servlet 7, SEMANTICS 17): found by the id that the client brought, made when it is first asked for.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};
use serval_abi::{
    SV_E_STATE, SV_EVENT_SESSION_ATTRIBUTE, SV_EVENT_SESSION_CREATED, SV_EVENT_SESSION_DESTROYED,
    SV_EVENT_SESSION_ID_CHANGED,
};
use serval_config::{Secure, SessionSettings, WithoutEquals};
use serval_loader::exchange::{Answer, Exchange as _, Fault, SessionInfo};

use super::{Exchange, Stage};
use crate::events::Change;
use crate::generation::Generation;
use crate::parameters;
use crate::sessions::Session;
use crate::target::Target;

/// What an exchange has to do with sessions.
#[derive(Default)]
pub struct Use {
    /// The id in the URL, where ids are taken from there.
    in_url: Option<String>,
    /// The client's ids were looked at.
    looked: bool,
    current: Option<Arc<Session>>,
    /// What the client sent.
    requested: Option<String>,
    by_url: bool,
    was_valid: bool,
    /// The client does not know the id yet.
    news: bool,
    /// Its listener functions are being told that it ends: they may still look at its attributes.
    ending: bool,
}

/// The ids of sessions that a client sends: of its cookies, and only if there are none, of the URL.
pub struct Requested {
    pub ids: Vec<String>,
    pub by_url: bool,
}

impl Requested {
    fn new(cookies: Vec<(String, String)>, in_url: Option<String>, settings: &SessionSettings) -> Requested {
        let named = cookies.into_iter().filter(|(known, _)| settings.cookies && *known == settings.cookie_name);
        let ids: Vec<String> = named.map(|(_, value)| value).collect();
        match in_url.filter(|_| ids.is_empty()) {
            Some(id) => Requested { ids: vec![id], by_url: true },
            None => Requested { ids, by_url: false },
        }
    }
}

/// The ids of sessions that a request has for a context, before there is an exchange.
pub fn requested_sessions(target: &Target, headers: &HeaderMap, generation: &Generation) -> Requested {
    let mut cookies = Vec::new();
    headers
        .get_all(COOKIE)
        .iter()
        .for_each(|header| parameters::cookies(header.as_bytes(), WithoutEquals::Name, &mut cookies));
    Requested::new(cookies, id_in_url(target, generation), &generation.session_settings)
}

fn id_in_url(target: &Target, generation: &Generation) -> Option<String> {
    let parameter = generation.session_settings.url_rewriting.then(|| generation.session_parameter())?;
    target.path_parameter(parameter).map(str::to_owned)
}

impl Use {
    /// Of a request, before any dispatch has changed its target.
    pub fn new(target: &Target, generation: &Generation) -> Use {
        let mut session = Use::default();
        session.in_url = id_in_url(target, generation);
        session
    }

    pub fn has_news(&self) -> bool {
        self.news
    }

    /// The request is over for its session.
    fn leave(&mut self) {
        // Another one is not the one that the client has asked for.
        self.was_valid = false;
        if let Some(session) = self.current.take() {
            session.leave();
        }
    }
}

/// However its exchange has ended.
impl Drop for Use {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Exchange {
    fn session_settings(&self) -> &SessionSettings {
        &self.generation.session_settings
    }

    /// Looks for the session that the client means: of several cookies the first one that is valid, else the last is what it sent.
    fn look_for_session(&mut self) {
        if std::mem::replace(&mut self.session.looked, true) {
            return;
        }
        let cookies = self.cookies().map(<[_]>::to_vec).unwrap_or_default();
        let Requested { ids, by_url } = Requested::new(cookies, self.session.in_url.take(), self.session_settings());
        let sessions = &self.context.sessions;
        let found = ids.iter().find_map(|id| Some((id.clone(), sessions.enter(id)?)));
        (self.session.requested, self.session.by_url) = (ids.last().cloned(), by_url);
        if let Some((id, session)) = found {
            self.session.requested = Some(id);
            (self.session.current, self.session.was_valid) = (Some(session), true);
        }
    }

    /// The session, as long as it lives.
    fn live_session(&mut self) -> Answer<Arc<Session>> {
        self.look_for_session();
        match &self.session.current {
            Some(session) if session.is_valid() => Ok(session.clone()),
            _ => Err(Fault::new(SV_E_STATE, "the session was invalidated, or there is none")),
        }
    }

    fn readable_session(&mut self) -> Answer<Arc<Session>> {
        match &self.session.current {
            Some(session) if self.session.ending => Ok(session.clone()),
            _ => self.live_session(),
        }
    }

    /// Whether there is one now.
    pub(super) fn find_session(&mut self, create: bool) -> Answer<bool> {
        self.look_for_session();
        if self.session.current.as_ref().is_some_and(|session| session.is_valid()) {
            return Ok(true);
        }
        if !create {
            return Ok(false);
        }
        let by_cookie = self.session_settings().cookies;
        if by_cookie && self.response.is_committed() {
            return Err(Fault::new(
                SV_E_STATE,
                "the response is committed, so the client cannot be told of a new session",
            ));
        }
        if matches!(self.chain.stage, Stage::Body | Stage::End) {
            return Err(Fault::new(SV_E_STATE, "a filter makes no session here"));
        }
        self.session.leave();
        let (settings, theirs) = (self.session_settings(), self.id_to_share());
        let session = self.context.sessions.create(theirs, settings.timeout, settings.sessions_max)?;
        let id = session.facts().id;
        (self.session.current, self.session.news) = (Some(session), by_cookie);
        self.session_event(SV_EVENT_SESSION_CREATED, &id, Change::default());
        Ok(true)
    }

    /// The id that a cookie has brought, where it may be that of the new session: if it is that of a session in another context of
    /// the host. What a client makes up is never taken.
    fn id_to_share(&self) -> Option<&str> {
        let brought = self.session.requested.as_deref().filter(|_| !self.session.by_url)?;
        (self.session_settings().shared_id && self.context.is_known_beside(brought)).then_some(brought)
    }

    pub(super) fn info_of_session(&mut self) -> SessionInfo {
        self.look_for_session();
        let facts = self.session.current.as_ref().filter(|session| session.is_valid()).map(|session| {
            let facts = session.facts();
            (facts, session.created)
        });
        let by_url = self.session.by_url;
        let requested = self.session.requested.clone();
        SessionInfo {
            id: facts.as_ref().map(|(facts, _)| facts.id.to_string()),
            is_new: facts.as_ref().is_some_and(|(facts, _)| facts.is_new),
            requested_by_cookie: requested.is_some() && !by_url,
            requested_by_url: requested.is_some() && by_url,
            requested_id: requested,
            requested_valid: self.session.was_valid && facts.is_some(),
            created: facts.as_ref().map_or(0, |(_, created)| *created),
            accessed: facts.as_ref().map_or(0, |(facts, _)| facts.accessed),
            max_inactive: facts.as_ref().map_or(0, |(facts, _)| facts.max_inactive),
        }
    }

    /// The response is about to be committed: a client that does not know its id yet is told.
    pub(super) fn send_session_cookie(&mut self) {
        if !std::mem::replace(&mut self.session.news, false) {
            return;
        }
        let Ok(session) = self.live_session() else { return };
        let cookie = self.session_cookie(&session.facts().id);
        if let Ok(value) = HeaderValue::from_str(&cookie) {
            self.response.headers.append(SET_COOKIE, value);
        }
    }

    fn session_cookie(&self, id: &str) -> String {
        let settings = self.session_settings();
        let mut cookie = format!("{}={id}", settings.cookie_name);
        if let Some(age) = settings.cookie_max_age {
            cookie.push_str(&format!("; Max-Age={}", age.as_secs()));
            let expires = std::time::SystemTime::now() + age;
            cookie.push_str(&format!("; Expires={}", httpdate::fmt_http_date(expires)));
        }
        if let Some(domain) = &settings.cookie_domain {
            cookie.push_str(&format!("; Domain={domain}"));
        }
        let own_path = || Target::encoded(&self.context.path);
        let mut path = settings.cookie_path.clone().unwrap_or_else(own_path);
        if path.is_empty() || (settings.cookie_path_slash && !path.ends_with('/')) {
            path.push('/');
        }
        cookie.push_str(&format!("; Path={path}"));
        let secure = match settings.secure {
            Secure::Auto => self.request.is_secure(),
            Secure::Always => true,
            Secure::Never => false,
        };
        if secure {
            cookie.push_str("; Secure");
        }
        if settings.http_only {
            cookie.push_str("; HttpOnly");
        }
        if let Some(same_site) = settings.same_site {
            cookie.push_str(&format!("; SameSite={}", same_site.as_str()));
        }
        if settings.partitioned {
            cookie.push_str("; Partitioned");
        }
        cookie
    }

    /// The id that URLs carry, when the client does not send it otherwise (SEMANTICS 12).
    pub(super) fn id_for_urls(&mut self) -> Option<Arc<str>> {
        self.look_for_session();
        let by_cookie = self.session.requested.is_some() && !self.session.by_url;
        if !self.session_settings().url_rewriting || by_cookie {
            return None;
        }
        Some(self.live_session().ok()?.facts().id)
    }
}

impl serval_loader::exchange::Session for Exchange {
    fn session_attribute(&mut self, name: &str) -> Answer<Option<Bytes>> {
        Ok(self.readable_session()?.attribute(name))
    }

    fn session_attributes(&mut self) -> Answer<Vec<(String, Bytes)>> {
        Ok(self.readable_session()?.attributes())
    }

    fn set_session_attribute(&mut self, name: &str, value: Option<&[u8]>) -> Answer {
        let session = self.live_session()?;
        let old = session.set(name, value, self.session_settings().session_bytes_max)?;
        if old.is_some() || value.is_some() {
            let change = Change { name, value, old_value: old.as_deref() };
            self.session_event(SV_EVENT_SESSION_ATTRIBUTE, &session.facts().id, change);
        }
        Ok(())
    }

    fn change_session_id(&mut self) -> Answer<String> {
        let session = self.live_session()?;
        let by_cookie = self.session_settings().cookies;
        if by_cookie && self.response.is_committed() {
            return Err(Fault::new(
                SV_E_STATE,
                "the response is committed, so the client cannot be told of another id",
            ));
        }
        let (old, new) = self.context.sessions.change_id(&session)?;
        self.session.news = by_cookie;
        if let Some(requested) = &mut self.session.requested {
            // It is the same session that the client has asked for.
            *requested = new.to_string();
        }
        let change = Change { old_value: Some(old.as_bytes()), ..Change::default() };
        self.session_event(SV_EVENT_SESSION_ID_CHANGED, &new, change);
        Ok(new.to_string())
    }

    fn set_max_inactive(&mut self, seconds: i64) -> Answer {
        self.live_session()?.set_max_inactive(seconds)
    }

    fn invalidate_session(&mut self) -> Answer {
        let session = self.live_session()?;
        let id = session.facts().id;
        // Before the listener functions, which may make another session.
        self.session.news = false;
        if self.context.sessions.remove(&session) {
            self.session.ending = true;
            self.session_event(SV_EVENT_SESSION_DESTROYED, &id, Change::default());
            for (name, value) in session.attributes() {
                let change = Change { name: &name, value: None, old_value: Some(&value) };
                self.session_event(SV_EVENT_SESSION_ATTRIBUTE, &id, change);
            }
            self.session.ending = false;
        }
        Ok(())
    }
}
