//! What libraries call of an exchange, by the loader's table; each function is a few lines over `reading`, `writing` and `session`.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use serval_abi::{SV_E_ARG, SV_E_LIMIT, SV_E_STATE, SV_E_UNSUPPORTED, SV_EVENT_REQUEST_ATTRIBUTE, SV_NONE, sv_status};
use serval_config::{SameSite, WebCookies};
use serval_loader::exchange::{
    Answer, CookieDefaults, Dispatch, Fault, Head, HeaderChange, Part, SessionInfo, Tls, Wake,
};

use super::error_page::Failure;
use super::{ATTRIBUTE_BYTES_MAX, Exchange, Request, Stage};
use crate::asynchronous::Completion;
use crate::events::Change;
use crate::execution::{leave_connection, let_connection_go_on};
use crate::parameters;
use crate::problem::Problem;
use crate::sending::BUFFER_BYTES_MAX;

impl serval_loader::exchange::Exchange for Exchange {
    fn says_panic(&mut self, who: &str, text: &str) -> bool {
        let (context, generation, request) = (&self.generation.context, self.generation.number, self.request.id);
        let servlet = self.servlet_name();
        match who == servlet {
            true => tracing::error!(%context, generation, %servlet, request, "a servlet failed: {text}"),
            false => tracing::error!(%context, generation, %servlet, request, "`{who}` failed: {text}"),
        }
        self.panic_was_said = true;
        true
    }

