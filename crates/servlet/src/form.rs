//! Forms and queries as values of an author's types: feature `forms`.
//!
//! A deserializer of its own, because the pairs come decoded from the server, which also has the limits; crates for forms
//! (serde_urlencoded, serde_html_form) start from encoded text, and do not name the field that is wrong.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use crate::{Request, Result, error};

/// Feature `forms`.
impl Request {
    /// Returns all parameters, those of the query and of a form body, as a value of the author's type. Feature `forms`.
    ///
    /// `T` is a struct (or a map), a field for each name:
    /// - text, numbers, `char`, and units of enums by their names;
    /// - `bool`: `true`, `on` (what a checkbox sends) or `1`; `false`, `off` or `0`. A checkbox that is not set sends
    ///   nothing, so write `#[serde(default)]`;
    /// - `Option`: `None` when the name is missing, or its value empty, as an input is that nobody filled in;
    /// - `Vec`: each value of a name that may come more than once; with `#[serde(default)]` also none.
    ///
    /// What does not fit is answered with 400, and the text names the field and why; so are a name that comes twice for
    /// a field of one value, and a form that cannot be decoded. A form that is too long is 413. Names that `T` does not have
    /// are ignored, unless it is `#[serde(deny_unknown_fields)]`.
    ///
    /// An async servlet waits for [`form_read`](Request::form_read) before.
    ///
    /// ```
    /// use serde::Deserialize;
    /// use servlet::prelude::*;
    ///
    /// #[derive(Deserialize)]
    /// #[serde(rename_all = "lowercase")]
    /// enum Size {
    ///     Small,
    ///     Large,
    /// }
    ///
    /// #[derive(Deserialize)]
    /// struct Order {
    ///     size: Size,
    ///     count: Option<u32>,
    ///     #[serde(default)]
    ///     topping: Vec<String>,
    /// }
    ///
    /// #[servlet("/pizza", methods = [POST])]
    /// fn pizza(request: &Request, response: &mut Response) -> Result {
    ///     let order: Order = request.form()?;
    ///     let size = match order.size {
    ///         Size::Small => "small",
    ///         Size::Large => "large",
    ///     };
    ///     response.text(format!("{} {size} with {}", order.count.unwrap_or(1), order.topping.join(" and ")))
    /// }
    ///
    /// servlet::module!();
    /// # fn main() {
    /// let app = servlet::test::App::new();
    /// let order = [("size", "large"), ("count", ""), ("topping", "ham"), ("topping", "figs")];
    /// app.post("/pizza").form(&order).send().assert_text("1 large with ham and figs");
    /// let answer = app.post("/pizza").form(&[("size", "small"), ("count", "two")]).send();
    /// let text = "the parameter \"count\": \"two\" is not a number: invalid digit found in string";
    /// answer.assert_status(400).assert_error(text);
    /// # }
    /// ```
    pub fn form<T: DeserializeOwned>(&self) -> Result<T> {
        parse(self.params()?.map(|(name, value)| (Cow::Borrowed(name), Cow::Borrowed(value))))
    }

    /// Returns the parameters of the query as a value of the author's type, as [`form`](Request::form) does; a form in the
    /// body is not looked at, and stays there. Feature `forms`.
    ///
    /// ```
    /// use serde::Deserialize;
    /// use servlet::prelude::*;
    ///
    /// #[derive(Deserialize)]
    /// struct Page {
    ///     #[serde(default)]
    ///     from: usize,
    ///     words: Option<String>,
    /// }
    ///
    /// #[servlet("/search")]
    /// fn search(request: &Request, response: &mut Response) -> Result {
    ///     let page: Page = request.query_as()?;
    ///     response.text(format!("{:?} from {}", page.words, page.from))
    /// }
    ///
    /// servlet::module!();
    /// # fn main() {
    /// let app = servlet::test::App::new();
    /// app.get("/search?words=green+tea&from=20").send().assert_text("Some(\"green tea\") from 20");
    /// # }
    /// ```
    pub fn query_as<T: DeserializeOwned>(&self) -> Result<T> {
        let query = self.query().unwrap_or_default();
        let pairs =
            crate::decode::pairs(query.as_bytes()).map_err(|wrong| error(400, format!("the query: {wrong}")))?;
        parse(pairs.into_iter().map(|(name, value)| (Cow::Owned(name), Cow::Owned(value))))
    }
}

type Text<'a> = Cow<'a, str>;

