//! What the client received.

use std::fmt;

/// An answer, as the client received it. The `assert_` functions panic with the whole answer when something else is there.
#[derive(Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers in order, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; empty for HEAD.
    pub body: Vec<u8>,
    /// Trailers in order.
    pub trailers: Vec<(String, String)>,
    /// Statuses of informational responses before it, such as 103.
    pub informational: Vec<u16>,
    /// The connection was cut before the answer was whole, or the client left before.
    pub cut: bool,
    /// Why the servlet failed, or what it said to an error status: the text that a server logs.
    pub error: Option<String>,
    /// The kind of that failure, by which web.toml can choose an error page.
    pub error_kind: Option<String>,
}

impl Answer {
    /// Returns the first header of that name, in any case of letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// Returns the body as text. Panics if it is not UTF-8.
    #[track_caller]
    pub fn text(&self) -> &str {
        match std::str::from_utf8(&self.body) {
            Ok(text) => text,
            Err(wrong) => panic!("the body is not UTF-8: {wrong}"),
        }
    }

    /// Returns the body as a value. Panics if it is not the JSON of one. Feature `json`.
    #[cfg(feature = "json")]
    #[track_caller]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        match crate::json::decode(&self.body) {
            Ok(value) => value,
            Err(wrong) => panic!("the body is not the JSON of a {}: {wrong}\n{self:?}", std::any::type_name::<T>()),
        }
    }

    #[track_caller]
    fn assert(&self, what: &str, is: Option<&str>, expected: &str) -> &Answer {
        assert!(is == Some(expected), "{what} is {is:?}, not {expected:?}, in {self:#?}");
        self
    }

    /// Asserts the status.
    #[track_caller]
    pub fn assert_status(&self, status: u16) -> &Answer {
        self.assert("the status", Some(&self.status.to_string()), &status.to_string())
    }

    /// Asserts the whole body.
    #[track_caller]
    pub fn assert_text(&self, text: &str) -> &Answer {
        self.assert("the body", Some(&String::from_utf8_lossy(&self.body)), text)
    }

    /// Asserts that the body has this text in it.
    #[track_caller]
    pub fn assert_contains(&self, text: &str) -> &Answer {
        assert!(String::from_utf8_lossy(&self.body).contains(text), "the body does not have {text:?}, in {self:#?}");
        self
    }

    /// Asserts the first header of that name.
    #[track_caller]
    pub fn assert_header(&self, name: &str, value: &str) -> &Answer {
        self.assert(name, self.header(name), value)
    }

    /// Asserts the text of the error.
    #[track_caller]
    pub fn assert_error(&self, text: &str) -> &Answer {
        self.assert("the error", self.error.as_deref(), text)
    }

    /// Asserts that the answer was cut, or not.
    #[track_caller]
    pub fn assert_cut(&self, cut: bool) -> &Answer {
        assert!(self.cut == cut, "cut is {}, in {self:#?}", self.cut);
        self
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = formatter.debug_struct("Answer");
        all.field("status", &self.status).field("headers", &self.headers);
        match std::str::from_utf8(&self.body) {
            Ok(text) => all.field("body", &text),
            Err(_) => all.field("body", &self.body),
        };
        all.field("trailers", &self.trailers).field("informational", &self.informational).field("cut", &self.cut);
        all.field("error", &self.error).field("error_kind", &self.error_kind).finish()
    }
}
