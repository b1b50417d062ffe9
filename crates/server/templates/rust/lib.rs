//! The servlets of @NAME@. Save this file, and Serval builds it; the new version takes over while requests flow.
#![forbid(unsafe_code)]

use servlet::prelude::*;

// Exports what the attributes below declare.
servlet::module!();

/// Answers `greet?name=Ada`, and the form of index.html, which sends the same as a body.
#[servlet("/greet", methods = [GET, POST], init = { "greeting" = "Hello" })]
fn greet(request: &Request, response: &mut Response) -> Result {
    // WEB-INF/web.toml goes before the declaration above.
    let greeting = request.init("greeting").unwrap_or("Hello");
    let name = match request.param("name")? {
        None | Some("") => "World",
        Some(name) => name,
    };
    response.html(page(greeting, name))
}

/// Whatever comes from a client goes into HTML through `escape`.
fn page(greeting: &str, name: &str) -> String {
    format!(
        r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>@NAME@</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="style.css">
<main>
<h1>{}, {}!</h1>
<p><a href="./">Back</a></p>
</main>
</html>
"#,
        escape(greeting),
        escape(name)
    )
}

// `cargo test` in WEB-INF.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_sends_is_escaped() {
        assert!(page("Hello", "<b>Ada</b>").contains("<h1>Hello, &lt;b&gt;Ada&lt;/b&gt;!</h1>"));
    }

    // A whole request without a server: `servlet::test`.
}
