//! Archives of webapps: deployed as they come and change, refused before anything is written, and what a kill in between leaves.

mod commands;
#[path = "../../../archive/tests/made/mod.rs"]
mod made;
mod shop;
mod under_load;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use e2e::http_client::Connection;
use e2e::load::{Load, Outcome};
use e2e::serval::{Home, Serval};
use made::{Made, bad};
use shop::{LONG, Shop, becomes, context, get, status, wait_until};

/// Beside it and renamed, as it should be done.
fn put(home: &Home, name: &str, bytes: impl AsRef<[u8]>) {
    home.write(&format!("webapps/{name}.tmp"), bytes).unwrap();
    fs::rename(home.path(&format!("webapps/{name}.tmp")), home.path(&format!("webapps/{name}"))).unwrap();
}

fn home() -> Home {
    let home = Home::new().unwrap();
    home.configure("[defaults.context]\nsettle_time = \"20ms\"").unwrap();
    home
}

fn page(text: &str) -> Vec<u8> {
    Made::new().file("index.html", text).bytes()
}

#[track_caller]
fn answers(serval: &Serval, target: &str, status: u16, body: &str) {
    wait_until(serval, || {
        let answer = get(serval, target);
        answer.status == status && (status != 200 || answer.body == body.as_bytes())
    });
}

/// The artefacts of a context: folders, by their numbers.
fn unpacked(home: &Home, name: &str) -> Vec<String> {
    let folder = home.path(&format!("var/webapps/localhost/{name}"));
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.ends_with(".json"));
    names.sort_by_key(|name| name.parse::<u64>().unwrap_or(u64::MAX));
    names
}

