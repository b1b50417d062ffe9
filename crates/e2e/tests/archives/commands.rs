//! `serval deploy` and `serval undeploy`, and versions that are undeployed by themselves.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use e2e::http_client::Connection;
use e2e::load::{Load, Outcome};
use e2e::serval::Serval;
use serde_json::Value;

use crate::made::Made;
use crate::shop::{LONG, Shop, becomes, context, get, serval, status, wait_until};
use crate::{answers, home, kill, page, put, tree};

fn deploy(home: &e2e::serval::Home, file: &str, words: &[&str]) -> (Option<i32>, String, String) {
    let file = home.path(file);
    serval(home, &[&["deploy", file.to_str().unwrap()], words].concat())
}

#[test]
fn deploy_returns_when_it_serves_and_a_restart_serves_the_same() {
    let (home, shop) = (home(), Shop::new());
    home.write("new/shop.war", shop.archive("1")).unwrap();
    home.write("new/shop2.war", shop.archive("2")).unwrap();
    home.write("new/site/index.html", "a site").unwrap();
    home.write("new/site/deep/x.txt", "x").unwrap();
    let serval_runs = Serval::start(&home).unwrap();
    assert_eq!(deploy(&home, "new/shop.war", &["--path", "/a/b", "--wait"]).1, "/a/b serves generation 1\n");
    assert_eq!(get(&serval_runs, "/a/b/visit").body, b"1 0");
    assert_eq!(
        deploy(&home, "new/shop2.war", &["--path", "/a/b"]),
        (Some(0), "/a/b serves generation 2\n".into(), "".into())
    );
    assert_eq!(get(&serval_runs, "/a/b/visit").body, b"2 0");
    let (code, told, _) = deploy(&home, "new/shop.war", &["--path", "/a/b", "--version", "3", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &told["context"], &told["generation"]), (Some(0), &"/a/b##3".into(), &1.into()), "{told}");
    assert_eq!(get(&serval_runs, "/a/b/visit").body, b"1 0", "the newest version");
    assert_eq!(deploy(&home, "new/site", &["--path", "/", "--host", "LOCALHOST"]).1, "/ serves generation 1\n");
    assert_eq!(get(&serval_runs, "/deep/x.txt").body, b"x");
    home.write("new/site/index.html", "another site").unwrap();
    assert_eq!(deploy(&home, "new/site", &["--path", "/"]).1, "/ serves generation 2\n");
    assert_eq!(get(&serval_runs, "/").body, b"another site");
    let webapps = || {
        let mut names: Vec<_> =
            fs::read_dir(home.path("webapps")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    wait_until(&serval_runs, || webapps() == ["ROOT", "a#b##3.war", "a#b.war"]);
    assert!(serval_runs.stop().unwrap().success());
    let serval_runs = Serval::start(&home).unwrap();
    for (target, body) in [("/", "another site"), ("/a/b/visit", "1 0")] {
        assert_eq!(get(&serval_runs, target).body, body.as_bytes(), "{target}");
    }
    let (code, out, _) = serval(&home, &["undeploy", "/a/b", "--version", "3"]);
    assert!(
        code == Some(0) && out.starts_with("/a/b##3: ") && out.ends_with("/webapps/a#b##3.war is removed\n"),
        "{out}"
    );
    assert_eq!(get(&serval_runs, "/a/b/visit").body, b"2 0", "no moment later");
    assert_eq!(serval(&home, &["undeploy", "/a/b"]).0, Some(0));
    assert_eq!(get(&serval_runs, "/a/b/visit").status, 404);
    assert_eq!(serval(&home, &["undeploy", "/"]).0, Some(0));
    wait_until(&serval_runs, || webapps().is_empty());
    assert!(serval_runs.stop().unwrap().success());
}

#[test]
fn no_request_fails_while_it_is_deployed_again_and_again() {
    let (home, shop) = (home(), Shop::new());
    for version in ["1", "2", "3"] {
        home.write(&format!("new/{version}.war"), shop.archive(version)).unwrap();
        home.write(&format!("new/{version}/index.html"), version).unwrap();
    }
    let serval_runs = Serval::start(&home).unwrap();
    assert_eq!(deploy(&home, "new/1.war", &["--path", "/shop"]).0, Some(0));
    assert_eq!(deploy(&home, "new/1", &["--path", "/site"]).0, Some(0));
    let load = Load::start(serval_runs.address(), 4, LONG, |number, connection: &mut Connection| {
        let target = ["/shop/visit", "/shop/index.html", "/site/index.html"][number as usize % 3];
        let answer = connection.get(target)?;
        Ok(match (answer.status, answer.body.first()) {
            (200, Some(b'1'..=b'3')) => Outcome::Good,
            (200, _) => Outcome::Wrong(target.to_owned()),
            (status, _) => Outcome::Failed(format!("{target}: status {status}")),
        })
    });
    for version in ["2", "3", "1", "2"] {
        assert_eq!(deploy(&home, &format!("new/{version}.war"), &["--path", "/shop"]).0, Some(0));
        assert_eq!(get(&serval_runs, "/shop/visit").body, format!("{version} 0").as_bytes(), "no moment later");
        assert_eq!(deploy(&home, &format!("new/{version}"), &["--path", "/site"]).0, Some(0));
        assert_eq!(get(&serval_runs, "/site/").body, version.as_bytes());
    }
    let counts = load.stop();
    assert!(counts.requests > 0 && counts.failed == 0 && counts.wrong == 0, "{counts:?}");
    assert!(serval_runs.stop().unwrap().success());
}

#[test]
fn what_is_refused_is_taken_back() {
    let (home, shop) = (home(), Shop::new());
    home.write("new/good.war", shop.archive("1")).unwrap();
    home.write("new/fails.war", shop.archive("FAILS")).unwrap();
    home.write("new/out.war", Made::new().file("../out", "x").bytes()).unwrap();
    home.write("new/site/index.html", "a site").unwrap();
    home.write("new/wrong/WEB-INF/web.toml", "chek = \"/\"").unwrap();
    home.write("new/page.html", "no archive").unwrap();
    home.write("new/lib.war", Made::new().file("WEB-INF/lib", "a file").bytes()).unwrap();
    home.write("new/lib/WEB-INF/lib", "a file").unwrap();
    symlink("/dev/zero", home.path("new/zero.war")).unwrap();
    let serval_runs = Serval::start(&home).unwrap();
    assert_eq!(deploy(&home, "new/good.war", &["--path", "/shop"]).0, Some(0));
    assert_eq!(deploy(&home, "new/site", &["--path", "/site"]).0, Some(0));
    let webapps = || tree(&home.path("webapps"));
    // Nobody is told when what was replaced is removed.
    wait_until(&serval_runs, || webapps().len() == 3);
    let before = (webapps(), fs::read(home.path("webapps/shop.war")).unwrap());
    for (file, words, why) in [
        ("new/fails.war", &["--path", "/shop"][..], "shop.so: its init failed: the till is locked"),
        ("new/fails.war", &["--path", "/other"], "shop.so: its init failed: the till is locked"),
        ("new/out.war", &["--path", "/shop"], "the archive has an entry `../out` that would lie outside"),
        ("new/zero.war", &["--path", "/shop"], "the archive is not an ordinary file"),
        ("new/wrong", &["--path", "/site"], "did you mean `check`?"),
        ("new/wrong", &["--path", "/other"], "did you mean `check`?"),
        ("new/lib.war", &["--path", "/shop"], "WEB-INF/lib cannot be read: "),
        ("new/lib.war", &["--path", "/other"], "WEB-INF/lib cannot be read: "),
        ("new/lib", &["--path", "/site"], "WEB-INF/lib cannot be read: "),
        ("new/none.war", &["--path", "/shop"], "none.war cannot be read: No such file"),
        ("new/page.html", &["--path", "/shop"], "neither a folder nor an archive"),
        ("new/site", &["--path", "/shop"], "a folder beside it would not be served: undeploy it before"),
        ("new/good.war", &["--path", "/site"], "the folder would hide behind it: undeploy it before"),
        ("new/good.war", &["--path", "shop"], "it does not start with `/`"),
        ("new/good.war", &["--path", "/../shop"], "a segment is `.` or `..`"),
        ("new/good.war", &["--path", "/shop", "--version", "a/b"], "no webapp can be served at `/shop##a/b`"),
        ("new/good.war", &["--path", "/shop", "--host", "nobody"], "there is no host `nobody`"),
        ("", &["--path", "/all"], "is where it would go, or above it"),
        ("webapps/shop.war", &["--path", "/shop"], "is where it would go, or above it"),
    ] {
        let (code, out, error) = deploy(&home, file, words);
        assert!(code == Some(3) && out.is_empty() && error.contains(why), "{file}: {code:?} {out} {error}");
        wait_until(&serval_runs, || webapps() == before.0);
        assert_eq!(fs::read(home.path("webapps/shop.war")).unwrap(), before.1, "{file}");
        assert_eq!(get(&serval_runs, "/shop/visit").body, b"1 0", "{file}");
        assert_eq!(get(&serval_runs, "/site/").body, b"a site", "{file}");
    }
    for (words, why) in [
        (["undeploy", "/other"], "there is no context `/other` to undeploy"),
        (["undeploy", "/shop##2"], "there is no context `/shop##2` to undeploy"),
        (["undeploy", "/shop/"], "it ends with `/`"),
    ] {
        let (code, _, error) = serval(&home, &words);
        assert!(code == Some(3) && error.contains(why), "{error}");
    }
    becomes(&home, |told| {
        let is_well = |name| context(told, name)["refused"].is_null();
        is_well("/shop") && is_well("/site") && told["problems"].as_array().unwrap().is_empty()
    });
    assert_eq!(context(&status(&home), "/shop")["state"], "ready");
    assert!(serval_runs.stop().unwrap().success());
    assert_eq!(serval(&home, &["deploy", "x.war", "--path", "/x"]).0, Some(1), "no server runs");
}

#[test]
fn of_two_deployments_of_one_context_the_second_is_refused() {
    let home = home();
    let stored = crate::made::Looks { is_stored: true, ..Default::default() };
    let big =
        (0..40).fold(Made::new(), |made, number| made.looking(format!("{number}"), crate::noise(1 << 20), stored));
    home.write("new/big.war", big.bytes()).unwrap();
    let serval_runs = Serval::start(&home).unwrap();
    let both = std::thread::scope(|scope| {
        let one = scope.spawn(|| deploy(&home, "new/big.war", &["--path", "/shop"]));
        let other = scope.spawn(|| deploy(&home, "new/big.war", &["--path", "/shop"]));
        [one.join().unwrap(), other.join().unwrap()]
    });
    let mut codes = both.clone().map(|(code, _, _)| code);
    codes.sort();
    assert_eq!(codes, [Some(0), Some(3)], "{both:?}");
    assert!(both.iter().any(|(_, _, error)| error.contains("/shop is already being deployed")), "{both:?}");
    assert_eq!(get(&serval_runs, "/shop/7").status, 200);
    assert!(serval_runs.stop().unwrap().success());
}

#[test]
fn what_server_toml_names_elsewhere_and_what_links_lead_to_stays() {
    let home = home();
    home.write("elsewhere/index.html", "elsewhere").unwrap();
    home.write("linked/index.html", "linked").unwrap();
    home.write("shop.war", page("archive")).unwrap();
    symlink(home.path("linked"), home.path("webapps/linked")).unwrap();
    home.configure("[[host]]\n[[host.context]]\npath = \"/named\"\nwebapp = \"../elsewhere\"").unwrap();
    let serval_runs = Serval::start(&home).unwrap();
    let (code, _, error) = serval(&home, &["undeploy", "/named"]);
    assert!(code == Some(3) && error.contains("remove its [[host.context]]"), "{error}");
    let (code, _, error) = deploy(&home, "shop.war", &["--path", "/named"]);
    assert!(code == Some(3) && error.contains("elsewhere\" at that path"), "{error}");
    assert_eq!(get(&serval_runs, "/named/").body, b"elsewhere");
    assert_eq!(get(&serval_runs, "/linked/").body, b"linked");
    assert_eq!(serval(&home, &["undeploy", "/linked"]).0, Some(0));
    assert_eq!(get(&serval_runs, "/linked/").status, 404);
    assert!(home.path("linked/index.html").exists() && home.path("elsewhere/index.html").exists());
    assert!(serval_runs.stop().unwrap().success());
}

#[test]
fn an_old_version_goes_when_nobody_has_a_session_with_it() {
    let (home, shop) = (home(), Shop::new());
    home.configure("[[host]]\nundeploy_old_versions = true").unwrap();
    put(&home, "shop##1.war", shop.archive("1"));
    let serval_runs = Serval::start(&home).unwrap();
    let first = get(&serval_runs, "/shop/visit?in");
    let cookie = first.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let mine = |query: &str| {
        let mut connection = Connection::open(serval_runs.address(), LONG).unwrap();
        let request = format!("GET /shop/visit{query} HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n");
        connection.send(request.as_bytes()).unwrap();
        String::from_utf8(connection.read_response().unwrap().body).unwrap()
    };
    put(&home, "shop##2.war", shop.archive("FAILS"));
    serval_runs.wait_for_log("the till is locked", LONG).unwrap();
    assert!(home.path("webapps/shop##1.war").exists(), "the newer one does not serve");
    put(&home, "shop##2.war", shop.archive("2"));
    answers(&serval_runs, "/shop/visit", 200, "2 0");
    assert_eq!(mine(""), "1 2", "who has a session stays with its version");
    put(&home, "shop##3.war", shop.archive("3"));
    answers(&serval_runs, "/shop/visit", 200, "3 0");
    wait_until(&serval_runs, || !home.path("webapps/shop##2.war").exists());
    assert!(home.path("webapps/shop##1.war").exists());
    assert_eq!(mine("?quit"), "1 3");
    wait_until(&serval_runs, || !home.path("webapps/shop##1.war").exists());
    answers(&serval_runs, "/shop/visit", 200, "3 0");
    becomes(&home, |told| told["contexts"].as_array().unwrap().len() == 1);
    assert!(serval_runs.stop().unwrap().success());
}

#[test]
fn an_old_version_stays_while_the_newer_one_is_stopped() {
    let (home, shop) = (home(), Shop::new());
    home.configure("[[host]]\nundeploy_old_versions = true").unwrap();
    put(&home, "shop##1.war", shop.archive("1"));
    home.write("new/page.war", page("a page")).unwrap();
    let serval_runs = Serval::start(&home).unwrap();
    let first = get(&serval_runs, "/shop/visit?in");
    let cookie = first.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    put(&home, "shop##2.war", shop.archive("2"));
    answers(&serval_runs, "/shop/visit", 200, "2 0");
    assert_eq!(serval(&home, &["stop", "/shop##2"]).0, Some(0));
    let mut connection = Connection::open(serval_runs.address(), LONG).unwrap();
    let request = format!("GET /shop/visit?quit HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n");
    connection.send(request.as_bytes()).unwrap();
    assert_eq!(connection.read_response().unwrap().body, b"1 2");
    // It makes passes, and waits for them: each would have removed the old version.
    assert_eq!(deploy(&home, "new/page.war", &["--path", "/page"]).0, Some(0));
    assert_eq!(deploy(&home, "new/page.war", &["--path", "/page2"]).0, Some(0));
    assert!(home.path("webapps/shop##1.war").exists());
    assert_eq!(serval(&home, &["start", "/shop##2"]).0, Some(0));
    wait_until(&serval_runs, || !home.path("webapps/shop##1.war").exists());
    assert!(serval_runs.stop().unwrap().success());
}

/// Deploys an archive and a folder over others, whose inits wait; `meanwhile` both lie in place. What the commands end with.
fn deploy_what_waits(
    home: &e2e::serval::Home,
    shop: &Shop,
    meanwhile: impl FnOnce(),
) -> [(Option<i32>, String, String); 2] {
    home.write("new/waits.war", shop.archive("WAITS")).unwrap();
    home.write("new/waits/index.html", "waits").unwrap();
    home.write("new/waits/WEB-INF/lib/shop.so", shop.library("WAITS")).unwrap();
    std::thread::scope(|scope| {
        let archive = scope.spawn(|| deploy(home, "new/waits.war", &["--path", "/shop"]));
        let folder = scope.spawn(|| deploy(home, "new/waits", &["--path", "/site"]));
        let deadline = Instant::now() + LONG;
        let is_in_place = |new: &str, place: &str| fs::read(home.path(new)).ok() == fs::read(home.path(place)).ok();
        while !is_in_place("new/waits.war", "webapps/shop.war")
            || !is_in_place("new/waits/index.html", "webapps/site/index.html")
        {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(10));
        }
        meanwhile();
        [archive.join().unwrap(), folder.join().unwrap()]
    })
}

#[test]
fn what_a_deployment_replaces_is_back_after_a_kill_before_its_end() {
    let (home, shop) = (home(), Shop::new());
    home.write("webapps/site/index.html", "a site").unwrap();
    put(&home, "shop.war", shop.archive("1"));
    let serval_runs = Serval::start(&home).unwrap();
    let before = (tree(&home.path("webapps")), fs::read(home.path("webapps/shop.war")).unwrap());
    let ended = deploy_what_waits(&home, &shop, || kill(serval_runs));
    assert!(ended.iter().all(|(code, ..)| *code != Some(0)), "{ended:?}");

    let serval_runs = Serval::start(&home).unwrap();
    assert_eq!(get(&serval_runs, "/shop/visit").body, b"1 0");
    assert_eq!(get(&serval_runs, "/site/").body, b"a site");
    assert_eq!((tree(&home.path("webapps")), fs::read(home.path("webapps/shop.war")).unwrap()), before);
    shop.go();
    for (file, path) in [("new/waits.war", "/shop"), ("new/waits", "/site")] {
        assert_eq!(deploy(&home, file, &["--path", path]).0, Some(0));
    }
    // What was confirmed stays.
    kill(serval_runs);
    let serval_runs = Serval::start(&home).unwrap();
    answers(&serval_runs, "/shop/visit", 200, "WAITS 0");
    answers(&serval_runs, "/site/visit", 200, "WAITS 0");
    assert!(!tree(&home.path("webapps")).iter().any(|path| path.to_string_lossy().contains(".serval.")));
    assert!(serval_runs.stop().unwrap().success());
}

#[test]
fn what_a_deployment_replaces_is_back_when_the_new_one_is_removed_before_its_end() {
    let (home, shop) = (home(), Shop::new());
    home.write("webapps/site/index.html", "a site").unwrap();
    put(&home, "shop.war", shop.archive("1"));
    let serval_runs = Serval::start(&home).unwrap();
    let before = (tree(&home.path("webapps")), fs::read(home.path("webapps/shop.war")).unwrap());
    let ended = deploy_what_waits(&home, &shop, || {
        fs::remove_file(home.path("webapps/shop.war")).unwrap();
        fs::rename(home.path("webapps/site"), home.path("new/aside")).unwrap();
    });
    assert!(ended.iter().all(|(code, ..)| *code == Some(3)), "{ended:?}");
    shop.go();
    wait_until(&serval_runs, || tree(&home.path("webapps")) == before.0);
    assert_eq!(fs::read(home.path("webapps/shop.war")).unwrap(), before.1);
    answers(&serval_runs, "/shop/visit", 200, "1 0");
    answers(&serval_runs, "/site/", 200, "a site");
    assert!(serval_runs.stop().unwrap().success());
}
