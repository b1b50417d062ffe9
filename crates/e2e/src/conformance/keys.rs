//! From Tomcat's settings to Serval's: the reviewed tables.
//!
//! What a setup names and Serval has no key for yet is [`Means::NotYet`], with the name that the key would have; such cases fail.
//! What has no counterpart on purpose is [`Means::NotApplicable`], with the reason; such cases are reported, and never pass.

use anyhow::{Result, bail};

/// What a setting of Tomcat is here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// A key of `[[listener]]`.
    Listener(&'static str, As),
    /// A key of `[[host.context]]`, for each context of the setup.
    Context(&'static str, As),
    /// A key of `[host.context.remote_ip]`.
    RemoteIp(&'static str, As),
    /// A key of a table of web.toml; "": of the file itself.
    Web(&'static str, &'static str, As),
    /// A flag of each `[[servlet]]` that the text names.
    Servlets(&'static str),
    /// Nothing is to be written; with the reason.
    Nothing(&'static str),
    /// The key that it would be.
    NotYet(&'static str),
    /// The reason.
    NotApplicable(&'static str),
}

/// How Tomcat's text is written in TOML.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum As {
    Flag,
    /// True there is false here.
    NotFlag,
    Text,
    Count,
    /// The same; -1, which is no limit there, is 0 here.
    CountOrNone,
    /// A word, in lower case here.
    Lower,
    /// Bytes, or a number; -1, which is no limit there, is what Serval has as its upper bound here.
    Bytes(&'static str),
    /// A duration from milliseconds, or from minutes or seconds; 0 and below: none.
    Milliseconds,
    Minutes,
    Seconds,
    /// A list from one text with commas.
    List,
    /// `true`, or `coding=.ext,...`.
    Precompressed,
}

use As::*;
use Means::*;

/// What a setup does not name has Tomcat's default. These are the keys in which Serval's own default differs.
pub const LISTENER_DEFAULTS: [(&str, &str); 3] = [
    // Serval refuses what a proxy in front may read otherwise; Tomcat cleans it up.
    ("allow_suspicious_uris", "true"),
    // Serval refuses %5C at once. Tomcat decodes it, and then refuses the backslash unless that is allowed.
    ("encoded_backslash", "\"decode\""),
    // Serval has no reason to end a connection that is in use.
    ("requests_per_connection_max", "100"),
];

/// The same, in web.toml.
pub const WEB_DEFAULTS: [(&str, &str, &str); 2] = [
    // Serval's session cookie is Lax; Tomcat leaves it to the browser, as that of all cookies.
    ("cookies", "same_site", "\"unset\""),
    // Serval tracks by cookie only, for URLs are logged and shared.
    ("session", "url_rewriting", "true"),
];

/// The same, in [[host.context]].
pub const CONTEXT_DEFAULTS: [(&str, &str); 1] = [
    // Serval has 2 KiB, for long names of files.
    ("part_header_bytes_max", "512"),
];

/// The same, in [server].
pub const SERVER_DEFAULTS: [(&str, &str); 1] = [
    // Tomcat's error pages say why; Serval's do only while one develops.
    ("development", "true"),
];

/// Attributes of Tomcat's HTTP connector.
pub const CONNECTOR: &[(&str, Means)] = &[
    ("rejectSuspiciousURIs", Listener("allow_suspicious_uris", NotFlag)),
    ("encodedSolidusHandling", Listener("encoded_slash", Text)),
    ("encodedReverseSolidusHandling", Listener("encoded_backslash", Text)),
    ("allowBackslash", Listener("allow_backslash", Flag)),
    ("relaxedPathChars", Listener("relaxed_path_chars", Text)),
    ("relaxedQueryChars", Listener("relaxed_query_chars", Text)),
    ("allowTrace", Listener("allow_trace", Flag)),
    ("proxyName", Listener("proxy_name", Text)),
    ("proxyPort", Listener("proxy_port", Count)),
    ("maxConnections", Listener("connections_max", Count)),
    ("acceptCount", Listener("backlog", Count)),
    ("maxHttpHeaderSize", Listener("head_bytes_max", Bytes("1048576"))),
    ("maxHttpRequestHeaderSize", Listener("head_bytes_max", Bytes("1048576"))),
    ("maxHeaderCount", Listener("header_count_max", Count)),
    ("connectionTimeout", Listener("head_timeout", Milliseconds)),
    ("maxParameterCount", Context("parameter_count_max", Bytes("1000000"))),
    ("maxPostSize", Context("form_bytes_max", Bytes("33554432"))),
    ("maxPartCount", Context("part_count_max", Bytes("10000"))),
    ("maxPartHeaderSize", Context("part_header_bytes_max", Bytes("65536"))),
    ("asyncTimeout", Context("async_timeout", Milliseconds)),
    ("keepAliveTimeout", Listener("keep_alive_timeout", Milliseconds)),
    ("maxKeepAliveRequests", Listener("requests_per_connection_max", CountOrNone)),
    ("maxSwallowSize", Listener("unread_body_bytes_max", Bytes("1073741824"))),
    ("connectionUploadTimeout", Listener("body_timeout", Milliseconds)),
    ("maxTrailerSize", Listener("trailer_bytes_max", Bytes("16384"))),
    ("allowedTrailerHeaders", Listener("trailers", List)),
    ("maxCookieCount", Context("cookie_count_max", Bytes("1000"))),
    ("maxThreads", Context("workers_max", Count)),
    ("minSpareThreads", Nothing("threads are made when they are needed")),
    (
        "maxExtensionSize",
        NotApplicable("chunk extensions are read by nobody, and all of a body together are bounded at 16 KiB"),
    ),
    ("continueResponseTiming", NotApplicable("a client is asked for its body when somebody reads it")),
    ("maxSavePostSize", NotYet("saved_request_bytes_max in [login]")),
    ("parseBodyMethods", Context("form_methods", List)),
    ("redirectPort", NotYet("secure_port in [[listener]]")),
    ("server", Listener("server_header", Text)),
    ("scheme", Nothing("`secure` says it: https, or http")),
    ("secure", Listener("secure", Flag)),
    (
        "allowHostHeaderMismatch",
        NotApplicable("two names for one host in a request are always refused (RFC 9112 3.2.2)"),
    ),
    ("URIEncoding", NotApplicable("paths and queries are UTF-8 (RFC 3986 2.5)")),
    ("useBodyEncodingForURI", NotApplicable("paths and queries are UTF-8 (RFC 3986 2.5)")),
    ("enableLookups", NotApplicable("names of clients are not looked up: a request would wait for DNS")),
];

/// Attributes of Tomcat's Context.
pub const CONTEXT: &[(&str, Means)] = &[
    ("mapperContextRootRedirectEnabled", Web("redirects", "context_root", Flag)),
    (
        "mapperDirectoryRedirectEnabled",
        Nothing("the static servlet redirects, which shows nothing to those who may not see"),
    ),
    ("allowLinking", Context("symlinks_outside", Flag)),
    ("sessionTimeout", Web("session", "timeout", Minutes)),
    ("sessionCookieName", Web("session", "cookie_name", Text)),
    ("sessionCookiePath", Web("session", "cookie_path", Text)),
    ("sessionCookieDomain", Web("session", "cookie_domain", Text)),
    ("useHttpOnly", Web("session", "http_only", Flag)),
    ("usePartitioned", Web("session", "partitioned", Flag)),
    ("sessionCookiePathUsesTrailingSlash", Web("session", "cookie_path_slash", Flag)),
    (
        "crossContext",
        NotApplicable(
            "a webapp's code, pool and sessions are reached through its own requests alone, so that it can be reloaded, bounded and \
             put into its own process by itself: redirect to the other one, or ask it over HTTP",
        ),
    ),
    ("dispatchersUseEncodedPaths", Web("", "plain_dispatch_paths", NotFlag)),
    ("useRelativeRedirects", Web("redirects", "relative", Flag)),
    ("resourceOnlyServlets", Servlets("resource_only")),
    ("allowCasualMultipartParsing", Web("multipart", "everywhere", Flag)),
    (
        "failCtxIfServletStartFails",
        NotApplicable("a generation whose servlet does not start is always refused, and the one before serves on"),
    ),
    ("alwaysAccessSession", Nothing("a session that is asked for counts as used")),
    ("reloadable", Nothing("a changed library is always loaded")),
    ("cachingAllowed", Nothing("a changed file is always served changed")),
    ("cacheTtl", Nothing("a changed file is always served changed")),
];

/// Init parameters of Tomcat's DefaultServlet.
pub const DEFAULT_SERVLET: &[(&str, Means)] = &[
    ("readonly", Web("files", "writable", NotFlag)),
    ("allowPartialPut", Web("files", "partial_put", Flag)),
    ("allowPostAsGet", Web("files", "post_as_get", Flag)),
    ("useStrongETags", Web("files", "strong_etags", Flag)),
    ("listings", Web("files", "listings", Flag)),
    ("precompressed", Web("files", "precompressed", Precompressed)),
    ("directoryRedirectStatusCode", Web("redirects", "status", Count)),
    ("debug", Nothing("the log has levels of its own")),
    ("input", Nothing("files are sent in pieces of the server's choice")),
    ("output", Nothing("files are sent in pieces of the server's choice")),
    ("sendfileSize", Nothing("how a file is sent cannot be seen")),
    ("fileEncoding", NotApplicable("text files are UTF-8, and sent as they are (SEMANTICS 14)")),
    ("useBomIfPresent", NotApplicable("text files are UTF-8, and sent as they are (SEMANTICS 14)")),
    ("useAcceptRanges", NotApplicable("ranges are always offered (RFC 9110 14.3)")),
    ("showServerInfo", NotApplicable("listings name no software")),
    ("sortListings", NotApplicable("listings are sorted by who looks at them")),
    ("localXsltFile", NotApplicable("listings are HTML and JSON")),
    ("readmeFile", NotApplicable("listings are HTML and JSON")),
];

/// Attributes of Tomcat's RemoteIpValve.
pub const REMOTE_IP: &[(&str, Means)] = &[
    ("internalProxies", RemoteIp("internal_proxies", List)),
    ("trustedProxies", RemoteIp("trusted_proxies", List)),
    ("remoteIpHeader", RemoteIp("remote_ip_header", Text)),
    ("proxiesHeader", RemoteIp("proxies_header", Text)),
    ("protocolHeader", RemoteIp("protocol_header", Text)),
    ("protocolHeaderHttpsValue", RemoteIp("protocol_https_value", Text)),
    ("hostHeader", RemoteIp("host_header", Text)),
    ("portHeader", RemoteIp("port_header", Text)),
    ("httpServerPort", RemoteIp("http_port", Count)),
    ("httpsServerPort", RemoteIp("https_port", Count)),
    ("requestAttributesEnabled", Nothing("use_remote_ip in [host.access_log] decides")),
];

/// Attributes of Tomcat's cookie processor.
pub const COOKIES: &[(&str, Means)] = &[
    ("sameSiteCookies", Web("cookies", "same_site", Lower)),
    ("cookiesWithoutEquals", Web("cookies", "without_equals", Lower)),
    ("partitioned", Web("cookies", "partitioned", Flag)),
];

/// Attributes of Tomcat's ErrorReportValve.
pub const ERROR_REPORT: &[(&str, Means)] = &[
    ("showReport", Web("error_report", "reason", Flag)),
    ("showServerInfo", Nothing("no page names the server's software")),
];

/// Valves but remote-ip and error-report, and the container's own filters: none is there yet.
pub const VALVES: &[(&str, Means)] = &[
    ("rewrite", NotYet("[[rewrite]] in web.toml")),
    ("health", NotYet("[health] in web.toml")),
    ("cidr", NotYet("[addresses] in web.toml")),
];
pub const FILTERS: &[(&str, Means)] = &[
    ("cors", NotYet("a [[filter]] of the class \"cors\" in web.toml")),
    ("header-security", NotYet("a [[filter]] of the class \"header-security\" in web.toml")),
    ("rate-limit", NotYet("a [[filter]] of the class \"rate-limit\" in web.toml")),
    ("cidr", NotYet("a [[filter]] of the class \"cidr\" in web.toml")),
    ("charset", NotYet("a [[filter]] of the class \"charset\" in web.toml")),
    ("expires", NotYet("a [[filter]] of the class \"expires\" in web.toml")),
];

/// Parts of a descriptor that have no keys yet.
pub const LOGIN: &str = "[login] in web.toml";
pub const CONSTRAINTS: &str = "[[constraint]] in web.toml";
pub const MANAGER: &str = "manager = true in [[host]]";

/// Java's exceptions, and the kinds of failures here.
pub const KINDS: &[(&str, &str)] = &[
    ("java.io.IOException", "io"),
    ("java.io.FileNotFoundException", "io/not-found"),
    ("java.lang.RuntimeException", "runtime"),
    ("fx.Act$Custom", "runtime/custom"),
    ("jakarta.servlet.ServletException", "servlet"),
];

/// Finds a setting of Tomcat's in one of the tables.
pub fn find(table: &[(&str, Means)], name: &str) -> Result<Means> {
    match table.iter().find(|(known, _)| *known == name) {
        Some((_, means)) => Ok(*means),
        None => bail!("`{name}` is in no table of crates/e2e/src/conformance/keys.rs"),
    }
}

impl As {
    /// Writes Tomcat's text as a value of TOML.
    pub fn toml(self, given: &str) -> Result<String> {
        let flag = || given.parse::<bool>().map_err(|_| anyhow::anyhow!("{given:?} is not true or false"));
        let number = || given.parse::<i64>().map_err(|_| anyhow::anyhow!("{given:?} is not a number"));
        let duration = |unit: &str| Ok(format!("\"{}{unit}\"", number()?.max(0)));
        match self {
            Flag => Ok(flag()?.to_string()),
            NotFlag => Ok((!flag()?).to_string()),
            Text => Ok(text(given)),
            Count => Ok(number()?.to_string()),
            CountOrNone => Ok(number()?.max(0).to_string()),
            Lower => Ok(text(&given.to_ascii_lowercase())),
            Bytes(most) => Ok(if number()? < 0 { most.to_owned() } else { given.to_owned() }),
            Milliseconds => duration("ms"),
            Minutes => duration("m"),
            Seconds => duration("s"),
            List => Ok(texts(given.split(',').map(str::trim).filter(|item| !item.is_empty()))),
            Precompressed => Ok(match given {
                "true" => texts(["br", "gzip"]),
                "false" => texts([]),
                given => texts(given.split(',').map(str::trim)),
            }),
        }
    }
}

/// A string of TOML, whose escapes are those of JSON.
pub fn text(value: &str) -> String {
    // `${` would be replaced; `$${` stands for it.
    serde_json::Value::from(value.replace("${", "$${")).to_string().replace('\u{7f}', "\\u007f")
}

pub fn texts<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let values: Vec<String> = values.into_iter().map(text).collect();
    format!("[{}]", values.join(", "))
}
