//! Sessions in memory (Servlet 7, SEMANTICS 17): the cookie, the id, the time, the bounds, and what a reload does to them: nothing.

use std::time::{Duration, Instant};

use e2e::http_client::{Connection, Response};
use e2e::load::{Load, Outcome};
use e2e::serval::{Home, Serval};

const LONG: Duration = Duration::from_secs(60);
const SOURCE: &str = include_str!("sessions.c");

fn start(web: &str, settings: &str) -> (Home, Serval) {
    let home = Home::new().unwrap();
    for webapp in ["x", "xx"] {
        home.write(&format!("webapps/{webapp}/WEB-INF/src/sessions.c"), SOURCE).unwrap();
        home.write(&format!("webapps/{webapp}/WEB-INF/web.toml"), web).unwrap();
    }
    home.configure(&format!("[build]\nsources = true\n[defaults.context]\n{settings}")).unwrap();
    let serval = Serval::start(&home).unwrap();
    wait_until(|| ["/x/count?look", "/xx/count?look"].iter().all(|target| get(&serval, target, "").status == 200));
    (home, serval)
}

#[track_caller]
fn wait_until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < deadline, "it has not come to be so");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// With a Cookie header, if it is not empty.
fn get(serval: &Serval, target: &str, cookie: &str) -> Response {
    let cookie = if cookie.is_empty() { String::new() } else { format!("Cookie: {cookie}\r\n") };
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{cookie}\r\n").as_bytes()).unwrap();
    connection.read_response().unwrap()
}

fn text(answer: &Response) -> &str {
    std::str::from_utf8(&answer.body).unwrap()
}

/// The `name=value` that the answer sets.
#[track_caller]
fn cookie(answer: &Response) -> String {
    answer.header("set-cookie").expect("a cookie").split(';').next().unwrap().to_owned()
}