fn parse<'a, T: DeserializeOwned>(pairs: impl Iterator<Item = (Text<'a>, Text<'a>)>) -> Result<T> {
    // All values of one name together, in the order of their first. The server limits how many there are; by sorting it
    // stays cheap at that limit.
    let mut all: Vec<(usize, Text<'a>, Text<'a>)> =
        pairs.enumerate().map(|(at, (name, value))| (at, name, value)).collect();
    all.sort_by(|a, b| (&a.1, a.0).cmp(&(&b.1, b.0)));
    let mut fields: Vec<(usize, Name<'a>, Values<'a>)> = Vec::new();
    for (at, name, value) in all {
        match fields.last_mut() {
            Some((_, last, values)) if last.0 == name => values.values.push(value),
            _ => fields.push((at, Name(name.clone()), Values { name, values: vec![value] })),
        }
    }
    fields.sort_by_key(|(at, ..)| *at);
    T::deserialize(MapDeserializer::new(fields.into_iter().map(|(_, name, values)| (name, values))))
        .map_err(|Wrong(text)| error(400, text))
}

#[derive(Debug)]
struct Wrong(String);

impl fmt::Display for Wrong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(text: T) -> Wrong {
        Wrong(text.to_string())
    }

    fn missing_field(field: &'static str) -> Wrong {
        Wrong(format!("the parameter {field:?} is missing"))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Wrong {
        Wrong(format!("the parameter {field:?} is not known here; known are {}", expected.join(", ")))
    }
}

struct Name<'a>(Text<'a>);

impl<'a, 'de> IntoDeserializer<'de, Wrong> for Name<'a> {
    type Deserializer = de::value::CowStrDeserializer<'a, Wrong>;

    fn into_deserializer(self) -> Self::Deserializer {
        self.0.into_deserializer()
    }
}

/// What came under one name; never empty.
struct Values<'a> {
    name: Text<'a>,
    values: Vec<Text<'a>>,
}

impl<'a> Values<'a> {
    fn wrong(name: &str, text: impl fmt::Display) -> Wrong {
        Wrong(format!("the parameter {name:?}: {text}"))
    }

    fn one(mut self) -> std::result::Result<(Text<'a>, Text<'a>), Wrong> {
        match (self.values.len(), self.values.pop()) {
            (1, Some(value)) => Ok((self.name, value)),
            (count, _) => {
                Err(Values::wrong(&self.name, format_args!("it is given {count} times, and may be given once")))
            }
        }
    }
}

impl<'de> IntoDeserializer<'de, Wrong> for Values<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $what:literal,)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Wrong> {
            let (name, value) = self.one()?;
            match value.trim().parse() {
                Ok(number) => visitor.$visit(number).map_err(|wrong: Wrong| Values::wrong(&name, wrong)),
                Err(wrong) => {
                    Err(Values::wrong(&name, format_args!(concat!("{:?} is not a ", $what, ": {}"), value, wrong)))
                }
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Values<'_> {
    type Error = Wrong;

    /// Text, for types that take what comes.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Wrong> {
        let (name, value) = self.one()?;
        visitor.visit_str(&value).map_err(|wrong: Wrong| Values::wrong(&name, wrong))
    }

    numbers! {
        deserialize_i8 visit_i8 "number",
        deserialize_i16 visit_i16 "number",
        deserialize_i32 visit_i32 "number",
        deserialize_i64 visit_i64 "number",
        deserialize_i128 visit_i128 "number",
        deserialize_u8 visit_u8 "number",
        deserialize_u16 visit_u16 "number",
        deserialize_u32 visit_u32 "number",
        deserialize_u64 visit_u64 "number",
        deserialize_u128 visit_u128 "number",
        deserialize_f32 visit_f32 "number",
        deserialize_f64 visit_f64 "number",
        deserialize_char visit_char "character",
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Wrong> {
        let (name, value) = self.one()?;
        match &*value {
            "true" | "on" | "1" => visitor.visit_bool(true),
            "false" | "off" | "0" => visitor.visit_bool(false),
            _ => Err(Values::wrong(&name, format_args!("{value:?} is neither true nor false"))),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Wrong> {
        if self.values.iter().all(|value| value.is_empty()) {
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Wrong> {
        let Values { name, values } = self;
        let values = values.into_iter().map(|value| Values { name: name.clone(), values: vec![value] });
        SeqDeserializer::new(values).deserialize_seq(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> std::result::Result<V::Value, Wrong> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> std::result::Result<V::Value, Wrong> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> std::result::Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> std::result::Result<V::Value, Wrong> {
        let (parameter, value) = self.one()?;
        let chosen: de::value::CowStrDeserializer<'_, Wrong> = value.into_deserializer();
        chosen.deserialize_enum(name, variants, visitor).map_err(|wrong| Values::wrong(&parameter, wrong))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Wrong> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { str string bytes byte_buf unit_struct map struct identifier }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Wrong> {
        visitor.visit_unit()
    }
}
