//! Hosts come, go and change, with their names, logs and error pages.

use super::*;

const ONE: &str = "[[host]]\nname = \"one.test\"\n";

fn other(keys: &str) -> String {
    format!("{ONE}[[host]]\nname = \"two.test\"\nwebapps = \"other\"\n{keys}")
}

fn two_folders(toml: &str) -> Home {
    let home = home(toml);
    home.write("webapps/ROOT/who", "one").unwrap();
    home.write("other/ROOT/who", "two").unwrap();
    home
}

fn who(serval: &Serval, host: &str) -> String {
    body(&get_of(serval.address(), host, "/who"))
}

#[test]
fn hosts_come_go_and_have_other_names_while_others_are_not_disturbed() {
    let home = two_folders(ONE);
    let serval = Serval::start(&home).unwrap();
    let under_load = load(&serval, &["/who"]);
    assert_eq!(who(&serval, "two.test"), "one");
    configure(&home, &other(""));
    reload(&home);
    assert_eq!((who(&serval, "two.test"), who(&serval, "one.test")), ("two".to_owned(), "one".to_owned()));
    configure(&home, &other("aliases = [\"2.test\", \"*.two.test\"]\n"));
    reload(&home);
    assert_eq!([who(&serval, "2.test"), who(&serval, "a.two.test"), who(&serval, "3.test")], ["two", "two", "one"]);
    // Another name for the same folder is the same host: nothing of it is made anew.
    configure(&home, &other("").replace("two.test", "three.test"));
    reload(&home);
    assert_eq!((who(&serval, "three.test"), who(&serval, "two.test")), ("two".to_owned(), "one".to_owned()));
    let told = status(&home);
    let context = |host: &str| told["contexts"].as_array().unwrap().iter().find(|context| context["host"] == host);
    assert_eq!(context("three.test").unwrap()["generation"], 1, "{told:#}");
    // They change places: the other one is the default.
    configure(
        &home,
        "[[host]]\nname = \"three.test\"\nwebapps = \"other\"\n[[host]]\nname = \"one.test\"\naliases = [\"localhost\"]\n",
    );
    reload(&home);
    assert_eq!((who(&serval, "none.test"), who(&serval, "one.test")), ("two".to_owned(), "one".to_owned()));
    configure(&home, ONE);
    reload(&home);
    assert_eq!(who(&serval, "three.test"), "one");
    ends_well(under_load);
    let lines = serval.stop_and_read().unwrap();
    assert!(lines.iter().any(|line| line.contains("gone")), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("ERROR")), "{lines:#?}");
}

#[test]
fn access_logs_and_error_pages_change_and_no_line_is_lost() {
    let home = two_folders(&other(""));
    home.write("conf/404.html", "first page").unwrap();
    home.write("other/ROOT/WEB-INF/web.toml", "[files]\nwritable = true\n").unwrap();
    let serval = Serval::start(&home).unwrap();
    let missing = || body(&get_of(serval.address(), "two.test", "/none"));
    let page = "[[host.error_page]]\nstatus = 404\nfile = \"conf/404.html\"\n";
    configure(&home, &other(page));
    reload(&home);
    assert_eq!(missing(), "first page");
    // Only what is in the file has changed.
    home.write("conf/404.html", "second page").unwrap();
    let deadline = Instant::now() + LONG;
    while missing() != "second page" && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(missing(), "second page");

    let log = |pattern: &str| other(&format!("[host.access_log]\npattern = \"{pattern}\"\nfile = \"a.log\"\n"));
    configure(&home, &log("old %U"));
    reload(&home);
    assert_eq!(who(&serval, "two.test"), "two");
    // A request that has begun before the change is logged as it was then.
    let mut begun = Connection::open(serval.address(), LONG).unwrap();
    let put = "PUT /new HTTP/1.1\r\nHost: two.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    begun.send(put.as_bytes()).unwrap();
    assert_eq!(begun.read_response().unwrap().status, 100);
    configure(&home, &log("new %U"));
    reload(&home);
    assert_eq!(who(&serval, "two.test"), "two");
    begun.send(b"12345").unwrap();
    assert_eq!(begun.read_response().unwrap().status, 201);
    configure(&home, &other(""));
    reload(&home);
    assert_eq!(who(&serval, "two.test"), "two");
    serval.stop_and_read().unwrap();
    let mut lines: Vec<String> =
        std::fs::read_to_string(home.path("var/log/a.log")).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["new /who", "old /new", "old /who"]);
}
