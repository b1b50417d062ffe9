//! A proxy is a context as any other: it is listed, stopped, started, changed while it serves, and explained.

use e2e::commands::{context, done, serval as run, status};
use e2e::serval::Serval;

use super::upstream::Upstream;
use super::{LONG, get, home, home_at, open, start, text};

/// An upstream that answers with its name.
fn named(name: &'static str) -> Upstream {
    Upstream::start(move |mut accepted| {
        while accepted.request().is_some() {
            accepted.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()));
        }
    })
}

#[test]
fn it_is_listed_stopped_and_started() {
    let upstream = named("old");
    let (home, serval) = start(&upstream, "");
    serval.wait_for_log(&format!("proxy of http://{}", upstream.address), LONG).unwrap();
    let told = status(&home);
    let legacy = context(&told, "/legacy");
    assert_eq!((&legacy["state"], &legacy["servlets"]), (&"ready".into(), &0.into()), "{told:#}");
    assert_eq!(legacy["webapp"], format!("http://{}", upstream.address));
    assert_eq!(told["problems"].as_array().map(Vec::len), Some(0), "{told:#}");
    done(&home, &["stop", "/legacy"]);
    assert_eq!(get(&serval, "/legacy/").status, 503);
    done(&home, &["start", "/legacy"]);
    assert_eq!(text(&get(&serval, "/legacy/")), "old");
    done(&home, &["reload", "/legacy"]);
    assert_eq!(text(&get(&serval, "/legacy/")), "old");
    let (code, _, error) = run(&home, &["rollback", "/legacy"]);
    assert_eq!(code, Some(3), "{error}");
    let (code, _, error) = run(&home, &["undeploy", "/legacy"]);
    assert!(code != Some(0) && error.contains("serves an upstream"), "{error}");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn another_upstream_takes_over_and_a_webapp_too() {
    let (one, two) = (named("one"), named("two"));
    let home = home(&one, "");
    home.write("webapps/legacy/index.html", "a page").unwrap();
    let serval = Serval::start(&home).unwrap();
    assert_eq!(text(&get(&serval, "/legacy/")), "one");
    let told = status(&home);
    let problems = told["problems"].to_string();
    assert!(problems.contains(&format!("server.toml serves http://{} at its path", one.address)), "{problems}");
    let config = std::fs::read_to_string(home.path("conf/server.toml")).unwrap();
    let mut connection = open(&serval);
    let mut becomes = |proxy: &str, expected: &str| {
        let changed = config.replace(&format!("proxy = \"http://{}\"", one.address), proxy);
        home.write("conf/server.toml", changed).unwrap();
        done(&home, &["config", "reload"]);
        assert_eq!(text(&connection.get("/legacy/").unwrap()), expected);
    };
    becomes(&format!("proxy = \"http://{}\"", two.address), "two");
    becomes("", "a page");
    becomes(&format!("proxy = \"http://{}/\"", one.address), "one");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn requests_in_flight_end_with_the_upstream_that_they_began_with() {
    let (let_go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let one = Upstream::start(move |mut accepted| {
        accepted.request();
        wait.lock().unwrap().recv_timeout(LONG).unwrap();
        accepted.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none");
    });
    let two = named("two");
    let (home, serval) = start(&one, "");
    let mut first = open(&serval);
    first.send(b"GET /legacy/ HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    super::wait_until(|| one.heads().len() == 1);
    let config = std::fs::read_to_string(home.path("conf/server.toml")).unwrap();
    home.write("conf/server.toml", config.replace(&one.address.to_string(), &two.address.to_string())).unwrap();
    done(&home, &["config", "reload"]);
    assert_eq!(text(&get(&serval, "/legacy/")), "two");
    let_go.send(()).unwrap();
    assert_eq!(text(&first.read_response().unwrap()), "one");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_request_that_waits_when_its_time_is_up_is_503() {
    let upstream = Upstream::start(|mut accepted| {
        accepted.head();
        accepted.is_left();
    });
    let (home, serval) = start(&upstream, "drain_timeout = \"200ms\"\n");
    let mut waits = open(&serval);
    waits.send(b"GET /legacy/ HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    super::wait_until(|| upstream.heads().len() == 1);
    run(&home, &["stop", "/legacy"]);
    assert_eq!(waits.read_response().unwrap().status, 503);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn it_may_be_the_root_and_others_are_beside_it() {
    let upstream = Upstream::echo();
    let home = home_at(&format!("http://{}/app", upstream.address), "");
    let config = std::fs::read_to_string(home.path("conf/server.toml")).unwrap();
    home.write("conf/server.toml", config.replace("path = \"/legacy\"", "path = \"\"")).unwrap();
    home.write("webapps/new/index.html", "a page").unwrap();
    let serval = Serval::start(&home).unwrap();
    assert_eq!(text(&get(&serval, "/new/")), "a page");
    assert!(text(&get(&serval, "/x?y")).starts_with("GET /app/x?y HTTP/1.1\r\n"));
    assert!(text(&get(&serval, "/")).starts_with("GET /app/ HTTP/1.1\r\n"));
    assert!(serval.stop().unwrap().success());
}

#[test]
fn it_is_explained_and_checked_without_a_server() {
    let home = home_at("http://127.0.0.1:9090/app", "");
    let told = done(&home, &["explain", "GET", "/legacy/x?y"]);
    assert!(told.contains("http://127.0.0.1:9090 is asked for /app/x?y"), "{told}");
    assert!(
        told.contains("the upstream http://127.0.0.1:9090/app") && told.contains("what the upstream says"),
        "{told}"
    );
    done(&home, &["check"]);
    let shown = done(&home, &["config", "show"]);
    assert!(shown.contains("proxy = \"http://127.0.0.1:9090/app\""), "{shown}");
}
