//! What a servlet asks of the request: its body, parameters, parts, cookies and session.

use serval_abi::{
    SV_E_CLOSED, SV_E_LIMIT, SV_E_REQUEST, SV_E_STATE, SV_EVENT_SESSION_CREATED, SV_WOULD_BLOCK, sv_status,
};

use super::{Dispatch, Exchange, Inner, Part};
use crate::decode;
use crate::test::session::{COOKIE, Session};
use crate::test::table;
use crate::test::table::Handle;
use crate::test::webapp::{Told, lock};

impl Exchange {
    /// `true`: the next piece, or the end, is here. In poll each further piece is only here with the next poll.
    pub(super) fn has_come(&self, inner: &mut Inner, polls: bool, wanted: usize) -> bool {
        if !polls || inner.pieces.len() <= inner.come && wanted <= inner.come || inner.pieces.is_empty() {
            return true;
        }
        if inner.come >= wanted {
            return true;
        }
        inner.come += 1;
        self.wake.wake();
        false
    }

    /// What has come, to its end: `None`.
    pub fn next_piece(&self, inner: &mut Inner, polls: bool, max: usize) -> Result<Option<Vec<u8>>, sv_status> {
        self.check_body(inner)?;
        if !self.has_come(inner, polls, 1) {
            return Err(SV_WOULD_BLOCK);
        }
        let Some(piece) = inner.pieces.front_mut() else { return Ok(None) };
        let taken: Vec<u8> = piece.drain(..piece.len().min(max)).collect();
        if piece.is_empty() {
            inner.pieces.pop_front();
            inner.come = inner.come.saturating_sub(1);
        }
        Ok(Some(taken))
    }

    /// The rest of the body.
    pub fn rest(&self, inner: &mut Inner, polls: bool, max: usize) -> Result<Vec<u8>, sv_status> {
        self.check_body(inner)?;
        let length: usize = inner.pieces.iter().map(Vec::len).sum();
        let wanted = inner.pieces.len();
        if !self.has_come(inner, polls, wanted) {
            return Err(SV_WOULD_BLOCK);
        }
        if length > max {
            return Err(SV_E_LIMIT);
        }
        Ok(inner.pieces.drain(..).flatten().collect())
    }

    pub(super) fn check_body(&self, inner: &mut Inner) -> Result<(), sv_status> {
        if self.is_gone_by(inner) && !inner.pieces.is_empty() {
            inner.body_error = Some(SV_E_CLOSED);
        }
        inner.body_error.map_or(Ok(()), Err)
    }

    pub(super) fn has_type(&self, wanted: &str) -> bool {
        let found = self.sent.headers.iter().find(|(name, _)| name == "content-type");
        found.is_some_and(|(_, value)| {
            let essence = value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
            essence.eq_ignore_ascii_case(wanted.as_bytes())
        })
    }

    pub fn parameters(&self, dispatch: &Dispatch, polls: bool) -> Result<Vec<(String, String)>, sv_status> {
        let mut inner = lock(&self.inner);
        if inner.parameters.is_none() {
            let found = self.read_parameters(&mut inner, dispatch, polls);
            if found == Err(SV_WOULD_BLOCK) {
                return found;
            }
            inner.parameters = Some(found);
        }
        let mut all = dispatch.query.clone();
        all.extend(inner.parameters.clone().unwrap_or(Ok(Vec::new()))?);
        Ok(all)
    }

    pub(super) fn read_parameters(
        &self,
        inner: &mut Inner,
        dispatch: &Dispatch,
        polls: bool,
    ) -> Result<Vec<(String, String)>, sv_status> {
        let query = self.sent.target.split_once('?').map_or("", |(_, query)| query);
        let decode = |inner: &mut Inner, text: &[u8]| {
            decode::pairs(text).map_err(|wrong| {
                inner.said = wrong;
                SV_E_REQUEST
            })
        };
        let mut all = decode(inner, query.as_bytes())?;
        if self.has_type("application/x-www-form-urlencoded") {
            let body = self.rest(inner, polls, 2 * 1024 * 1024)?;
            all.extend(decode(inner, &body)?);
        } else if let Some(parts) = self.sent.parts.as_ref().filter(|_| dispatch.multipart) {
            let fields = parts.iter().filter(|part| part.file_name.is_none());
            all.extend(fields.map(|part| (part.name.clone(), String::from_utf8_lossy(&part.data).into_owned())));
        }
        Ok(all)
    }

    /// The parts that the test gave; `None`: a body of another type.
    pub fn parts(&self) -> Option<&[Part]> {
        self.sent.parts.as_deref().filter(|_| self.has_type("multipart/form-data"))
    }

    pub fn cookies(&self) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = Vec::new();
        for (_, header) in self.sent.headers.iter().filter(|(name, _)| name == "cookie") {
            for pair in String::from_utf8_lossy(header).split(';') {
                let (name, value) = pair.trim().split_once('=').unwrap_or((pair.trim(), ""));
                all.push((name.to_owned(), value.to_owned()));
            }
        }
        all
    }

    /// The session; asked of a dispatch, but the same for all of them.
    pub fn session(&self, dispatch: &Dispatch, create: bool) -> Result<Option<usize>, sv_status> {
        let mut inner = lock(&self.inner);
        if let Some((handle, session)) = &inner.session {
            if lock(&session.data).valid {
                return Ok(Some(*handle));
            }
        }
        let sent = self.requested_session();
        // An id that was given up in this request is not asked for once more: `find` does not have it.
        let mut session = sent.and_then(|id| Session::find(&self.webapp, &id));
        let mut created = false;
        if session.is_none() && create {
            if inner.committed {
                return Err(SV_E_STATE);
            }
            session = Some(Session::create(&self.webapp));
            created = true;
        }
        let Some(session) = session else { return Ok(None) };
        let handle = table::register(Handle::Session(session.clone(), dispatch.exchange.clone()));
        inner.session = Some((handle, session.clone()));
        if created {
            self.send_session_cookie(&mut inner, &session);
            drop(inner);
            let session_id = self.arena.text(&lock(&session.data).id);
            let told = Told { exchange: dispatch.handle, session: handle, session_id, ..Told::default() };
            self.live.tell(SV_EVENT_SESSION_CREATED, &told);
        }
        Ok(Some(handle))
    }

    pub fn requested_session(&self) -> Option<String> {
        self.cookies().into_iter().find(|(name, _)| name == COOKIE).map(|(_, id)| id)
    }

    pub fn send_session_cookie(&self, inner: &mut Inner, session: &Session) {
        let path = if self.webapp.setup.path.is_empty() { "/" } else { &self.webapp.setup.path };
        let value = format!("{COOKIE}={}; Path={path}; HttpOnly", lock(&session.data).id);
        let ours = format!("{COOKIE}=");
        inner.headers.retain(|(name, value)| name != "set-cookie" || !value.starts_with(ours.as_bytes()));
        inner.headers.push(("set-cookie".to_owned(), value.into_bytes()));
    }
}
