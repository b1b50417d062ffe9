//! A cookie that a response sets.

use serval_abi::{SV_COOKIE_HTTP_ONLY, SV_COOKIE_MAX_AGE, SV_COOKIE_SECURE, sv_cookie, sv_pair, sv_str};

/// A cookie for [`Response::cookie`](crate::Response::cookie) (RFC 6265). [`Request::cookie`](crate::Request::cookie) reads
/// what comes back.
///
/// The server checks it: a name is a token; a value is made of printable ASCII without spaces, quotes, commas, semicolons
/// and backslashes. Other text has to be encoded by the author. Browsers keep about 4 KiB for one cookie.
///
/// ```
/// use servlet::prelude::*;
///
/// #[servlet("/like")]
/// fn like(request: &Request, response: &mut Response) -> Result {
///     let before = request.cookie("likes")?.unwrap_or("nothing");
///     let cookie = Cookie::new("likes", "tea").path("/").max_age(86_400).http_only().same_site(SameSite::Lax);
///     response.cookie(&cookie)?.text(format!("You liked {before}."))
/// }
///
/// #[servlet("/forget")]
/// fn forget(_: &Request, response: &mut Response) -> Result {
///     response.cookie(&Cookie::remove("likes").path("/"))?.text("Forgotten.")
/// }
///
/// servlet::module!();
/// # fn main() {
/// let app = servlet::test::App::new();
/// app.get("/like").send().assert_text("You liked nothing.");
/// app.get("/like").send().assert_text("You liked tea.");
/// app.get("/forget").send();
/// app.get("/like").send().assert_text("You liked nothing.");
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Cookie<'a> {
    name: &'a str,
    value: &'a str,
    path: Option<&'a str>,
    domain: Option<&'a str>,
    max_age: Option<u32>,
    flags: u32,
    same_site: Option<SameSite>,
    partitioned: bool,
    others: Vec<(&'a str, &'a str)>,
}

/// Whether a browser sends a cookie with requests that another site caused (RFC 6265bis).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// Never.
    Strict,
    /// Only when the user follows a link to this site.
    Lax,
    /// Always. Browsers want such a cookie to be secure as well, so it becomes so.
    None,
}

impl<'a> Cookie<'a> {
    /// A cookie that ends with the browser's session.
    pub fn new(name: &'a str, value: &'a str) -> Cookie<'a> {
        Cookie {
            name,
            value,
            path: None,
            domain: None,
            max_age: None,
            flags: 0,
            same_site: None,
            partitioned: false,
            others: Vec::new(),
        }
    }

    /// Removes a cookie from the browser; with the path and domain that it was set with.
    pub fn remove(name: &'a str) -> Cookie<'a> {
        Cookie::new(name, "").max_age(0)
    }

    /// Sets the path below which it is sent; without it, it is the folder of the request's path.
    pub fn path(self, path: &'a str) -> Cookie<'a> {
        Cookie { path: Some(path), ..self }
    }

    /// Sets the domain to whose hosts it is sent; without it, only to this one.
    pub fn domain(self, domain: &'a str) -> Cookie<'a> {
        Cookie { domain: Some(domain), ..self }
    }

    /// Sets how long it lives; 0 removes it.
    pub fn max_age(self, seconds: u32) -> Cookie<'a> {
        Cookie { max_age: Some(seconds), ..self }
    }

    /// Sends it over protected connections only.
    pub fn secure(self) -> Cookie<'a> {
        Cookie { flags: self.flags | SV_COOKIE_SECURE, ..self }
    }

    /// Hides it from scripts.
    pub fn http_only(self) -> Cookie<'a> {
        Cookie { flags: self.flags | SV_COOKIE_HTTP_ONLY, ..self }
    }

    /// Sets whether it is sent with requests that another site caused.
    pub fn same_site(self, same_site: SameSite) -> Cookie<'a> {
        let cookie = Cookie { same_site: Some(same_site), ..self };
        if same_site == SameSite::None { cookie.secure() } else { cookie }
    }

    /// Keeps one for each site that this one is embedded in (CHIPS). Browsers want such a cookie to be secure as well, so it
    /// becomes so.
    pub fn partitioned(self) -> Cookie<'a> {
        Cookie { partitioned: true, ..self }.secure()
    }

    /// Adds another attribute, such as `Priority=High`; it is sent as it is.
    pub fn attribute(mut self, name: &'a str, value: &'a str) -> Cookie<'a> {
        self.others.push((name, value));
        self
    }

    /// Lends it in the interface's form.
    pub(crate) fn lend<T>(&self, to: impl FnOnce(&sv_cookie) -> T) -> T {
        let optional = |text: Option<&str>| text.map_or(sv_str::ABSENT, sv_str::new);
        let same_site = self.same_site.map(|same_site| match same_site {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
            SameSite::None => "None",
        });
        let known =
            [same_site.map(|value| ("SameSite", Some(value))), self.partitioned.then_some(("Partitioned", None))];
        let others = self.others.iter().map(|(name, value)| (*name, Some(*value)));
        let attributes: Vec<sv_pair> = (known.into_iter().flatten().chain(others))
            .map(|(name, value)| sv_pair { name: sv_str::new(name), value: optional(value) })
            .collect();
        to(&sv_cookie {
            struct_size: size_of::<sv_cookie>() as u32,
            flags: self.flags | if self.max_age.is_some() { SV_COOKIE_MAX_AGE } else { 0 },
            name: sv_str::new(self.name),
            value: sv_str::new(self.value),
            path: optional(self.path),
            domain: optional(self.domain),
            max_age: self.max_age.unwrap_or(0).into(),
            attributes: attributes.as_ptr(),
            attribute_count: attributes.len(),
        })
    }
}
