//! How generations follow each other where it is not one beside the other: libraries that own what only one can have, rollback, contexts
//! that are stopped and started, and webapps whose folder is replaced.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use e2e::commands::{becomes, context, done, serval, status};
use e2e::http_client::Connection;
use e2e::load::{Load, Outcome};
use e2e::serval::{Home, Serval, repository};

const LONG: Duration = Duration::from_secs(60);

/// Compiles the library, and puts it in its place as a whole.
#[track_caller]
fn compile(home: &Home, flags: &[&str]) {
    let output = home.path("built.so");
    let mut command = Command::new("cc");
    command.args(["-std=gnu11", "-Wall", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden"]).args(flags);
    command.arg("-I").arg(repository().join("crates/abi/include"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/switching/owner.c");
    assert!(command.arg(source).arg("-o").arg(&output).status().unwrap().success());
    std::fs::create_dir_all(home.path("webapps/shop/WEB-INF/lib")).unwrap();
    std::fs::rename(output, home.path("webapps/shop/WEB-INF/lib/owner.so")).unwrap();
}

/// A home with the library that owns a port. Nothing is loaded but by command.
fn home(switch: &str) -> Home {
    home_with(switch, "settle_time = \"1m\"\ndrain_timeout = \"20s\"\ngenerations_kept = 3")
}

fn home_with(switch: &str, settings: &str) -> Home {
    let home = Home::new().unwrap();
    home.configure(&format!("[defaults.context]\n{settings}")).unwrap();
    let port = port();
    let web = format!("switch = \"{switch}\"\n[params]\nport = \"{port}\"\n");
    home.write("webapps/shop/WEB-INF/web.toml", web).unwrap();
    compile(&home, &[]);
    home
}

/// A port that nobody has by now, for the library to ask for: below those that the system gives to whoever asks for any, since it is
/// free again whenever the library ends.
fn port() -> u16 {
    static ASKED: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 1000) as u16 * 20;
    let mut ports = std::iter::repeat_with(|| first + ASKED.fetch_add(1, Ordering::Relaxed));
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

fn started(home: &Home) -> Serval {
    let runs = Serval::start(home).unwrap();
    becomes(home, |told| context(told, "/shop")["servlets"] == 1);
    runs
}

#[track_caller]
fn answer(runs: &Serval) -> (u16, String) {
    let answer = Connection::open(runs.address(), LONG).unwrap().get("/shop/owner").unwrap();
    (answer.status, String::from_utf8(answer.body.to_vec()).unwrap())
}

#[test]
fn a_library_that_owns_a_port_is_ended_before_the_next_one_starts() {
    let home = home("blue-green");
    let runs = started(&home);
    let (code, _, error) = serval(&home, &["reload", "/shop"]);
    assert_eq!(code, Some(3));
    assert!(error.contains("the port is taken"), "{error}");
    let web = std::fs::read_to_string(home.path("webapps/shop/WEB-INF/web.toml")).unwrap();
    home.write("webapps/shop/WEB-INF/web.toml", web.replace("blue-green", "stop-start")).unwrap();

    let load = Load::start(runs.address(), 4, LONG, |_, connection| {
        let answer = connection.get("/shop/owner?slow")?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        Ok(match (answer.status, text.split_once(',')) {
            (200, Some(("1" | "2", _))) => Outcome::Good,
            _ => Outcome::Failed(format!("{} {text}", answer.status)),
        })
    });
    let web = web.replace("blue-green", "stop-start");
    for round in 1..=10 {
        let version = if round % 2 == 0 { "1" } else { "2" };
        compile(&home, &[&format!("-DVERSION=\"{version}\"")]);
        done(&home, &["reload", "/shop"]);
        assert_eq!(answer(&runs), (200, format!("{version},{}", 2 * round - 1)), "what it hands over comes along");
        // One that does not start: what was ended for it starts again.
        compile(&home, &["-DFAILS"]);
        let (code, _, error) = serval(&home, &["reload", "/shop"]);
        assert_eq!(code, Some(3));
        assert!(error.contains("the till is locked"), "{error}");
        assert_eq!(answer(&runs), (200, format!("{version},{}", 2 * round)));
        // For one that is known to be none, nothing is ended.
        home.write("webapps/shop/WEB-INF/lib/owner.so", "no library").unwrap();
        assert_eq!(serval(&home, &["reload", "/shop"]).0, Some(3));
        home.write("webapps/shop/WEB-INF/web.toml", format!("{web}[[servlet]]\n")).unwrap();
        assert_eq!(serval(&home, &["reload", "/shop"]).0, Some(3));
        home.write("webapps/shop/WEB-INF/web.toml", &web).unwrap();
        assert_eq!(answer(&runs), (200, format!("{version},{}", 2 * round)));
    }
    let counts = load.stop();
    assert!(counts.requests > 0);
    assert_eq!((counts.wrong, counts.details), (0, Vec::<String>::new()));
    assert!(runs.stop().unwrap().success());
}

#[test]
fn a_call_that_does_not_end_keeps_its_generation() {
    let settings = "settle_time = \"1m\"\ndrain_timeout = \"1s\"\nqueue_timeout = \"1h\"";
    let home = home_with("stop-start", settings);
    let runs = started(&home);
    let mut held = Connection::open(runs.address(), LONG).unwrap();
    held.send(b"GET /shop/owner?hold HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    becomes(&home, |told| context(told, "/shop")["calls"] == 1);
    compile(&home, &["-DVERSION=\"2\""]);
    let (code, _, error) = std::thread::scope(|scope| {
        let reload = scope.spawn(|| serval(&home, &["reload", "/shop"]));
        becomes(&home, |told| context(told, "/shop")["next"]["state"] == "draining");
        reload.join().unwrap()
    });
    let why = "/shop: the new generation is refused: calls still run in generation 1 after 1s (drain_timeout)\n";
    assert_eq!((code, &*error), (Some(3), why));
    assert_eq!(answer(&runs), (200, "1,0".to_owned()));
    home.write("var/work/localhost/shop/go", "").unwrap();
    assert_eq!(held.read_response().unwrap().body, b"1,0");
    // A call may end after its answer.
    becomes(&home, |told| context(told, "/shop")["calls"] == 0);
    done(&home, &["reload", "/shop"]);
    assert_eq!(answer(&runs), (200, "2,1".to_owned()));
    assert!(runs.stop().unwrap().success());
}

#[test]
fn an_operator_goes_back_to_what_was_served_before() {
    let home = home("stop-start");
    let runs = started(&home);
    for version in 2..=5 {
        compile(&home, &[&format!("-DVERSION=\"{version}\"")]);
        done(&home, &["reload", "/shop"]);
    }
    let kept = |told: &serde_json::Value| context(told, "/shop")["kept"].clone();
    assert_eq!(kept(&status(&home)), serde_json::json!([4, 3, 2]), "as many as generations_kept says");
    assert_eq!(done(&home, &["rollback", "/shop"]), "/shop serves generation 6\n");
    assert_eq!(answer(&runs).1, "4,5");
    // Once more: further back.
    assert_eq!(done(&home, &["rollback", "/shop", "--json"]), "{\"generation\":7}\n");
    assert_eq!(answer(&runs).1, "3,6");
    done(&home, &["rollback", "/shop", "--to", "5"]);
    assert_eq!(answer(&runs).1, "5,7");
    done(&home, &["rollback", "/shop", "--to", "2"]);
    let (code, _, error) = serval(&home, &["rollback", "/shop"]);
    assert_eq!(code, Some(3));
    assert!(
        error.starts_with("/shop: none before it is kept: generation 9 is made from what 2 was made from"),
        "{error}"
    );
    let (code, _, error) = serval(&home, &["rollback", "/shop", "--to", "77"]);
    assert_eq!(code, Some(3));
    assert!(error.starts_with("/shop: no generation 77 is kept"), "{error}");
    assert_eq!(answer(&runs).1, "2,8");
    assert!(runs.stop().unwrap().success());

    // Also after a restart, what was gone back from is not tried again until it changes.
    let runs = started(&home);
    assert_eq!(answer(&runs).1, "2,0");
    compile(&home, &["-DVERSION=\"6\""]);
    done(&home, &["reload", "/shop"]);
    assert_eq!(answer(&runs).1, "6,1");
    assert!(runs.stop().unwrap().success());
    let runs = started(&home);
    assert_eq!(answer(&runs).1, "6,0");
    // What is kept is not trusted blindly.
    for kept in std::fs::read_dir(home.path("var/generations/localhost/shop")).unwrap() {
        let library = kept.unwrap().path().join("lib/owner.so");
        if library.exists() {
            std::fs::remove_file(&library).unwrap();
            std::fs::write(&library, "no library").unwrap();
        }
    }
    let (code, _, error) = serval(&home, &["rollback", "/shop"]);
    assert_eq!(code, Some(3));
    assert!(error.contains("owner.so: it is not an ELF file"), "{error}");
    assert_eq!(answer(&runs).1, "6,0");
    assert!(runs.stop().unwrap().success());
}

#[test]
fn a_context_is_stopped_and_started() {
    let home = home("blue-green");
    home.write("webapps/shop/index.html", "shop").unwrap();
    let runs = started(&home);
    let mut held = Connection::open(runs.address(), LONG).unwrap();
    held.send(b"GET /shop/owner?hold HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    becomes(&home, |told| context(told, "/shop")["calls"] == 1);
    let stopping = std::thread::scope(|scope| {
        let stopping = scope.spawn(|| done(&home, &["stop", "/shop"]));
        becomes(&home, |told| told["old"][0]["waits_for"] == "1 call");
        home.write("var/work/localhost/shop/go", "").unwrap();
        stopping.join().unwrap()
    });
    assert_eq!(stopping, "/shop is stopped\n");
    assert_eq!(held.read_response().unwrap().body, b"1,0");
    for path in ["/shop/owner", "/shop/", "/shop"] {
        let answer = Connection::open(runs.address(), LONG).unwrap().get(path).unwrap();
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("10")), "{path}");
    }
    // It has ended; that its library is unloaded may come after.
    let told = becomes(&home, |told| told["old"] == serde_json::json!([]));
    assert_eq!(context(&told, "/shop")["state"], "stopped");
    assert_eq!(serval(&home, &["status"]).0, Some(3));
    done(&home, &["stop", "/shop"]);
    // Nothing wakes it but the command: neither a change, nor a reload.
    compile(&home, &["-DFAILS"]);
    let (code, _, error) = serval(&home, &["reload", "/shop"]);
    assert_eq!((code, &*error), (Some(3), "/shop: it is stopped: `serval start` starts it\n"));
    let (code, _, error) = serval(&home, &["start", "/shop"]);
    assert_eq!(code, Some(3));
    assert!(error.contains("the till is locked"), "{error}");
    assert_eq!(answer(&runs).0, 503);
    compile(&home, &["-DVERSION=\"2\""]);
    assert_eq!(done(&home, &["start", "/shop", "--json"]), "{\"generation\":3}\n");
    assert_eq!(answer(&runs), (200, "2,0".to_owned()));
    let (code, _, error) = serval(&home, &["start", "/shop"]);
    assert_eq!((code, &*error), (Some(3), "/shop: it is not stopped\n"));
    assert!(runs.stop().unwrap().success());
}

#[test]
fn one_that_starts_and_fails_its_check_has_given_back_what_it_owned() {
    let home = home("stop-start");
    let web = std::fs::read_to_string(home.path("webapps/shop/WEB-INF/web.toml")).unwrap();
    home.write("webapps/shop/WEB-INF/web.toml", format!("check = \"/owner\"\n{web}")).unwrap();
    let runs = started(&home);
    for round in 1..=5 {
        compile(&home, &["-DSICK"]);
        let (code, _, error) = serval(&home, &["reload", "/shop"]);
        assert_eq!(code, Some(3));
        assert!(error.contains("its check /owner answered 503"), "{error}");
        assert_eq!(answer(&runs), (200, format!("1,{round}")));
    }
    // What it was made from is gone, too: then nothing serves, and that is told.
    std::fs::remove_dir_all(home.path("var/generations/localhost/shop/1")).unwrap();
    let (code, _, error) = serval(&home, &["reload", "/shop"]);
    assert_eq!(code, Some(3));
    assert!(error.contains("does not start again: it was not kept"), "{error}");
    assert_eq!(answer(&runs).0, 503);
    assert_eq!(context(&status(&home), "/shop")["state"], "failed");
    compile(&home, &["-DVERSION=\"2\""]);
    done(&home, &["reload", "/shop"]);
    assert_eq!(answer(&runs), (200, "2,0".to_owned()));
    assert_eq!(context(&status(&home), "/shop")["state"], "ready");
    assert!(runs.stop().unwrap().success());
}

#[test]
fn a_webapp_of_one_of_two_hosts_goes_when_its_folder_goes() {
    let home = Home::new().unwrap();
    for folder in ["webapps/a", "sites/b"] {
        home.write(&format!("{folder}/index.html"), "here").unwrap();
    }
    home.configure("[[host]]\nname = \"localhost\"\n[[host]]\nname = \"other\"\nwebapps = \"sites\"").unwrap();
    let runs = Serval::start(&home).unwrap();
    let names = |told: &serde_json::Value| told["contexts"].as_array().map_or(0, Vec::len);
    assert_eq!(names(&status(&home)), 2);
    std::fs::remove_dir_all(home.path("webapps/a")).unwrap();
    becomes(&home, |told| names(told) == 1);
    std::fs::remove_dir_all(home.path("sites/b")).unwrap();
    becomes(&home, |told| names(told) == 0);
    for folder in ["localhost/a", "other/b"] {
        assert!(!home.path(&format!("var/generations/{folder}")).exists(), "{folder}");
    }
    assert!(runs.stop().unwrap().success());
}

/// What was kept of a webapp is not another one's that comes to its place while no server runs.
#[test]
fn what_is_kept_goes_with_its_webapp() {
    let home = home("blue-green");
    let runs = started(&home);
    assert!(runs.stop().unwrap().success());
    std::fs::rename(home.path("webapps/shop"), home.path("shop")).unwrap();
    let runs = Serval::start(&home).unwrap();
    assert!(!home.path("var/generations/localhost/shop").exists());
    assert!(runs.stop().unwrap().success());
}