#[test]
fn an_archive_is_served_under_its_name_and_goes_with_it() {
    let (home, shop) = (home(), Shop::new());
    put(&home, "ROOT.war", page("root"));
    put(&home, "a#b.zip", page("a b"));
    put(&home, "old.WAR", page("upper case"));
    put(&home, "shop.war", shop.archive("1"));
    let serval = Serval::start(&home).unwrap();
    for (target, body) in
        [("/", "root"), ("/a/b/", "a b"), ("/old/", "upper case"), ("/shop/", "1"), ("/shop/visit", "1 0")]
    {
        assert_eq!(get(&serval, target).body, body.as_bytes(), "{target}");
    }
    assert_eq!(get(&serval, "/shop/WEB-INF/web.toml").status, 404);
    put(&home, "late.war", page("late"));
    answers(&serval, "/late/", 200, "late");
    assert!(!home.path("webapps/late").exists(), "the folder of the user stays as he left it");
    fs::remove_file(home.path("webapps/late.war")).unwrap();
    answers(&serval, "/late/", 404, "");
    wait_until(&serval, || unpacked(&home, "late").is_empty());
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_changed_archive_is_the_next_generation_and_no_request_fails() {
    let (home, shop) = (home(), Shop::new());
    put(&home, "shop.war", shop.archive("1"));
    let serval = Serval::start(&home).unwrap();
    let first = get(&serval, "/shop/visit?in");
    let cookie = first.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let load = Load::start(serval.address(), 4, LONG, |number, connection: &mut Connection| {
        let target = if number % 2 == 0 { "/shop/visit" } else { "/shop/index.html" };
        let answer = connection.get(target)?;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        Ok(match answer.status {
            200 if body.trim_end_matches(" 0").parse::<u32>().is_ok() => Outcome::Good,
            200 => Outcome::Wrong(body),
            status => Outcome::Failed(format!("{target}: status {status}")),
        })
    });
    for version in 2..=6 {
        put(&home, "shop.war", shop.archive(&version.to_string()));
        answers(&serval, "/shop/visit", 200, &format!("{version} 0"));
        assert_eq!(
            get(&serval, "/shop/").body,
            version.to_string().as_bytes(),
            "files and servlets are of one generation"
        );
    }
    let counts = load.stop();
    assert!(counts.requests > 0 && counts.failed == 0 && counts.wrong == 0, "{counts:?}");
    let mut connection = Connection::open(serval.address(), LONG).unwrap();
    connection.send(format!("GET /shop/visit HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n").as_bytes()).unwrap();
    assert_eq!(connection.read_response().unwrap().body, b"6 2", "the session stays");
    // The current one, and the last three before it.
    wait_until(&serval, || unpacked(&home, "shop") == ["3", "4", "5", "6"]);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn all_that_is_bad_is_refused_and_what_served_before_serves_on() {
    let home = home();
    home.configure("[archives]\nbytes_max = \"4MiB\"\nratio_max = 100\nentry_count_max = 1000\ndepth_max = 20")
        .unwrap();
    put(&home, "shop.war", page("good"));
    let serval = Serval::start(&home).unwrap();
    assert_eq!(get(&serval, "/shop/").body, b"good");
    let before = tree(&home.path(""));
    for (what, bytes, expected) in bad() {
        put(&home, "shop.war", &bytes);
        let told = becomes(&home, |told| {
            context(told, "/shop")["refused"].as_str().is_some_and(|refused| refused.contains(expected))
        });
        let shop = context(&told, "/shop");
        assert_eq!((&shop["state"], &shop["generation"]), (&"ready".into(), &1.into()), "{what}: {shop}");
        assert_eq!(get(&serval, "/shop/").body, b"good", "{what}");
    }
    assert_eq!(tree(&home.path("")), before, "nothing was written");
    assert!(!Path::new("/tmp/outside").exists() && !home.path("../outside").exists());
    put(&home, "shop.war", page("better"));
    answers(&serval, "/shop/", 200, "better");
    assert!(context(&status(&home), "/shop")["refused"].is_null());
    // One that never served is not mounted, and is told of once.
    put(&home, "new.war", "no archive");
    let told = becomes(&home, |told| !told["problems"].as_array().unwrap().is_empty());
    let problem = told["problems"][0].as_str().unwrap();
    assert!(problem.contains("new.war\" is not served: the archive is no zip archive"), "{problem}");
    assert_eq!(get(&serval, "/new/").status, 404);
    put(&home, "new.war", page("new"));
    answers(&serval, "/new/", 200, "new");
    let lines = serval.stop_and_read().unwrap();
    assert_eq!(lines.iter().filter(|line| line.contains("new.war\" is not served")).count(), 1, "{lines:#?}");
}

/// All that lies in a folder.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(tree(&path));
        }
        all.push(path);
    }
    all.sort();
    all
}

#[test]
fn one_whose_library_fails_leaves_the_one_before_also_at_the_next_start() {
    let (home, shop) = (home(), Shop::new());
    put(&home, "shop.war", shop.archive("1"));
    let serval = Serval::start(&home).unwrap();
    assert_eq!(get(&serval, "/shop/visit").body, b"1 0");
    put(&home, "shop.war", shop.archive("FAILS"));
    becomes(&home, |told| context(told, "/shop")["refused"] == "shop.so: its init failed: the till is locked");
    let line = serval.wait_for_log("it is tried again when the archive changes", LONG).unwrap();
    assert!(line.contains("generation 1 serves on"), "{line}");
    assert_eq!(get(&serval, "/shop/visit").body, b"1 0");
    assert_eq!(get(&serval, "/shop/").body, b"1", "its files, too");
    assert!(serval.stop().unwrap().success());

    let serval = Serval::start(&home).unwrap();
    answers(&serval, "/shop/visit", 200, "1 0");
    let told = becomes(&home, |told| !told["problems"].as_array().unwrap().is_empty());
    let problem = told["problems"][0].as_str().unwrap();
    assert!(problem.contains("what was unpacked before it (1): shop.so: its init failed"), "{problem}");
    put(&home, "shop.war", shop.archive("3"));
    answers(&serval, "/shop/visit", 200, "3 0");
    becomes(&home, |told| told["problems"].as_array().unwrap().is_empty());
    assert!(serval.stop().unwrap().success());
}

