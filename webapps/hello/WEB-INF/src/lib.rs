//! Three servlets in Rust: plain, greet and form. An example to copy.
//!
//! Serval builds this package on start and whenever you save a file of it. By hand, after the server has unpacked its SDK:
//! `cargo build --release`, and then `target/release/libhello.so` belongs into `WEB-INF/lib`.
#![forbid(unsafe_code)]

use servlet::prelude::*;

// Exports what the attributes below declare.
servlet::module!();

/// The cheapest answer there is: a whole response in one call.
///
/// `inline` is a promise to return at once, so the server may call it where the request was read.
#[servlet("/plain", inline)]
fn plain(_: &Request, response: &mut Response) -> Result {
    response.text("Hello, World!")
}

/// `/greet/Ada` has the path info `/Ada`, decoded; `/greet` has none. This is plain text, so nothing has to be escaped.
#[servlet("/greet/*", inline, init = { "greeting" = "Hello" })]
fn greet(request: &Request, response: &mut Response) -> Result {
    let greeting = request.init("greeting").unwrap_or("Hello");
    let name = match request.path_info() {
        None | Some("/") => "World",
        Some(path) => &path[1..],
    };
    response.text(format!("{greeting}, {name}!"))
}

/// Reads a form. It promises nothing, so the server finds out by itself where to run it.
#[servlet("/form", methods = [GET, POST])]
fn form(request: &Request, response: &mut Response) -> Result {
    if request.method() != Method::POST {
        return response.html(page(ASK));
    }
    let field = |name| request.param(name)?.ok_or_else(|| error(400, "the form needs a name and a message"));
    let (name, message) = (field("name")?, field("message")?);
    // Whatever comes from a client goes into HTML through `escape`.
    response.html(page(&format!(
        "<h1>Thank you, {}!</h1>\n<p>You wrote:</p>\n<blockquote>{}</blockquote>\n<p><a href=\"./\">Back</a></p>",
        escape(name),
        escape(message),
    )))
}

const ASK: &str = r#"<form method="post" action="form">
<label>Name <input name="name" autocomplete="name" required></label>
<label>Message <textarea name="message" rows="3" required></textarea></label>
<button>Send</button>
</form>"#;

fn page(main: &str) -> String {
    format!(
        r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>hello: form</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="hello.css">
<main>
{main}
</main>
</html>
"#
    )
}
