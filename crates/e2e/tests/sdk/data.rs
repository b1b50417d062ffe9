//! Parameters, forms, JSON, uploads, cookies and sessions.

use crate::kitchen::{Kitchen, body, libraries};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const JSON: &str = "Content-Type: application/json; charset=utf-8\r\n";

/// The answer, and what the log says of it, for what an author is to know goes there.
#[track_caller]
fn refused(kitchen: &Kitchen, method: &str, path: &str, headers: &str, sent: &str, status: u16, reason: &str) {
    let position = kitchen.position();
    let answer = kitchen.send(method, path, headers, sent);
    assert_eq!(answer.status, status, "{path} {sent}: {}", body(&answer));
    assert!(body(&answer).contains(reason), "{path} {sent}: {}", body(&answer));
    assert_eq!(kitchen.lines_with(position, "ERROR"), Vec::<String>::new());
}

#[test]
fn plain_and_async_functions() {
    let kitchen = Kitchen::open_with("[[servlet]]\nname = \"plain\"\ninit = { word = \"FN\" }\n", "");
    kitchen.check("/plain", 200, "FN -");
    kitchen.check("/plain/a%20b", 200, "FN /a b");
    kitchen.check("/waits", 200, "generation 1");
    assert_eq!(kitchen.send("POST", "/plain", "", "").header("allow"), Some("GET, HEAD, OPTIONS"));
    kitchen.close();
}

/// In development clients see why, which is how this sees it.
#[test]
fn parameters_and_forms() {
    let kitchen = Kitchen::open_with("", "[server]\ndevelopment = true");
    kitchen.check("/items/7", 200, "item 7");
    refused(&kitchen, "GET", "/items/x", "", "", 400, "the path parameter id is");
    refused(&kitchen, "GET", "/items/-1", "", "", 400, "invalid digit found in string");

    let order = "Order { item: \"green tea\", count: 2, topping: [\"a\", \"b\"] }";
    let sent = "item=green+tea&count=2&topping=a&topping=b";
    kitchen.check(&format!("/form?{sent}"), 200, order);
    for path in ["/form", "/form-async"] {
        let answer = kitchen.send("POST", path, FORM, sent);
        assert_eq!((answer.status, body(&answer)), (200, order), "{path}");
        for (sent, reason) in [
            ("item=tea&count=two", "count"),
            ("item=tea", "count"),
            ("item=tea&count=1&count=2", "given 2 times"),
            ("item=tea&count=-2", "count"),
        ] {
            refused(&kitchen, "POST", path, FORM, sent, 400, reason);
        }
        refused(&kitchen, "POST", path, FORM, "item=%zz", 400, "");
    }
    let answer = kitchen.send("POST", "/query?item=tea&count=2", FORM, "count=3");
    assert_eq!(body(&answer), "Order { item: \"tea\", count: 2, topping: [] } \"count=3\"");
    refused(&kitchen, "POST", "/query?count=2", FORM, "item=tea", 400, "item");
    kitchen.close();
}

