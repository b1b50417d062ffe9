//! Text in HTML.

use std::fmt;

/// Text that is safe inside of an HTML element or a quoted attribute: `&`, `<`, `>`, `"` and `'` are escaped.
///
/// ```
/// use servlet::escape;
///
/// assert_eq!(format!("<p>{}</p>", escape("a < b")), "<p>a &lt; b</p>");
/// ```
pub fn escape(text: &str) -> Escaped<'_> {
    Escaped(text)
}

/// What [`escape`] returns; it is written with `{}`.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            formatter.write_str(&rest[..at])?;
            formatter.write_str(match rest.as_bytes()[at] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &rest[at + 1..];
        }
        formatter.write_str(rest)
    }
}