    fn head(&self) -> Head<'_> {
        let request = &*self.request;
        let Request { id, version, headers, target, peer, .. } = request;
        let path = target.path();
        Head {
            method: self.method().as_str(),
            http_version: match *version {
                Version::HTTP_10 => 10,
                Version::HTTP_2 => 20,
                _ => 11,
            },
            dispatch: self.dispatch,
            scheme: if request.is_secure() { "https" } else { "http" },
            server_name: &target.server_name,
            server_port: target.server_port,
            secure: request.is_secure(),
            target: target.raw(),
            request_uri: target.request_uri(),
            query: target.query(),
            context_path: target.raw_context_path(),
            servlet_path: self.found.servlet_path(path),
            path_info: self.found.path_info(path),
            match_kind: self.found.kind,
            match_pattern: self.generation.mapper.pattern(self.found),
            match_value: self.found.value(path),
            servlet_name: self.generation.name_of(self.found.by),
            headers,
            content_length: self.content_length,
            remote_addr: Some(request.remote_text()).filter(|address| !address.is_empty()),
            local_addr: Some(&*peer.local_text).filter(|address| !address.is_empty()),
            remote_port: peer.remote.port(),
            local_port: peer.local.port(),
            id: *id,
            connection_id: peer.connection_id,
            is_nested: self.depth > 0,
        }
    }

    fn tls(&self) -> Option<Tls<'_>> {
        self.request.peer.tls.as_ref().map(|tls| Tls {
            protocol: tls.protocol,
            cipher: &tls.cipher,
            server_name: tls.server_name.as_deref(),
            certificates: &tls.certificates,
        })
    }

    fn parameters(&mut self) -> Answer<&[(String, String)]> {
        self.read_parameters()?;
        match &self.parameters {
            Some(Ok(all)) => Ok(all),
            Some(Err(fault)) => Err(fault.clone()),
            None => Ok(&[]),
        }
    }

    fn path_parameter(&self, name: &str) -> Option<&str> {
        self.generation.mapper.parameter(self.found, name, self.request.target.path())
    }

    fn cookies(&mut self) -> Answer<&[(String, String)]> {
        let headers = &self.request.headers;
        Ok(self.cookies.get_or_insert_with(|| {
            let mut all = Vec::new();
            let without_equals = self.generation.web.cookies.without_equals;
            let headers = headers.get_all(COOKIE).iter();
            headers.for_each(|header| parameters::cookies(header.as_bytes(), without_equals, &mut all));
            all
        }))
    }

    fn parts(&mut self) -> Answer<Option<&[Part]>> {
        self.read_parts()
    }

    fn attribute(&self, name: &str) -> Option<&[u8]> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| &value[..])
    }

    fn attributes(&self) -> Vec<(&str, &[u8])> {
        self.attributes.iter().map(|(name, value)| (name.as_str(), &value[..])).collect()
    }

    fn set_attribute(&mut self, name: &str, value: Option<&[u8]>) -> Answer {
        // The server's own do not count.
        let others = || self.attributes.iter().filter(|(known, _)| known != name && !known.starts_with("servlet."));
        let used: usize = others().map(|(name, value)| name.len() + value.len()).sum();
        if value.is_some_and(|value| used + name.len() + value.len() > ATTRIBUTE_BYTES_MAX) {
            return Err(Fault::new(SV_E_LIMIT, "the request attributes are over 1 MiB"));
        }
        let at = self.attributes.iter().position(|(known, _)| known == name);
        let old = at.map(|at| self.attributes.remove(at).1);
        self.attributes.extend(value.map(|value| (name.to_owned(), Bytes::copy_from_slice(value))));
        if old.is_some() || value.is_some() {
            let change = Change { name, value, old_value: old.as_deref() };
            self.request_event(SV_EVENT_REQUEST_ATTRIBUTE, change);
        }
        Ok(())
    }

    fn principal(&self) -> Option<(&str, &str)> {
        None
    }

    fn in_role(&self, _: &str) -> bool {
        false
    }

    fn login(&mut self, _: &str, _: &str) -> Answer<bool> {
        Err(Fault::new(SV_E_UNSUPPORTED, "this server has no realm yet, so nobody can log in"))
    }

    fn logout(&mut self) -> Answer {
        Ok(())
    }

    fn read_chunk(&mut self, bytes_max: usize) -> Answer<Option<Bytes>> {
        let Some(mut chunk) = self.next_chunk()? else { return Ok(None) };
        let given = chunk.split_to(chunk.len().min(bytes_max));
        self.unread = chunk;
        Ok(Some(given))
    }

    fn refuse_body(&mut self, text: String) -> Fault {
        self.body_failed(StatusCode::PAYLOAD_TOO_LARGE, SV_E_LIMIT, text)
    }

    fn trailers(&mut self) -> Answer<&HeaderMap> {
        if self.request.body.is_some() || !self.unread.is_empty() {
            return Err(Fault::new(SV_E_STATE, "the trailers come after the body, which was not read to its end"));
        }
        Ok(self.trailers.get_or_insert_default())
    }

    fn cookie_defaults(&self) -> CookieDefaults {
        let WebCookies { same_site, partitioned, .. } = self.generation.web.cookies;
        CookieDefaults { same_site: same_site.flatten().map(SameSite::as_str), partitioned }
    }

    fn may_respond(&self, status: u16, headers: &HeaderMap, body_len: usize) -> Answer {
        self.open()?;
        if self.including > 0 {
            return Ok(());
        }
        self.uncommitted()?;
        self.response.may_respond(status, headers, body_len)
    }

    fn respond(&mut self, status: u16, headers: HeaderMap, body: Bytes) {
        self.respond_with(status, headers, body);
    }

    fn set_status(&mut self, status: u16) -> Answer {
        if self.has_no_say() {
            return Ok(());
        }
        self.uncommitted()?;
        if self.response.finished && self.chain.stage == Stage::Open {
            return Err(Fault::new(SV_E_STATE, "the response is finished"));
        }
        self.response.status = StatusCode::from_u16(status).map_err(|_| Fault::new(SV_E_ARG, "not a status"))?;
        Ok(())
    }

    fn set_header(&mut self, change: HeaderChange, name: HeaderName, value: Option<HeaderValue>) -> Answer {
        if self.has_no_say() {
            return Ok(());
        }
        self.uncommitted()?;
        self.response.set_header(change, name, value)
    }

    fn response_headers(&self) -> &HeaderMap {
        &self.response.headers
    }

    fn response_status(&self) -> u16 {
        self.response.status.as_u16()
    }

    fn set_charset(&mut self, charset: Option<&str>) -> Answer {
        if self.has_no_say() {
            return Ok(());
        }
        self.uncommitted()?;
        self.response.set_charset(charset);
        Ok(())
    }

    fn set_buffer_size(&mut self, bytes: usize) -> Answer {
        if self.has_no_say() {
            return Ok(());
        }
        self.uncommitted()?;
        if self.response.written > 0 {
            return Err(Fault::new(SV_E_STATE, "there is output already"));
        }
        if bytes > BUFFER_BYTES_MAX {
            return Err(Fault::new(SV_E_LIMIT, "a response buffer is at most 16 MiB"));
        }
        self.response.buffer_size = bytes;
        Ok(())
    }

    fn set_trailer(&mut self, name: HeaderName, value: HeaderValue) -> Answer {
        if self.has_no_say() {
            return Ok(());
        }
        self.open()?;
        if self.response.is_committed() && !self.response.announces(&name) {
            let text = "the response is committed, and its header Trailer does not name this one";
            return Err(Fault::new(SV_E_STATE, text));
        }
        if self.response.trailers.len() >= serval_loader::table::HEADERS_MAX {
            return Err(Fault::new(SV_E_LIMIT, "a response has at most 1,000 trailers"));
        }
        self.response.trailers.insert(name, value);
        Ok(())
    }

    fn informational(&mut self, status: u16, headers: HeaderMap) -> Answer {
        if self.has_no_say() {
            return Ok(());
        }
        self.uncommitted()?;
        if self.request.version < Version::HTTP_11 {
            return Err(Fault::new(SV_E_UNSUPPORTED, "HTTP/1.0 has no informational responses"));
        }
        let status = StatusCode::from_u16(status).map_err(|_| Fault::new(SV_E_ARG, "not a status"))?;
        if self.turn.is_alone() || self.request.version > Version::HTTP_11 {
            // Nobody reads them, or hyper cannot send them. A client has to do without them anyway (RFC 8297 2).
            return Ok(());
        }
        self.turn.hints.add(status, &headers)?;
        // Now, and not when the call is over.
        let_connection_go_on();
        self.turn.wake();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Answer<usize> {
        self.take(bytes)
    }

    fn write_owned(&mut self, bytes: Bytes) -> Answer {
        self.take_owned(bytes)
    }

    fn flush(&mut self) -> Answer {
        self.flush_out()
    }

    fn reset(&mut self) -> Answer {
        if self.has_no_say() {
            return Ok(());
        }
        self.uncommitted()?;
        self.open()?;
        self.response.reset();
        // An error page's status is that of the error, until it says another one.
        self.response.status = self.page_of.unwrap_or(StatusCode::OK);
        Ok(())
    }

    fn reset_buffer(&mut self) -> Answer {
        if self.has_no_say() {
            return Ok(());
        }
        self.uncommitted()?;
        self.open()?;
        self.response.reset_buffer();
        Ok(())
    }

    fn send_error(&mut self, status: u16, text: &str) -> Answer {
        if self.has_no_say() {
            return Ok(());
        }
        self.uncommitted()?;
        self.open()?;
        let status = StatusCode::from_u16(status).map_err(|_| Fault::new(SV_E_ARG, "not a status"))?;
        self.say_error(status, text);
        self.raise(Problem::new(status).because(text.to_owned()));
        Ok(())
    }

    fn redirect(&mut self, status: u16, location: HeaderValue) -> Answer {
        if self.has_no_say() {
            return Ok(());
        }
        self.uncommitted()?;
        self.open()?;
        let status = StatusCode::from_u16(status).map_err(|_| Fault::new(SV_E_ARG, "not a status"))?;
        self.response.redirect(status, location);
        if self.request.version == Version::HTTP_10 || !self.generation.web.redirects.relative {
            self.make_location_absolute();
        }
        Ok(())
    }

    fn committed(&self) -> bool {
        self.response.is_committed()
    }

    fn encode_url(&mut self, url: &str) -> String {
        self.with_session_id(url)
    }

    fn fail(&mut self, kind: &str, text: &str) {
        self.failure = Some(Failure { kind: kind.to_owned(), text: text.to_owned() });
    }

    fn unavailable(&mut self, seconds: u32, text: &str) {
        self.unavailable = Some((self.serving, seconds));
        self.failure = Some(Failure { kind: String::new(), text: text.to_owned() });
    }

    fn dispatch(&mut self, how: Dispatch, target: &str) -> Answer<sv_status> {
        self.dispatch_to(how, target).map(|status| status.unwrap_or(SV_NONE))
    }

    fn cancelled(&self) -> bool {
        let_connection_go_on();
        self.asynchronous.over.is_some() || self.response.is_unwanted()
    }

    fn retiring(&self) -> bool {
        self.generation.retired.load(Ordering::Relaxed)
    }

    fn lease(&self) -> Arc<dyn Any + Send + Sync> {
        self.generation.clone()
    }

    fn detach(&mut self) -> Answer {
        if self.asynchronous.completion.is_some() {
            return Err(Fault::new(SV_E_STATE, "the exchange is detached already"));
        }
        if self.polled.is_some() || self.chain.stage != Stage::Open || self.depth > 0 {
            return Err(Fault::new(SV_E_STATE, "only service detaches, and not inside of another dispatch"));
        }
        self.turn.watch_client();
        // A thread of the library may wait for the client from now on, and service for that thread.
        leave_connection();
        // It may have set a time before.
        self.asynchronous.completion = Some(Arc::new(Completion::new(self.asynchronous.deadline)));
        Ok(())
    }

    fn completed(&mut self, result: sv_status) {
        if let Some(completion) = &self.asynchronous.completion {
            completion.complete(result);
        }
    }

    fn async_dispatch(&mut self, path: Option<&str>) -> Answer {
        if let Some(fault) = &self.asynchronous.over {
            // It was answered, and complete is still owed.
            return Err(fault.clone());
        }
        if self.asynchronous.completion.is_none() && self.polled.is_none() {
            return Err(Fault::new(SV_E_STATE, "the exchange is neither a task's nor detached"));
        }
        if self.depth > 0 || self.chain.stage == Stage::Event {
            return Err(Fault::new(SV_E_STATE, "inside of another dispatch, or of an event, a task goes nowhere else"));
        }
        if self.asynchronous.goes_to.is_some() {
            return Err(Fault::new(SV_E_STATE, "async_dispatch was called already"));
        }
        let way = path.map(|path| self.way_to(path).ok_or_else(no_such_path)).transpose()?;
        self.asynchronous.goes_to = Some(way);
        if let Some(completion) = &self.asynchronous.completion {
            completion.complete(serval_abi::SV_OK);
        }
        Ok(())
    }

    fn set_timeout(&mut self, after: Option<Duration>) -> Answer {
        self.set_async_timeout(after);
        Ok(())
    }

    fn waker(&mut self) -> Option<Arc<dyn Wake>> {
        if self.asynchronous.completion.is_some() || !self.makes_tasks() {
            return None;
        }
        Some(self.task_wake())
    }

    fn session(&mut self, create: bool) -> Answer<bool> {
        self.find_session(create)
    }

    fn session_info(&mut self) -> SessionInfo {
        self.info_of_session()
    }
}

fn no_such_path() -> Fault {
    Fault::new(SV_E_ARG, "the path is not one of this context")
}

impl Exchange {
    /// In an include only writing has an effect (SEMANTICS 11); the filters around it still have the head.
    fn has_no_say(&self) -> bool {
        self.including > 0 && self.chain.stage == Stage::Open
    }

    /// Whether its servlet has a poll.
    fn makes_tasks(&self) -> bool {
        self.generation.servlet_of(self.serving).is_some_and(|servlet| servlet.has_poll())
    }
}