#[test]
fn a_session_is_kept_by_a_cookie() {
    let (_home, serval) = start("", "");
    let first = get(&serval, "/x/count", "");
    assert_eq!(text(&first), "1 new");
    let set = first.header("set-cookie").unwrap();
    let id = set.strip_prefix("JSESSIONID=").and_then(|rest| rest.strip_suffix("; Path=/x; HttpOnly; SameSite=Lax"));
    let id = id.unwrap_or_else(|| panic!("{set}"));
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_lowercase()), "{id}");
    let kept = cookie(&first);
    let second = get(&serval, "/x/count", &kept);
    assert_eq!((text(&second), second.header("set-cookie")), ("2", None));
    assert_eq!(second.header("x-url"), Some("count?x"));
    // Of several, the first that is one.
    let several = format!("JSESSIONID=no; a=b; {kept}; JSESSIONID=neither");
    assert_eq!(text(&get(&serval, "/x/count", &several)), "3");
    // What the client makes up is not taken, and another webapp has sessions of its own.
    for (target, theirs) in [("/x/count", "JSESSIONID=00000000000000000000000000000000"), ("/xx/count", kept.as_str())]
    {
        let other = get(&serval, target, theirs);
        assert_eq!(text(&other), "1 new");
        assert_ne!(cookie(&other), theirs);
    }
    assert_eq!(text(&get(&serval, "/x/count?look", "")), "none, asked for nothing");
    assert_eq!(text(&get(&serval, "/x/count?look", &kept)), "one, asked for it");
    assert_eq!(text(&get(&serval, "/x/count?look", "JSESSIONID=x")), "none, asked for another");
    assert_eq!(text(&get(&serval, "/x/count?late", "")), "late");
    // The cookie outlives a reset of the response.
    assert_eq!(text(&get(&serval, "/x/count", &cookie(&get(&serval, "/x/count?reset", "")))), "2");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn an_id_changes_and_a_session_ends() {
    let (_home, serval) = start("", "");
    let old = cookie(&get(&serval, "/x/count", ""));
    let rotated = get(&serval, "/x/count?rotate", &old);
    assert_eq!(text(&rotated), "2");
    let new = cookie(&rotated);
    assert_ne!(old, new);
    assert_eq!(text(&get(&serval, "/x/count", &new)), "3");
    assert_eq!(text(&get(&serval, "/x/count?look", &old)), "none, asked for another");
    let ended = get(&serval, "/x/count?end", &new);
    assert_eq!((text(&ended), ended.header("set-cookie")), ("ended", None));
    assert_eq!(text(&get(&serval, "/x/count", &new)), "1 new");
    // With another session the old id is not valid again.
    let old = cookie(&get(&serval, "/x/count", ""));
    let renewed = get(&serval, "/x/count?renew", &old);
    assert_eq!((text(&renewed), cookie(&renewed) == old), ("stale", false));
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_session_outlives_a_reload() {
    let (home, serval) = start("", "");
    let kept = cookie(&get(&serval, "/x/count", ""));
    let next = SOURCE.replace("\"%d%s\"", "\"%d visits%s\"");
    home.write("webapps/x/WEB-INF/src/sessions.c", &next).unwrap();
    let mut visits = 1;
    wait_until(|| {
        visits += 1;
        let answer = get(&serval, "/x/count", &kept);
        if text(&answer) == format!("{visits} visits") {
            return true;
        }
        assert_eq!(text(&answer), visits.to_string());
        false
    });
    assert!(serval.stop().unwrap().success());
}

#[test]
fn time_ends_a_session() {
    const TIME: Duration = Duration::from_secs(3);
    let (_home, serval) = start(&format!("[session]\ntimeout = \"{TIME:?}\""), "");
    let kept = cookie(&get(&serval, "/x/count", ""));
    assert_eq!(text(&get(&serval, "/x/count", &kept)), "2");
    wait_until(|| {
        // A look is a use, so it is not looked at before its time, which begins when the last request is over: maybe after its answer.
        std::thread::sleep(TIME);
        text(&get(&serval, "/x/count?look", &kept)) == "none, asked for another"
    });
    assert!(serval.stop().unwrap().success());
}

#[test]
fn sessions_are_bounded() {
    let (_home, serval) = start("", "sessions_max = 2\nsession_bytes_max = \"50KiB\"");
    let first = cookie(&get(&serval, "/x/count", ""));
    get(&serval, "/x/count", "");
    let third = get(&serval, "/x/count", "");
    assert_eq!((third.status, third.header("set-cookie")), (503, None));
    assert_eq!(text(&get(&serval, "/x/count?large", &first)), "limit");
    assert_eq!(text(&get(&serval, "/x/count?short", &first)), "2");
    // One that has ended makes room, at the latest when the server looks.
    wait_until(|| {
        std::thread::sleep(Duration::from_millis(500));
        get(&serval, "/x/count", "").status == 200
    });
    assert!(serval.stop().unwrap().success());
}

#[test]
fn web_toml_says_how_the_cookie_is() {
    let web = "[session]\ncookie_name = \"id\"\ncookie_path = \"/\"\ncookie_max_age = \"1h\"\nhttp_only = false\n\
               secure = true\nsame_site = \"strict\"\n";
    let (_home, serval) = start(web, "");
    let answer = get(&serval, "/x/count", "");
    let set = answer.header("set-cookie").unwrap();
    assert!(set.starts_with("id=") && set.contains("; Max-Age=3600; Expires="), "{set}");
    assert!(set.ends_with(" GMT; Path=/; Secure; SameSite=Strict"), "{set}");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_url_carries_the_id_when_it_may() {
    let (_home, serval) = start("[session]\nurl_rewriting = true", "");
    let first = get(&serval, "/x/count", "");
    let url = first.header("x-url").unwrap();
    let id = url.strip_prefix("count;jsessionid=").and_then(|rest| rest.strip_suffix("?x")).unwrap();
    let second = get(&serval, &format!("/x/count;jsessionid={id}"), "");
    assert_eq!(text(&second), "2");
    // A cookie makes it needless.
    assert_eq!(get(&serval, "/x/count", &cookie(&first)).header("x-url"), Some("count?x"));
    assert!(serval.stop().unwrap().success());
}

/// The usual way to put a new version in place by hand: two renames, or a link that leads elsewhere.
#[test]
fn a_webapp_whose_folder_is_replaced_keeps_its_sessions() {
    let (home, serval) = start("", "");
    for (webapp, mark) in [("x", "one"), ("new", "two"), ("linked", "three")] {
        let (from, to) = (home.path("webapps/x/WEB-INF/lib"), home.path(&format!("{webapp}/WEB-INF/lib")));
        if webapp != "x" {
            std::fs::create_dir_all(&to).unwrap();
            for library in std::fs::read_dir(from).unwrap() {
                let library = library.unwrap();
                std::fs::copy(library.path(), to.join(library.file_name())).unwrap();
            }
        }
        let place = if webapp == "x" { "webapps/x/mark.txt".to_owned() } else { format!("{webapp}/mark.txt") };
        home.write(&place, mark).unwrap();
    }
    let kept = cookie(&get(&serval, "/x/count", ""));
    let load = Load::start(serval.address(), 2, LONG, {
        let kept = kept.clone();
        move |_, connection| {
            let target = "/x/count?look";
            connection.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\nCookie: {kept}\r\n\r\n").as_bytes())?;
            let answer = connection.read_response()?;
            Ok(match (answer.status, answer.body.starts_with(b"one, asked for it")) {
                (200, true) => Outcome::Good,
                _ => Outcome::Failed(format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body))),
            })
        }
    });
    let shows = |mark: &str| wait_until(|| get(&serval, "/x/mark.txt", "").body == mark.as_bytes());
    shows("one");
    std::fs::rename(home.path("webapps/x"), home.path("old")).unwrap();
    std::fs::rename(home.path("new"), home.path("webapps/x")).unwrap();
    shows("two");
    std::fs::rename(home.path("webapps/x"), home.path("older")).unwrap();
    std::os::unix::fs::symlink(home.path("linked"), home.path("webapps/x")).unwrap();
    shows("three");
    let counts = load.stop();
    assert!(counts.requests > 0);
    assert_eq!((counts.wrong, counts.details), (0, Vec::<String>::new()));
    assert_eq!(text(&get(&serval, "/x/count", &kept)), "2");
    // Gone for longer than a moment: it is another one that comes back.
    std::fs::remove_file(home.path("webapps/x")).unwrap();
    wait_until(|| get(&serval, "/x/mark.txt", "").status == 404);
    std::fs::rename(home.path("old"), home.path("webapps/x")).unwrap();
    shows("one");
    wait_until(|| text(&get(&serval, "/x/count", &kept)) == "1 new");
    assert!(serval.stop().unwrap().success());
}
