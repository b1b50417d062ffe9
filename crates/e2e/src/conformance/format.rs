//! A file of conformance vectors, as `format` in it describes: read leniently as a whole, so that a case or setup that we do
//! not understand is an error of its own, and strictly inside.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use base64::Engine;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A file: each setup and case still unread.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    #[serde(default)]
    pub about: Value,
    #[serde(default)]
    pub levels: Value,
    #[serde(default)]
    pub format: Value,
    #[serde(default)]
    pub fixtures: Value,
    pub setups: BTreeMap<String, Value>,
    pub cases: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub id: String,
    pub area: String,
    pub level: String,
    pub setup: String,
    /// Unread: variables are put in first.
    pub request: Option<Value>,
    pub expect: Option<Value>,
    pub steps: Option<Vec<RawStep>>,
    #[serde(default)]
    pub source: String,
    #[serde(default)]
    pub note: String,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub struct RawStep {
    pub request: Value,
    pub expect: Value,
}

impl Case {
    /// Returns the steps: one, where the case names none.
    pub fn steps(&self) -> Result<Vec<RawStep>> {
        match (&self.steps, &self.request, &self.expect) {
            (Some(steps), None, None) => Ok(steps.clone()),
            (None, Some(request), Some(expect)) => {
                Ok(vec![RawStep { request: request.clone(), expect: expect.clone() }])
            }
            _ => anyhow::bail!("a case has either `request` and `expect`, or `steps`"),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Request {
    #[serde(default = "get")]
    pub method: String,
    pub target: String,
    #[serde(default = "http_1_1")]
    pub version: String,
    /// `-`: no Host header.
    pub host: Option<String>,
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    pub body: Option<Content>,
    /// Seconds.
    pub sleep: Option<f64>,
    #[serde(default)]
    pub fs: Vec<FileOperation>,
    /// Seconds.
    pub within: Option<f64>,
    #[serde(default)]
    pub capture: BTreeMap<String, String>,
}

fn get() -> String {
    "GET".to_owned()
}

fn http_1_1() -> String {
    "HTTP/1.1".to_owned()
}

/// What is done to the webapps folder before a request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase", tag = "op")]
pub enum FileOperation {
    App {
        #[serde(default, rename = "path")]
        _path: String,
        app: Box<App>,
    },
    Write {
        path: String,
        text: Option<String>,
        size: Option<usize>,
        b64: Option<String>,
        mtime: Option<u64>,
    },
    Touch {
        path: String,
        mtime: Option<u64>,
    },
    Rm {
        path: String,
    },
    Mv {
        path: String,
        to: String,
    },
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Expect {
    #[serde(default, deserialize_with = "one_or_more")]
    pub status: Vec<u16>,
    /// None: absent.
    #[serde(default)]
    pub headers: BTreeMap<String, Option<Header>>,
    pub echo: Option<Value>,
    pub body: Option<String>,
    pub body_re: Option<String>,
    pub body_not: Option<String>,
    pub body_len: Option<usize>,
    pub log: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub enum Header {
    One(String),
    All(Vec<String>),
    Matches { re: String },
    IsNot { not: String },
}

/// Bytes: text, base64, or so many bytes of which the i-th is i modulo 251.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Content {
    Plain(String),
    Coded(Coded),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coded {
    pub text: Option<String>,
    pub size: Option<usize>,
    pub b64: Option<String>,
    /// Seconds since 1970.
    pub mtime: Option<u64>,
}

/// LIMIT: a file or body of a case.
const SIZE_MAX: usize = 256 << 20;

impl Content {
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let coded = match self {
            Content::Plain(text) => return Ok(text.clone().into_bytes()),
            Content::Coded(coded) => coded,
        };
        match (&coded.text, coded.size, &coded.b64) {
            (Some(text), None, None) => Ok(text.clone().into_bytes()),
            (None, Some(size), None) if size <= SIZE_MAX => Ok((0..size).map(|i| (i % 251) as u8).collect()),
            (None, None, Some(text)) => {
                base64::engine::general_purpose::STANDARD.decode(text).with_context(|| format!("b64 {text:?}"))
            }
            _ => anyhow::bail!("content is one of text, size (up to 256 MiB) and b64"),
        }
    }

    pub fn mtime(&self) -> Option<u64> {
        match self {
            Content::Plain(_) => None,
            Content::Coded(coded) => coded.mtime,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Setup {
    pub apps: Option<Vec<App>>,
    pub hosts: Option<BTreeMap<String, HostSetup>>,
    #[serde(default)]
    pub connector: BTreeMap<String, Scalar>,
    #[serde(default)]
    pub users: Vec<(String, String, Vec<String>)>,
    pub access_log: Option<String>,
    #[serde(default)]
    pub access_log_json: Value,
    #[serde(default)]
    pub access_log_use_proxy: bool,
    #[serde(default)]
    pub auto_deploy: bool,
    #[serde(default)]
    pub manager: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostSetup {
    #[serde(default)]
    pub aliases: Vec<String>,
    pub apps: Vec<App>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct App {
    pub dir: String,
    #[serde(default)]
    pub files: BTreeMap<String, Content>,
    #[serde(default)]
    pub servlets: Vec<Servlet>,
    #[serde(default)]
    pub filters: Vec<Filter>,
    pub welcome: Option<Vec<String>>,
    #[serde(default)]
    pub error_pages: Vec<ErrorPage>,
    #[serde(default)]
    pub mime: BTreeMap<String, String>,
    #[serde(default)]
    pub session: Session,
    #[serde(default)]
    pub context_params: BTreeMap<String, String>,
    #[serde(default)]
    pub constraints: Vec<Value>,
    pub login: Option<Value>,
    #[serde(default)]
    pub roles: Vec<String>,
    #[serde(default)]
    pub deny_uncovered: bool,
    #[serde(default)]
    pub valves: Vec<BTreeMap<String, Value>>,
    #[serde(default)]
    pub context: BTreeMap<String, Scalar>,
    #[serde(default)]
    pub cookie_processor: BTreeMap<String, Scalar>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Servlet {
    pub name: String,
    pub kind: String,
    #[serde(default)]
    pub patterns: Vec<String>,
    #[serde(default)]
    pub init: BTreeMap<String, Scalar>,
    #[serde(rename = "do")]
    pub script: Option<Vec<String>>,
    pub load_on_startup: Option<i32>,
    pub multipart: Option<Multipart>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Multipart {
    pub max_file_size: Option<i64>,
    pub max_request_size: Option<i64>,
    pub threshold: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    pub name: String,
    pub kind: Option<String>,
    #[serde(default)]
    pub init: BTreeMap<String, Scalar>,
    #[serde(default)]
    pub maps: Vec<FilterMap>,
}

/// The page for a status, for an exception, or for all others.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorPage {
    pub code: Option<Scalar>,
    pub exception: Option<String>,
    pub location: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterMap {
    pub url: Option<String>,
    pub servlet: Option<String>,
    #[serde(default)]
    pub on: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Session {
    pub timeout_min: Option<Scalar>,
    pub name: Option<String>,
    pub domain: Option<String>,
    pub path: Option<String>,
    pub http_only: Option<Scalar>,
    pub secure: Option<Scalar>,
    pub max_age: Option<Scalar>,
    pub tracking: Option<Vec<String>>,
}

/// A value that Tomcat's files hold as text, whatever it is in JSON.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scalar(pub String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Scalar, D::Error> {
        match Value::deserialize(from)? {
            Value::String(text) => Ok(Scalar(text)),
            Value::Bool(flag) => Ok(Scalar(flag.to_string())),
            Value::Number(number) => Ok(Scalar(number.to_string())),
            other => Err(serde::de::Error::custom(format!("{other} is not text, a number or a flag"))),
        }
    }
}

fn one_or_more<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Vec<u16>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        One(u16),
        More(Vec<u16>),
    }
    Ok(match Given::deserialize(from)? {
        Given::One(status) => vec![status],
        Given::More(statuses) => statuses,
    })
}
