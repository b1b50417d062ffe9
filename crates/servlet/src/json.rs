//! JSON in requests and responses: feature `json`.

use serde::{Deserialize, Serialize};

use crate::{AsyncBody, Body, Error, Response, Result, error};

/// Feature `json`.
impl Body {
    /// Reads the rest of the body as JSON, at most `bytes_max` bytes of it. Feature `json`.
    ///
    /// What a client sends wrong becomes an error with the status for it, and a text that says where:
    /// - 415: the content type is missing, or neither `application/json` nor `application/...+json`;
    /// - 413: the body is longer than `bytes_max`;
    /// - 400: it is no JSON (which is UTF-8, nested at most 128 levels deep), or not what `T` wants: the text has the path
    ///   to the value, with line and column.
    ///
    /// Text in `T` may be borrowed from the body (`&str`, where it has no escapes).
    ///
    /// ```
    /// use serde::Deserialize;
    /// use servlet::prelude::*;
    ///
    /// #[derive(Deserialize)]
    /// struct Order {
    ///     item: String,
    ///     count: u32,
    /// }
    ///
    /// #[servlet("/orders", methods = [POST])]
    /// fn order(_: &Request, body: &mut Body, response: &mut Response) -> Result {
    ///     let order: Order = body.json(64 * 1024)?;
    ///     response.status(201)?.text(format!("{} of {}", order.count, order.item))
    /// }
    ///
    /// servlet::module!();
    /// # fn main() {
    /// let app = servlet::test::App::new();
    /// app.post("/orders").json_text(r#"{"item": "tea", "count": 2}"#).send().assert_status(201).assert_text("2 of tea");
    /// let answer = app.post("/orders").json_text(r#"{"item": "tea", "count": -1}"#).send();
    /// answer.assert_status(400).assert_error(
    ///     "the JSON in the body: count: invalid value: integer `-1`, expected u32 at line 1 column 27",
    /// );
    /// # }
    /// ```
    pub fn json<'a, T: Deserialize<'a>>(&'a mut self, bytes_max: usize) -> Result<T> {
        expect_json(self.content_type())?;
        parse(self.all(bytes_max)?)
    }
}

/// Feature `json`.
impl AsyncBody {
    /// Reads the rest of the body as JSON, as [`Body::json`] does. Feature `json`.
    ///
    /// ```
    /// use servlet::prelude::*;
    ///
    /// #[servlet("/sum", methods = [POST])]
    /// async fn sum(_: &Request, body: &mut AsyncBody, response: &mut Response) -> Result {
    ///     let numbers: Vec<i64> = body.json(64 * 1024).await?;
    ///     response.json(&numbers.iter().sum::<i64>())
    /// }
    ///
    /// servlet::module!();
    /// # fn main() {
    /// let app = servlet::test::App::new();
    /// app.post("/sum").header("content-type", "application/json").send_slowly(["[1, ", "2, 3", "]"]).send().assert_text("6");
    /// # }
    /// ```
    pub async fn json<'a, T: Deserialize<'a>>(&'a mut self, bytes_max: usize) -> Result<T> {
        expect_json(self.content_type())?;
        parse(self.all(bytes_max).await?)
    }
}

/// Feature `json`.
impl Response {
    /// Answers with a value as JSON in one go: `application/json`, unless a content type was set before. Feature `json`.
    ///
    /// A value that has no JSON, such as a map whose keys are lists, is an error that is answered with 500.
    ///
    /// ```
    /// use serde::Serialize;
    /// use servlet::prelude::*;
    ///
    /// #[derive(Serialize)]
    /// struct Item {
    ///     name: &'static str,
    ///     price: u32,
    /// }
    ///
    /// #[servlet("/item")]
    /// fn item(_: &Request, response: &mut Response) -> Result {
    ///     response.json(&Item { name: "tea", price: 3 })
    /// }
    ///
    /// servlet::module!();
    /// # fn main() {
    /// let answer = servlet::test::App::new().get("/item").send();
    /// answer.assert_header("content-type", "application/json").assert_text(r#"{"name":"tea","price":3}"#);
    /// # }
    /// ```
    pub fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        let bytes = serde_json::to_vec(value)?;
        self.respond("application/json", crate::response::of_bytes(bytes.into()))
    }
}

/// `application/json` or `application/...+json`, as RFC 6839 has it; parameters do not matter, for JSON is UTF-8.
pub(crate) fn expect_json(content_type: Option<&str>) -> Result {
    let Some(content_type) = content_type else {
        return Err(error(415, "the body has no content type; application/json is expected"));
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let subtype = essence.strip_prefix("application/");
    if subtype.is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json")) {
        return Ok(());
    }
    Err(error(415, format!("the body is {content_type:?}; application/json is expected")))
}

/// Parses what a client sent; 400 says where it is wrong.
pub(crate) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    decode(bytes).map_err(|wrong| error(400, format!("the JSON in the body: {wrong}")))
}

/// The same for any place; the text is path, reason, line and column.
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> std::result::Result<T, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|wrong| {
        let path = wrong.path().to_string();
        // "." is the whole value; a path to what is no JSON at all would mislead.
        match wrong.inner().is_data() && path != "." {
            true => format!("{path}: {}", wrong.inner()),
            false => wrong.inner().to_string(),
        }
    })?;
    deserializer.end().map_err(|wrong| wrong.to_string())?;
    Ok(value)
}

/// For sessions; a fault of the author's type.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(Error::from)
}
