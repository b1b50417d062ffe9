//! Says to browsers what they need not do for this site.

use servlet::prelude::*;

/// Each of them unless the answer has one of its own.
const HEADERS: [(&str, &str); 3] = [
    // Run and load only what is the site's own; `blob:` is the preview of a picture that was not sent yet.
    (
        "content-security-policy",
        "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; \
         frame-ancestors 'none'",
    ),
    // Guess no types.
    ("x-content-type-options", "nosniff"),
    // Tell other sites no addresses of this one.
    ("referrer-policy", "same-origin"),
];

#[derive(Default)]
struct Safety;

#[filter("/*", dispatches = [REQUEST, ERROR], inline)]
impl Filter for Safety {
    type State = ();

    fn request(&self, _: &Request, _: &mut Response) -> Result<Flow<()>> {
        Ok(Flow::Next(()))
    }

    fn response(&self, _: &mut (), head: &mut ResponseHead<'_>) -> Result {
        for (name, value) in HEADERS {
            if head.get(name)?.is_none() {
                head.header(name, value)?;
            }
        }
        Ok(())
    }
}
