//! Archives that change at the wrong moment, while requests come: none of these fails, or gets an old answer.

use std::fs;

use e2e::serval::Home;
use e2e::steady::{Steady, answers, get, home, is_tidy, library, names, started, wait_until};

use crate::made::{Looks, Made};
use crate::shop::{becomes, context, serval as command, status};
use crate::{noise, put, unpacked};

const SETTINGS: &str = "[defaults.context]\nsettle_time = \"20ms\"\n";
const UNPACKED: &str = "var/webapps/localhost/x";

/// A version of `/x`, with so many files beside its library that it takes a while to unpack it.
fn archive(version: u64) -> Vec<u8> {
    let stored = Looks { is_stored: true, ..Looks::default() };
    let large = (0..10).fold(Made::new(), |made, number| made.looking(format!("{number}"), noise(1 << 20), stored));
    large.file("WEB-INF/lib/step.so", library(version)).bytes()
}

/// With version 1 of `/x` as an archive.
fn home_with_archive() -> Home {
    let home = home(SETTINGS);
    fs::remove_dir_all(home.path("webapps/x")).unwrap();
    put(&home, "x.war", archive(1));
    home
}

/// This version serves, and nothing half is left; and the next one, one higher, is taken.
#[track_caller]
fn ends_well(home: &Home, serval: &e2e::serval::Serval, version: u64) {
    for version in [version, version + 1] {
        put(home, "x.war", archive(version));
        answers(serval, version);
        is_tidy(home);
        wait_until("what was unpacked is whole", || unpacked(home, "x").iter().all(|name| name.parse::<u64>().is_ok()));
    }
}

#[test]
fn one_that_is_replaced_while_it_is_unpacked_written_in_place_cut_and_emptied() {
    let home = home_with_archive();
    let serval = started(&home);
    let load = Steady::of(&serval);
    for version in 2..6 {
        put(&home, "x.war", archive(version));
        let is_unpacked = |version: u64| get(&serval, "/x/step").body == format!("version {version:04}").as_bytes();
        wait_until("it is being unpacked", || {
            unpacked(&home, "x").iter().any(|name| name.ends_with(".tmp")) || is_unpacked(version)
        });
    }
    answers(&serval, 5);
    let file = home.path("webapps/x.war");
    fs::write(&file, archive(6)).unwrap();
    answers(&serval, 6);
    let len = fs::metadata(&file).unwrap().len();
    for len in [len / 2, 0] {
        fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(len).unwrap();
        let told = becomes(&home, |told| {
            told["problems"][0].as_str().is_some_and(|why| why.contains("x.war"))
                || context(told, "/x")["refused"].is_string()
        });
        assert_eq!(context(&told, "/x")["state"], "ready", "{told:#}");
        assert_eq!(get(&serval, "/x/step").body, b"version 0006");
    }
    ends_well(&home, &serval, 7);
    load.was_well();
    assert!(serval.stop().unwrap().success());
}

#[test]
fn one_that_is_removed_while_its_library_starts() {
    let home = home_with_archive();
    let serval = started(&home);
    let load = Steady::of_neighbour(&serval);
    let at = |step: &str| home.path("var/work/localhost/x").join(step);
    fs::write(at("hold-init"), "").unwrap();
    put(&home, "x.war", archive(2));
    wait_until("init", || at("at-init").exists());
    fs::remove_file(home.path("webapps/x.war")).unwrap();
    wait_until("gone", || get(&serval, "/x/step").status == 404);
    fs::remove_file(at("hold-init")).unwrap();
    let told = becomes(&home, |told| told["old"].as_array().unwrap().is_empty());
    assert_eq!((&told["left_mapped"], told["contexts"].as_array().unwrap().len()), (&0.into(), 1));
    wait_until("nothing is left", || {
        names(home.path(UNPACKED)).is_empty() && names(home.path("var/run/generations/localhost/x")).is_empty()
    });
    ends_well(&home, &serval, 3);
    load.was_well();
    assert!(serval.stop().unwrap().success());
}

#[test]
fn two_deployments_of_one_path_at_once() {
    let home = home_with_archive();
    let serval = started(&home);
    let load = Steady::of(&serval);
    for version in 2..6 {
        home.write("new/x.war", archive(version)).unwrap();
        let file = home.path("new/x.war").into_os_string().into_string().unwrap();
        let words = ["deploy", &file, "--path", "/x"];
        let mut both = std::thread::scope(|scope| {
            let both = [(); 2].map(|()| scope.spawn(|| command(&home, &words)));
            both.map(|one| one.join().unwrap())
        });
        both.sort();
        // Or one after the other.
        let codes = both.each_ref().map(|(code, _, _)| *code);
        assert!(codes == [Some(0), Some(3)] || codes == [Some(0), Some(0)], "{both:?}");
        assert!(codes[1] == Some(0) || both[1].2.contains("/x is already being deployed"), "{both:?}");
        assert_eq!(get(&serval, "/x/step").body, format!("version {version:04}").as_bytes());
        is_tidy(&home);
        assert_eq!(context(&status(&home), "/x")["state"], "ready");
    }
    ends_well(&home, &serval, 6);
    load.was_well();
    assert!(serval.stop().unwrap().success());
}