#[test]
fn json_in_and_out() {
    let kitchen = Kitchen::open_with("", "[server]\ndevelopment = true");
    for path in ["/json", "/json-async"] {
        let answer = kitchen.send("POST", path, JSON, r#"{"item": "Tee für zwei", "count": 2}"#);
        assert_eq!(body(&answer), r#"{"item":"Tee für zwei","count":2,"topping":[]}"#);
        assert_eq!((answer.status, answer.header("content-type")), (201, Some("application/json")));

        refused(&kitchen, "POST", path, JSON, r#"{"item": "tea", "count": "#, 400, "EOF while parsing");
        refused(&kitchen, "POST", path, JSON, r#"{"item": "tea", "count": -1}"#, 400, "count: invalid value");
        refused(&kitchen, "POST", path, JSON, r#"{"item": "tea", "topping": [1]}"#, 400, "topping[0]: invalid type");
        refused(&kitchen, "POST", path, JSON, "{} {}", 400, "missing field");
        refused(&kitchen, "POST", path, JSON, "", 400, "EOF while parsing");
        refused(&kitchen, "POST", path, JSON, &" ".repeat(1001), 413, "");
        refused(&kitchen, "POST", path, "Content-Type: text/plain\r\n", "{}", 415, "application/json is expected");
        refused(&kitchen, "POST", path, "", "{}", 415, "application/json is expected");
    }
    assert_eq!(body(&kitchen.send("POST", "/tree", JSON, "[[[]]]")), "3");
    refused(&kitchen, "POST", "/tree", JSON, &"[".repeat(100_000), 400, "recursion limit exceeded");
    kitchen.close();
}

#[test]
fn uploads() {
    let web = "[multipart]\nmemory_bytes_max = \"1KiB\"\nfile_bytes_max = \"10KiB\"\n";
    let kitchen = Kitchen::open_with(web, "");
    let part = |disposition: &str, content: &str| {
        format!("--xyz\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{content}\r\n")
    };
    let multipart = "Content-Type: multipart/form-data; boundary=xyz\r\n";
    let large = "0123456789".repeat(200);
    for path in ["/upload", "/upload-async"] {
        let sent = [
            part("name=\"note\"", "hello"),
            part("name=\"a\"; filename=\"../../../escaped.txt\"", "small"),
            part("name=\"b\"; filename=\"C:\\\\x\\\\large.bin\"", &large),
            "--xyz--\r\n".to_owned(),
        ];
        let answer = kitchen.send("POST", path, multipart, sent.concat());
        assert_eq!(
            body(&answer),
            "hello note=None:5:memory\n a=Some(\"escaped.txt\"):5:memory\n b=Some(\"large.bin\"):2000:file\n"
        );
        let work = kitchen.home.path("var/work/localhost/app");
        assert_eq!(std::fs::read_to_string(work.join("escaped.txt")).unwrap(), "small");
        assert_eq!(std::fs::read_to_string(work.join("large.bin")).unwrap(), large);

        let sent = [part("name=\"b\"; filename=\"x\"", &"0".repeat(11 << 10)), "--xyz--\r\n".to_owned()];
        assert_eq!(kitchen.send("POST", path, multipart, sent.concat()).status, 413);
        assert_eq!(kitchen.send("POST", path, multipart, part("name=\"b\"", "no end")).status, 400);
        assert_eq!(kitchen.send("POST", path, FORM, "a=b").status, 415);
        assert!(!work.join("x").exists());
    }
    kitchen.close();
}

#[test]
fn cookies() {
    let kitchen = Kitchen::open();
    let first = kitchen.get("/cookies");
    assert_eq!(body(&first), "nothing of 0");
    let set = first.header("set-cookie").unwrap();
    for part in ["taste=sweet; ", "; Path=/", "; Max-Age=60", "; HttpOnly", "; SameSite=Lax"] {
        assert!(set.contains(part), "{part}: {set}");
    }
    let second = kitchen.send("GET", "/cookies", "Cookie: a=b; taste=sweet\r\n", "");
    assert_eq!(body(&second), "sweet of 2");
    kitchen.close();
}

#[test]
fn a_session_outlives_the_library_that_wrote_it() {
    let mut kitchen = Kitchen::open();
    let first = kitchen.get("/cart?add");
    assert_eq!(body(&first), "Some((\"Ada\", 1))");
    let cookie = first.header("set-cookie").and_then(|set| set.split(';').next()).unwrap();
    let cookie = format!("Cookie: {cookie}\r\n");
    let cart = |kitchen: &Kitchen, query: &str| {
        let answer = kitchen.send("GET", &format!("/cart{query}"), &cookie, "");
        (answer.status, body(&answer).to_owned())
    };
    let some = |count: u32| (200, format!("Some((\"Ada\", {count}))"));
    assert_eq!(cart(&kitchen, "?add"), some(2));
    kitchen.reload();
    assert_eq!(cart(&kitchen, ""), some(2));

    // One that expects a text where the list is.
    kitchen.reload_with(&libraries()[1]);
    for query in ["", "?add"] {
        let position = kitchen.position();
        assert_eq!(cart(&kitchen, query).0, 500);
        let said = kitchen.lines_with(position, "session attribute");
        assert_eq!(said.len(), 1, "{said:#?}");
        for part in ["\"cart\" is not a kitchen::data::Cart: items: invalid type: sequence", "servlet=cart", "request="]
        {
            assert!(said[0].contains(part), "{part}: {said:#?}");
        }
    }
    let position = kitchen.position();
    assert_eq!(cart(&kitchen, "?forgive"), (200, "None".to_owned()));
    let said = kitchen.lines_with(position, "it is removed");
    assert!(said.len() == 1 && said[0].contains("WARN"), "{said:#?}");
    assert_eq!(cart(&kitchen, "?add"), some(1));
    // The session is the same.
    assert_eq!(kitchen.lines_with(0, "a session: Created").len(), 1);
    kitchen.close();
}
