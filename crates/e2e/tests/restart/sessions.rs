//! Sessions over restarts: of an orderly one all, after a kill those of the last snapshot.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use e2e::serval::{Home, Serval};

use crate::{LONG, begin, deploy, get, home, id, snapshot, wait_until};

#[test]
fn all_survive_an_orderly_restart() {
    let home = home(&["x", "ROOT", "a#b##2"], "snapshot_every = \"1h\"");
    let serval = Serval::start(&home).unwrap();
    let (first, second) = (begin(&serval, "/x/kept"), begin(&serval, "/x/kept?ever"));
    let (root, deep) = (begin(&serval, "/kept"), begin(&serval, "/a/b/kept"));
    let ended = begin(&serval, "/x/kept");
    assert_eq!(get(&serval, "/x/kept?end", &ended), "ended");
    let before = get(&serval, "/x/kept", &first);
    assert!(before.starts_with("2 old created "), "{before}");
    let lines = serval.stop_and_read().unwrap();
    let destroyed: Vec<&String> = lines.iter().filter(|line| line.contains("session destroyed")).collect();
    assert!(destroyed.len() == 1 && destroyed[0].contains(id(&ended)), "the stop ends none: {destroyed:#?}");
    for (path, mode) in [("", 0o700), ("/localhost", 0o700), ("/localhost/x", 0o700), ("/localhost/x/snapshot", 0o600)]
    {
        let about = home.path(&format!("var/sessions{path}")).metadata().unwrap();
        assert_eq!(about.permissions().mode() & 0o777, mode, "{path}");
    }

    let serval = Serval::start(&home).unwrap();
    let created = |text: &str| text.split(' ').nth(3).unwrap().to_owned();
    let after = get(&serval, "/x/kept", &first);
    assert!(after.starts_with("3 old created ") && after.ends_with(" max 1800"), "{after}");
    assert_eq!(created(&after), created(&before));
    assert!(after.split(' ').nth(5) >= before.split(' ').nth(5), "{after} {before}");
    assert!(get(&serval, "/x/kept", &second).ends_with(" max 0"));
    assert!(get(&serval, "/kept", &root).starts_with("2 old"));
    assert!(get(&serval, "/a/b/kept", &deep).starts_with("2 old"));
    assert_eq!(get(&serval, "/x/kept?look", &ended), "none");
    assert_eq!(get(&serval, "/x/kept?look", &root), "none", "that is another webapp's");
    let lines = serval.stop_and_read().unwrap();
    assert!(!lines.iter().any(|line| line.contains("kept: session")), "nothing begins or ends: {lines:#?}");
}

#[test]
fn what_the_last_request_does_is_saved() {
    let home = home(&["x"], "snapshot_every = \"0s\"");
    let serval = Serval::start(&home).unwrap();
    let (cookie, address) = (begin(&serval, "/x/kept"), serval.address());
    let mut held = e2e::http_client::Connection::open(address, LONG).unwrap();
    held.send(format!("GET /x/kept?hold HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n").as_bytes()).unwrap();
    wait_until(|| status(&home).1.contains("\"calls\":1"));
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| serval.stop_and_read().unwrap());
        wait_until(|| TcpStream::connect(address).is_err());
        home.write("var/work/localhost/x/go", "").unwrap();
        assert!(held.read_response().unwrap().body.starts_with(b"2 old"));
        stop.join().unwrap();
    });
    let serval = Serval::start(&home).unwrap();
    assert!(get(&serval, "/x/kept", &cookie).starts_with("3 old"));
    assert!(serval.stop().unwrap().success());
}

/// The exit code of `serval status`, and what it tells as JSON.
pub fn status(home: &Home) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(e2e::serval::binary().unwrap());
    let output = command.args(["status", "--json", "--home"]).arg(home.path("")).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn after_a_kill_they_are_as_of_the_last_snapshot() {
    let home = home(&["x"], "snapshot_every = \"50ms\"");
    let serval = Serval::start(&home).unwrap();
    let cookie = begin(&serval, "/x/kept");
    let file = snapshot(&home, "x");
    wait_until(|| file.exists());
    let before = std::fs::read(&file).unwrap();
    assert!(get(&serval, "/x/kept", &cookie).starts_with("2 old"));
    wait_until(|| std::fs::read(&file).unwrap() != before);
    // Killed.
    drop(serval);
    // As it looks when that is in the midst of writing.
    std::fs::write(file.with_file_name("snapshot.new"), &before[..before.len() / 2]).unwrap();
    let serval = Serval::start(&home).unwrap();
    assert!(!file.with_file_name("snapshot.new").exists());
    assert!(get(&serval, "/x/kept", &cookie).starts_with("3 old"));
    // The last one that ends takes the file with it.
    assert_eq!(get(&serval, "/x/kept?end", &cookie), "ended");
    wait_until(|| !file.exists());
    assert!(serval.stop().unwrap().success());
}

#[test]
fn without_snapshots_only_a_stop_saves_them() {
    let home = home(&["x"], "snapshot_every = \"0s\"");
    let serval = Serval::start(&home).unwrap();
    let cookie = begin(&serval, "/x/kept");
    drop(serval);
    let serval = Serval::start(&home).unwrap();
    assert_eq!(get(&serval, "/x/kept?look", &cookie), "none");
    let cookie = begin(&serval, "/x/kept");
    assert!(serval.stop().unwrap().success());
    let serval = Serval::start(&home).unwrap();
    assert!(get(&serval, "/x/kept", &cookie).starts_with("2 old"));
    assert!(serval.stop().unwrap().success());
}

