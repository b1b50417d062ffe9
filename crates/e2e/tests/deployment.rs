//! Folders and contexts: which folder answers at which path, and what a saved web.toml changes.

use std::time::{Duration, Instant};

use e2e::http_client::{Connection, Response};
use e2e::serval::{Home, Serval};

const LONG: Duration = Duration::from_secs(60);

fn get(serval: &Serval, target: &str) -> Response {
    Connection::open(serval.address(), LONG).unwrap().get(target).unwrap()
}

#[test]
fn a_media_type_in_a_saved_web_toml_counts_from_then_on() {
    let home = Home::new().unwrap();
    home.write("webapps/a/page.thing", "a thing").unwrap();
    let serval = Serval::start(&home).unwrap();
    assert_ne!(get(&serval, "/a/page.thing").header("content-type"), Some("text/thing"));
    home.write("webapps/a/WEB-INF/web.toml", "[mime]\nthing = \"text/thing\"\n").unwrap();
    let deadline = Instant::now() + LONG;
    while get(&serval, "/a/page.thing").header("content-type") != Some("text/thing") {
        assert!(Instant::now() < deadline, "{:#?}", serval.program().lines_from(0));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_mistake_in_a_saved_web_toml_leaves_files_as_they_were() {
    let home = Home::new().unwrap();
    home.write("webapps/a/index.html", "the page").unwrap();
    home.write("webapps/a/WEB-INF/web.toml", "[files]\nfallback = \"index.html\"\n").unwrap();
    let serval = Serval::start(&home).unwrap();
    assert_eq!(get(&serval, "/a/orders/7").body, b"the page");
    home.write("webapps/a/WEB-INF/web.toml", "[files]\nfallbak = \"index.html\"\n").unwrap();
    let line = serval.wait_for_log("did you mean `fallback`", LONG).unwrap();
    assert!(line.contains("generation 1 serves on"), "{line}");
    assert_eq!(get(&serval, "/a/orders/7").body, b"the page");
}

#[test]
fn one_folder_may_be_two_contexts_and_a_folder_without_a_path_is_told_of() {
    let home = Home::new().unwrap();
    home.write("webapps/shop/page.txt", "the shop").unwrap();
    home.write("webapps/a#b/page.txt", "hidden").unwrap();
    let contexts = ["/shop", "/store", "/a/b"];
    let entries = contexts.map(|path| format!("[[host.context]]\npath = \"{path}\"\nwebapp = \"shop\"\n"));
    home.configure(&format!("[[host]]\n{}", entries.concat())).unwrap();
    let serval = Serval::start(&home).unwrap();
    for path in contexts {
        assert_eq!(get(&serval, &format!("{path}/page.txt")).body, b"the shop", "{path}");
    }
    let line = serval.wait_for_log("a#b\" is not served", LONG).unwrap();
    assert!(line.contains("webapps/shop at its path `/a/b`; rename it"), "{line}");
}

#[test]
fn nobody_reads_what_the_server_prints_and_it_deploys_all_the_same() {
    let home = Home::new().unwrap();
    // What reads it ends after this line, as a terminal that was closed does.
    let mut command = std::process::Command::new("sh");
    let binary = e2e::serval::binary().unwrap();
    command
        .args(["-c", "exec \"$0\" run --home \"$1\" 2>&1 | sed -u '/^listening on /q'"])
        .arg(binary)
        .arg(home.path(""));
    let program = e2e::process::Program::start("serval | sed", command).unwrap();
    let _behind = Behind(&home);
    let line = program.wait_for_line(0, LONG, |line| line.starts_with("listening on ")).unwrap();
    let address = line.strip_prefix("listening on http://").and_then(|address| address.parse().ok()).expect(&line);
    let deadline = Instant::now() + LONG;
    for name in ["a", "b", "c"] {
        home.write(&format!("webapps/{name}/page.txt"), "there").unwrap();
        let target = format!("/{name}/page.txt");
        while Connection::open(address, LONG).unwrap().get(&target).unwrap().status != 200 {
            assert!(Instant::now() < deadline, "{target} is not served");
            std::thread::sleep(Duration::from_millis(10));
        }
        std::fs::remove_dir_all(home.path(&format!("webapps/{name}"))).unwrap();
    }
}

/// The server behind a pipe, which the end of the shell does not end; here the end of the test does.
struct Behind<'a>(&'a Home);

impl Drop for Behind<'_> {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.0.path("var/run/serval.lock")).unwrap_or_default();
        if let Some(pid) = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

#[test]
fn what_cannot_be_seen_is_not_gone() {
    let home = Home::new().unwrap();
    home.write("webapps/a/page.txt", "there").unwrap();
    let few = ["sh", "-c", "ulimit -n 64; exec \"$0\" \"$@\""].map(Into::into);
    let serval = Serval::start_under(&home, &few).unwrap();
    let held: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(serval.address()).unwrap()).collect();
    serval.wait_for_log("could not accept a connection", LONG).unwrap();
    home.write("webapps/b/page.txt", "new").unwrap();
    let line = serval.wait_for_log("webapps cannot be read: ", LONG).unwrap();
    assert!(line.contains("what was there serves on"), "{line}");
    drop(held);
    let deadline = Instant::now() + LONG;
    for target in ["/a/page.txt", "/b/page.txt"] {
        while Connection::open(serval.address(), LONG).unwrap().get(target).map(|answer| answer.status).ok()
            != Some(200)
        {
            assert!(Instant::now() < deadline, "{target}: {:#?}", serval.program().lines_from(0));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let lines = serval.stop_and_read().unwrap();
    assert!(!lines.iter().any(|line| line.starts_with("/a gone")), "{lines:#?}");
}
