//! A cookie that a response sets.

use serval_abi::{SV_COOKIE_HTTP_ONLY, SV_COOKIE_SECURE, sv_cookie, sv_pair, sv_str};

/// A cookie for [`Response::cookie`](crate::Response::cookie). The server checks names and values.
///
/// ```
/// use servlet::prelude::*;
///
/// #[servlet("/like")]
/// fn like(_: &Request, response: &mut Response) -> Result {
///     let cookie = Cookie::new("likes", "tea").path("/").max_age(86_400).http_only().same_site("Lax");
///     response.cookie(&cookie)?.text("So do I.")
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Cookie<'a> {
    name: &'a str,
    value: &'a str,
    path: Option<&'a str>,
    domain: Option<&'a str>,
    max_age: i64,
    flags: u32,
    same_site: Option<&'a str>,
}

impl<'a> Cookie<'a> {
    /// A cookie that ends with the browser's session.
    pub fn new(name: &'a str, value: &'a str) -> Cookie<'a> {
        Cookie { name, value, path: None, domain: None, max_age: 0, flags: 0, same_site: None }
    }

    /// Sets the path below which it is sent.
    pub fn path(self, path: &'a str) -> Cookie<'a> {
        Cookie { path: Some(path), ..self }
    }

    /// Sets the domain to whose hosts it is sent.
    pub fn domain(self, domain: &'a str) -> Cookie<'a> {
        Cookie { domain: Some(domain), ..self }
    }

    /// Sets how long it lives; 0 removes it.
    pub fn max_age(self, seconds: u32) -> Cookie<'a> {
        Cookie { max_age: if seconds == 0 { -1 } else { seconds.into() }, ..self }
    }

    /// Sends it over protected connections only.
    pub fn secure(self) -> Cookie<'a> {
        Cookie { flags: self.flags | SV_COOKIE_SECURE, ..self }
    }

    /// Hides it from scripts.
    pub fn http_only(self) -> Cookie<'a> {
        Cookie { flags: self.flags | SV_COOKIE_HTTP_ONLY, ..self }
    }

    /// Sets SameSite: `Strict`, `Lax` or `None`.
    pub fn same_site(self, same_site: &'a str) -> Cookie<'a> {
        Cookie { same_site: Some(same_site), ..self }
    }

    /// Lends it in the interface's form.
    pub(crate) fn lend<T>(&self, to: impl FnOnce(&sv_cookie) -> T) -> T {
        let optional = |text: Option<&str>| text.map_or(sv_str::ABSENT, sv_str::new);
        let attributes = [sv_pair { name: sv_str::new("SameSite"), value: optional(self.same_site) }];
        to(&sv_cookie {
            struct_size: size_of::<sv_cookie>() as u32,
            flags: self.flags,
            name: sv_str::new(self.name),
            value: sv_str::new(self.value),
            path: optional(self.path),
            domain: optional(self.domain),
            max_age: self.max_age,
            attributes: attributes.as_ptr(),
            attribute_count: usize::from(self.same_site.is_some()),
        })
    }
}