#[test]
fn those_of_a_webapp_that_is_gone_do_not_come_back() {
    let home = home(&["x", "y"], "snapshot_every = \"50ms\"");
    let serval = Serval::start(&home).unwrap();
    let (of_x, of_y) = (begin(&serval, "/x/kept"), begin(&serval, "/y/kept"));
    let file = snapshot(&home, "x");
    wait_until(|| file.exists());
    std::fs::remove_dir_all(home.path("webapps/x")).unwrap();
    serval.wait_for_log(&format!("session destroyed {}", id(&of_x)), LONG).unwrap();
    wait_until(|| !file.parent().unwrap().exists());
    deploy(&home, "x");
    wait_until(|| crate::answer(&serval, "/x/kept?look", "a=b").status == 200);
    assert_eq!(get(&serval, "/x/kept?look", &of_x), "none");
    assert!(serval.stop().unwrap().success());

    // Nobody sees it go.
    std::fs::remove_dir_all(home.path("webapps/y")).unwrap();
    let serval = Serval::start(&home).unwrap();
    assert!(!snapshot(&home, "y").exists());
    deploy(&home, "y");
    wait_until(|| crate::answer(&serval, "/y/kept?look", "a=b").status == 200);
    assert_eq!(get(&serval, "/y/kept?look", &of_y), "none");
    assert!(serval.stop().unwrap().success());
}

/// One that is not served, because its web.toml is wrong, is not gone.
#[test]
fn those_of_a_webapp_that_is_not_served_wait() {
    let home = home(&["x"], "");
    let serval = Serval::start(&home).unwrap();
    let cookie = begin(&serval, "/x/kept");
    assert!(serval.stop().unwrap().success());
    home.write("webapps/x/WEB-INF/web.toml", "wrong").unwrap();
    let serval = Serval::start(&home).unwrap();
    serval.wait_for_log("is not served", LONG).unwrap();
    std::fs::remove_file(home.path("webapps/x/WEB-INF/web.toml")).unwrap();
    wait_until(|| crate::answer(&serval, "/x/kept?look", &cookie).status == 200);
    assert!(get(&serval, "/x/kept", &cookie).starts_with("2 old"));
    assert!(serval.stop().unwrap().success());
}

#[test]
fn time_goes_on_while_no_server_runs() {
    let home = home(&["x"], "");
    let serval = Serval::start(&home).unwrap();
    let (short, ever, usual) =
        (begin(&serval, "/x/kept?short"), begin(&serval, "/x/kept?ever"), begin(&serval, "/x/kept"));
    assert!(serval.stop().unwrap().success());
    // Its time is a second.
    std::thread::sleep(Duration::from_millis(1100));
    let serval = Serval::start(&home).unwrap();
    assert_eq!(get(&serval, "/x/kept?look", &short), "none");
    serval.wait_for_log(&format!("session destroyed {}", id(&short)), LONG).unwrap();
    assert!(get(&serval, "/x/kept?look", &ever).starts_with("1 old"));
    assert!(get(&serval, "/x/kept?look", &usual).starts_with("1 old"));
    assert!(serval.stop().unwrap().success());

    // What the clock says at the next start, the other way round: the snapshot is of such a time.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
    let day = 86_400_000;
    for (written, stays) in
        [(now + day, true), (i64::MAX, true), (now - day / 24 / 3, true), (now - day, false), (i64::MIN, false)]
    {
        rewrite(&home, written);
        let serval = Serval::start(&home).unwrap();
        assert_eq!(get(&serval, "/x/kept?look", &usual) != "none", stays, "{written}");
        assert!(get(&serval, "/x/kept?look", &ever).starts_with("1 old"), "{written}");
        assert!(serval.stop().unwrap().success());
    }
}

/// Changes the time at which a snapshot was written.
fn rewrite(home: &Home, written: i64) {
    let file = snapshot(home, "x");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[12..20].copy_from_slice(&written.to_le_bytes());
    crate::damage::sum(&mut bytes);
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_session_still_leads_to_its_version() {
    let home = home(&["x##1"], "");
    let serval = Serval::start(&home).unwrap();
    let old = begin(&serval, "/x/kept");
    assert!(serval.stop().unwrap().success());
    deploy(&home, "x##2");
    let serval = Serval::start(&home).unwrap();
    let new = begin(&serval, "/x/kept");
    for (cookie, version) in [(&old, "x##1"), (&new, "x##2")] {
        assert!(get(&serval, "/x/kept", cookie).starts_with("2 old"), "{version}");
    }
    assert!(serval.stop().unwrap().success());
    let of_both = ["x##1", "x##2"].map(|webapp| std::fs::read(snapshot(&home, webapp)).unwrap());
    let holds = |bytes: &[u8], cookie: &str| bytes.windows(32).any(|window| window == id(cookie).as_bytes());
    assert!(holds(&of_both[0], &old) && !holds(&of_both[0], &new) && holds(&of_both[1], &new));
}