#[test]
fn what_is_being_copied_is_not_tried() {
    let home = Home::new().unwrap();
    home.configure("[defaults.context]\nsettle_time = \"1s\"").unwrap();
    let serval = Serval::start(&home).unwrap();
    let bytes = Made::new().file("index.html", "whole").file("noise", noise(300_000)).bytes();
    // In pieces, straight to its name, as `cp` does; and a folder, file by file.
    for end in (0..bytes.len()).step_by(bytes.len() / 20) {
        home.write("webapps/slow.war", &bytes[..end]).unwrap();
        home.write(&format!("webapps/tree/{end}.txt"), "x").unwrap();
        assert_eq!((get(&serval, "/slow/").status, get(&serval, "/tree/0.txt").status), (404, 404));
    }
    home.write("webapps/slow.war", &bytes).unwrap();
    home.write("webapps/tree/index.html", "tree").unwrap();
    answers(&serval, "/slow/", 200, "whole");
    answers(&serval, "/tree/", 200, "tree");
    let lines = serval.stop_and_read().unwrap();
    assert!(!lines.iter().any(|line| line.contains("is not served")), "{lines:#?}");
}

fn kill(serval: Serval) {
    let pid = rustix::process::Pid::from_raw(serval.program().id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

fn noise(len: u32) -> Vec<u8> {
    (0..len).map(|number| (number.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

#[test]
fn of_one_name_the_archive_goes_before_the_folder_and_some_names_are_ignored() {
    let home = home();
    home.configure(
        "[[host]]\ndeploy_ignore = [\"*.bak.war\"]\n[[host.context]]\npath = \"/named\"\nwebapp = \"elsewhere\"",
    )
    .unwrap();
    home.write("webapps/shop/index.html", "folder").unwrap();
    for name in ["shop.war", "shop.zip", "elsewhere.war", "x.bak.war", ".y.war", "z.war.part", "notes.txt"] {
        put(&home, name, page(name));
    }
    let serval = Serval::start(&home).unwrap();
    answers(&serval, "/shop/", 200, "shop.war");
    answers(&serval, "/named/", 200, "elsewhere.war");
    for target in ["/x.bak/", "/x/", "/.y/", "/y/", "/z/", "/z.war/", "/notes/", "/elsewhere/"] {
        assert_eq!(get(&serval, target).status, 404, "{target}");
    }
    let told = status(&home);
    let problems: Vec<&str> =
        told["problems"].as_array().unwrap().iter().map(|problem| problem.as_str().unwrap()).collect();
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(
        problems
            .iter()
            .all(|problem| problem.ends_with("is not served: \"shop.war\" beside it goes before; remove one"))
    );
    fs::remove_file(home.path("webapps/shop.war")).unwrap();
    answers(&serval, "/shop/", 200, "shop.zip");
    fs::remove_file(home.path("webapps/shop.zip")).unwrap();
    answers(&serval, "/shop/", 200, "folder");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_kill_while_unpacking_leaves_nothing_half() {
    let home = home();
    let big = |text: &str| {
        let stored = made::Looks { is_stored: true, ..made::Looks::default() };
        let made =
            (0..60).fold(Made::new(), |made, number| made.looking(format!("{number}.bin"), noise(1 << 20), stored));
        made.file("index.html", text).bytes()
    };
    put(&home, "shop.war", page("first"));
    let mut serval = Serval::start(&home).unwrap();
    for round in 0..6u64 {
        put(&home, "shop.war", big(&format!("big {round}")));
        // At another moment each time: from before the first byte to after the last.
        let deadline = Instant::now() + LONG;
        let begun = || unpacked(&home, "shop").iter().any(|name| name.ends_with(".tmp"));
        while !begun() && get(&serval, "/shop/").body != format!("big {round}").as_bytes() {
            assert!(Instant::now() < deadline);
        }
        std::thread::sleep(Duration::from_millis(round * 20));
        kill(serval);
        serval = Serval::start(&home).unwrap();
        assert_eq!(get(&serval, "/shop/").body, format!("big {round}").as_bytes());
        wait_until(&serval, || unpacked(&home, "shop").iter().all(|name| name.parse::<u64>().is_ok()));
    }
    wait_until(&serval, || unpacked(&home, "shop").len() <= 4);
    assert!(serval.stop().unwrap().success());
    // What was unpacked is taken again.
    let number = unpacked(&home, "shop").pop();
    let serval = Serval::start(&home).unwrap();
    assert_eq!(get(&serval, "/shop/").status, 200);
    assert_eq!(unpacked(&home, "shop").pop(), number);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn one_that_is_replaced_while_it_is_unpacked_is_not_mixed() {
    let home = home();
    put(&home, "shop.war", page("first"));
    let serval = Serval::start(&home).unwrap();
    let stored = made::Looks { is_stored: true, ..made::Looks::default() };
    for version in 0..12 {
        let files = (0..10).fold(Made::new(), |made, number| made.looking(format!("{number}"), noise(1 << 20), stored));
        put(&home, "shop.war", files.file("index.html", version.to_string()).bytes());
    }
    answers(&serval, "/shop/", 200, "11");
    let lines = serval.stop_and_read().unwrap();
    assert!(!lines.iter().any(|line| line.contains("ERROR")), "{lines:#?}");
}

#[test]
fn what_the_system_could_not_do_is_tried_again() {
    let home = home();
    let serval = Serval::start(&home).unwrap();
    home.write("var/webapps/localhost", "a file in the way").unwrap();
    put(&home, "shop.war", page("there"));
    let line = serval.wait_for_log("shop.war\" is not served: the archive cannot be unpacked: ", LONG).unwrap();
    assert!(line.contains("var/webapps/localhost/shop cannot be written: "), "{line}");
    fs::remove_file(home.path("var/webapps/localhost")).unwrap();
    answers(&serval, "/shop/", 200, "there");
    becomes(&home, |told| told["problems"].as_array().unwrap().is_empty());
    assert!(serval.stop().unwrap().success());
}

#[test]
fn check_and_explain_know_archives() {
    let (home, shop) = (home(), Shop::new());
    put(&home, "shop.war", shop.archive("1"));
    put(&home, "bad.war", Made::new().file("../out", "x").bytes());
    let (code, _, warnings) = shop::serval(&home, &["check"]);
    assert_eq!(code, Some(0));
    assert!(warnings.contains("bad.war\" is not served: the archive has an entry `../out`"), "{warnings}");
    let (_, before, _) = shop::serval(&home, &["explain", "GET", "/shop/visit"]);
    assert!(before.contains("shop.war\" was not unpacked yet"), "{before}");
    let serval = Serval::start(&home).unwrap();
    assert_eq!(get(&serval, "/shop/visit").body, b"1 0");
    let (_, after, _) = shop::serval(&home, &["explain", "GET", "/shop/visit"]);
    assert!(after.contains("answer   by the servlet shop"), "{after}");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_rollback_goes_back_to_what_was_unpacked_before() {
    let (home, shop) = (home(), Shop::new());
    put(&home, "shop.war", shop.archive("1"));
    let serval = Serval::start(&home).unwrap();
    put(&home, "shop.war", shop.archive("2"));
    answers(&serval, "/shop/visit", 200, "2 0");
    // A load that is begun anew takes another number.
    let (code, out, error) = shop::serval(&home, &["rollback", "/shop"]);
    assert!(code == Some(0) && out.starts_with("/shop serves generation "), "{out}{error}");
    assert_eq!((get(&serval, "/shop/visit").body, get(&serval, "/shop/").body), (b"1 0".to_vec(), b"1".to_vec()));
    assert!(serval.stop().unwrap().success());
    // The archive that lies there is tried again when it changes.
    let serval = Serval::start(&home).unwrap();
    answers(&serval, "/shop/visit", 200, "1 0");
    assert_eq!(get(&serval, "/shop/").body, b"1");
    put(&home, "shop.war", shop.archive("3"));
    answers(&serval, "/shop/visit", 200, "3 0");
    assert!(serval.stop().unwrap().success());
}
