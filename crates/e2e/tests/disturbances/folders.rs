//! Files that change at the wrong moment: while they are copied, while what they make starts, while somebody else changes them, too.

use std::fs;
use std::time::Duration;

use e2e::commands::{becomes, context, done, serval as command};
use e2e::steady::{Steady, answers, ends_well, get, home, is_tidy, library, names, put, started, wait_until};

const QUICK: &str = "[defaults.context]\nsettle_time = \"1ms\"\n";

#[test]
fn a_library_is_replaced_in_place_cut_and_emptied() {
    let home = home("[defaults.context]\nsettle_time = \"50ms\"\n");
    let serval = started(&home);
    let load = Steady::of(&serval);
    let file = home.path("webapps/x/WEB-INF/lib/step.so");
    // In place: the same file has other bytes.
    fs::write(&file, library(2)).unwrap();
    answers(&serval, 2);
    for (len, why) in [(library(1).len() as u64 / 2, "step.so: it is cut"), (0, "step.so: it is empty")] {
        fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(len).unwrap();
        let told =
            becomes(&home, |told| context(told, "/x")["refused"].as_str().is_some_and(|told| told.contains(why)));
        assert_eq!(context(&told, "/x")["generation"], 2);
        assert_eq!(get(&serval, "/x/step").body, b"version 0002");
    }
    fs::write(&file, library(3)).unwrap();
    ends_well(&home, &serval, 3);
    load.was_well();
    assert!(serval.stop().unwrap().success());
}

/// Held while its init runs, in a home that serves others.
#[test]
fn a_webapp_that_is_removed_while_it_starts_is_gone() {
    let home = home(QUICK);
    let serval = started(&home);
    let load = Steady::of_neighbour(&serval);
    for version in [2, 3] {
        home.write("var/work/localhost/x/hold-init", "").unwrap();
        put(&home, version);
        wait_until("init", || home.path("var/work/localhost/x/at-init").exists());
        fs::remove_dir_all(home.path("webapps/x")).unwrap();
        wait_until("gone", || get(&serval, "/x/step").status == 404);
        // In the second round another one has come in its place before the one that is gone has started.
        if version == 3 {
            home.write("webapps/x/page.txt", "another").unwrap();
            wait_until("another", || get(&serval, "/x/page.txt").status == 200);
        }
        fs::remove_file(home.path("var/work/localhost/x/hold-init")).unwrap();
        fs::remove_file(home.path("var/work/localhost/x/at-init")).unwrap();
        let is_gone = |told: &serde_json::Value| {
            told["old"].as_array().unwrap().is_empty() && context(told, "/x").is_null() != (version == 3)
        };
        let told = becomes(&home, is_gone);
        assert_eq!(told["left_mapped"], 0);
        wait_until("no copy", || names(home.path("var/run/generations/localhost/x")).is_empty());
        assert_ne!(get(&serval, "/x/step").body, format!("version {version:04}").as_bytes());
        put(&home, version + 10);
        answers(&serval, version + 10);
    }
    load.was_well();
    ends_well(&home, &serval, 13);
    assert!(serval.stop().unwrap().success());
}

/// Copied file by file, the libraries last and the web.toml in the middle.
#[test]
fn a_tree_that_is_copied_slowly() {
    // So long that it is not over between two pieces on a busy machine.
    let home = home("[defaults.context]\nsettle_time = \"2s\"\n");
    let serval = started(&home);
    let load = Steady::of(&serval);
    let whole = library(1);
    let (half, rest) = whole.split_at(whole.len() / 2);
    let pause = || std::thread::sleep(Duration::from_millis(50));
    home.write("webapps/new/index.html", "new").unwrap();
    pause();
    home.write("webapps/new/WEB-INF/web.toml", "check = \"/chec").unwrap();
    pause();
    home.write("webapps/new/WEB-INF/web.toml", "check = \"/check\"\n").unwrap();
    pause();
    let file = "webapps/new/WEB-INF/lib/step.so";
    home.write(file, half).unwrap();
    pause();
    fs::OpenOptions::new()
        .append(true)
        .open(home.path(file))
        .and_then(|mut file| std::io::Write::write_all(&mut file, rest))
        .unwrap();
    wait_until("it answers", || get(&serval, "/new/step").body == b"version 0001");
    let told = becomes(&home, |told| context(told, "/new")["servlets"] == 2);
    assert_eq!(
        (&told["problems"], &context(&told, "/new")["refused"]),
        (&serde_json::json!([]), &serde_json::Value::Null)
    );
    ends_well(&home, &serval, 1);
    load.was_well();
    let lines = serval.stop_and_read().unwrap();
    let wrong: Vec<&String> = lines.iter().filter(|line| line.contains("ERROR") || line.contains("refused")).collect();
    assert!(wrong.is_empty(), "half of it was tried: {wrong:#?}");
}

#[test]
fn two_reloads_at_once_are_two_generations() {
    let home = home("[defaults.context]\nsettle_time = \"1m\"\n");
    let serval = started(&home);
    let load = Steady::of(&serval);
    for version in 2..6 {
        put(&home, version);
        let told: Vec<String> = std::thread::scope(|scope| {
            let both = [(); 2].map(|()| scope.spawn(|| done(&home, &["reload", "/x", "--json"])));
            both.map(|one| one.join().unwrap()).to_vec()
        });
        assert_ne!(told[0], told[1], "each has its own");
        assert_eq!(get(&serval, "/x/step").body, format!("version {version:04}").as_bytes());
        is_tidy(&home);
    }
    // One of them for a file that is being changed: both end.
    fs::write(home.path("webapps/x/WEB-INF/lib/step.so"), "no library").unwrap();
    std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| command(&home, &["reload", "/x"])));
        for (code, _, error) in both.map(|one| one.join().unwrap()) {
            assert_eq!(code, Some(3));
            assert!(error.contains("step.so: it is not an ELF file"), "{error}");
        }
    });
    put(&home, 6);
    done(&home, &["reload", "/x"]);
    answers(&serval, 6);
    is_tidy(&home);
    load.was_well();
    assert!(serval.stop().unwrap().success());
}

/// A deployment in the way that the documentation tells: beside, and renamed.
#[test]
fn names_of_what_is_being_written_are_not_served() {
    let home = home(QUICK);
    let serval = started(&home);
    let load = Steady::of(&serval);
    for name in ["new.tmp", "new.part", "new~", ".new"] {
        home.write(&format!("webapps/{name}/WEB-INF/web.toml"), "nonsense").unwrap();
        home.write(&format!("webapps/{name}/page.txt"), "unfinished").unwrap();
    }
    home.write("webapps/after/page.txt", "after").unwrap();
    wait_until("what came after them", || get(&serval, "/after/page.txt").status == 200);
    let told = becomes(&home, |told| !context(told, "/after").is_null());
    assert_eq!((told["contexts"].as_array().unwrap().len(), &told["problems"]), (3, &serde_json::json!([])));
    fs::remove_file(home.path("webapps/new.tmp/WEB-INF/web.toml")).unwrap();
    fs::rename(home.path("webapps/new.tmp"), home.path("webapps/new")).unwrap();
    wait_until("it is served", || get(&serval, "/new/page.txt").body == b"unfinished");
    ends_well(&home, &serval, 1);
    load.was_well();
    assert!(serval.stop().unwrap().success());
}
