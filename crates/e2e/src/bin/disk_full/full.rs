//! The steps, each of which fills a file system, sees what comes of it, and makes room again.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use e2e::commands::{becomes, context, serval as command, status};
use e2e::http_client::{Connection, Response};
use e2e::serval::Serval;
use e2e::steady::{LONG, Steady, answers, ends_well, get, home, library, names, put, started, visit, wait_until};

const SIZE: &str = "16m";
const PAGE: usize = 4096;
const NO_SPACE: &str = "No space left on device";
const SETTINGS: &str =
    "[sessions]\nsnapshot_every = \"20ms\"\n[defaults.context]\nsettle_time = \"1ms\"\ngenerations_kept = 2\n";

/// A small file system. Dropped, it goes, with all that is in it.
struct Small {
    folder: PathBuf,
}

impl Small {
    fn mount(folder: PathBuf) -> Result<Small> {
        fs::create_dir_all(&folder)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={SIZE}"), "disk-full"]).arg(&folder);
        let output = mount.output().context("this program needs `mount`")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "a small file system cannot be mounted, which root may: {}", error.trim());
        Ok(Small { folder })
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join(".ballast")
    }

    /// Fills it to the last byte.
    fn fill(&self) -> Result<()> {
        let mut ballast = fs::OpenOptions::new().create(true).append(true).open(self.ballast())?;
        for size in [1 << 20, PAGE, 1] {
            let piece = vec![0; size];
            loop {
                match ballast.write(&piece) {
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
                    Err(error) => bail!("{}: {error}", self.ballast().display()),
                }
            }
        }
        Ok(())
    }

    /// Makes room of so many bytes.
    fn free(&self, bytes: u64) -> Result<()> {
        let ballast = fs::OpenOptions::new().write(true).open(self.ballast())?;
        Ok(ballast.set_len(ballast.metadata()?.len().saturating_sub(bytes))?)
    }

    fn empty(&self) -> Result<()> {
        Ok(fs::remove_file(self.ballast())?)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Somebody may still have a file of it open, for a moment: it goes when nobody has any more.
        let _ = Command::new("umount").arg("--lazy").arg(&self.folder).status();
    }
}

/// Returns how many steps there were.
pub fn check() -> Result<usize> {
    let steps = [reload, keeping, sessions, at_the_stop_and_the_start, access_log, uploads];
    for step in steps {
        step()?;
    }
    Ok(steps.len())
}

/// A private copy cannot be written: refused, what serves goes on, and it is tried again.
fn reload() -> Result<()> {
    let home = home(SETTINGS);
    let disk = Small::mount(home.path("var"))?;
    let serval = started(&home);
    let load = Steady::of(&serval);
    load.goes_on();
    disk.fill()?;
    put(&home, 2);
    // Also the control socket needs no room.
    let (code, _, error) = command(&home, &["reload", "/x"]);
    ensure!(code == Some(3) && error.contains(NO_SPACE), "{error}");
    let told = status(&home);
    let x = context(&told, "/x");
    ensure!(x["generation"] == 1 && x["refused"].as_str().is_some_and(|why| why.contains(NO_SPACE)), "{told:#}");
    ensure!(get(&serval, "/x/step").body == b"version 0001", "it serves on");
    ensure!(names(home.path("var/run/generations/localhost/x")).len() == 1, "what could not be copied is gone");
    disk.empty()?;
    ends_well(&home, &serval, 2);
    load.was_well();
    ensure!(serval.stop()?.success(), "it did not stop well");
    Ok(())
}

/// There is room for the private copy, and not for what is to be gone back to.
fn keeping() -> Result<()> {
    let home = home(SETTINGS);
    let disk = Small::mount(home.path("var"))?;
    let serval = started(&home);
    wait_until("it is kept", || home.path("var/generations/localhost/x/1/kept.json").exists());
    let load = Steady::of(&serval);
    disk.fill()?;
    disk.free(library(2).len().next_multiple_of(PAGE) as u64)?;
    put(&home, 2);
    answers(&serval, 2);
    let line = serval.wait_for_log("there will be no way back to this generation, which is not kept", LONG)?;
    ensure!(line.contains(NO_SPACE), "{line}");
    ensure!(names(home.path("var/generations/localhost/x")) == ["1"], "nothing half is kept");
    disk.empty()?;
    ends_well(&home, &serval, 2);
    load.was_well();
    ensure!(serval.stop()?.success(), "it did not stop well");
    Ok(())
}

/// The last snapshot stays whole, and the next one is written when there is room.
fn sessions() -> Result<()> {
    let home = home(SETTINGS);
    let disk = Small::mount(home.path("var"))?;
    let serval = started(&home);
    let snapshot = home.path("var/sessions/localhost/x/snapshot");
    let (_, cookie) = visit(&serval, "a=b", "visit");
    wait_until("a snapshot", || snapshot.exists());
    let load = Steady::of(&serval);
    disk.fill()?;
    ensure!(visit(&serval, &cookie, "visit").0 == 2, "sessions go on");
    let line = serval.wait_for_log("the sessions of /x cannot be saved in ", LONG)?;
    ensure!(line.contains(NO_SPACE) && line.contains("it is tried again"), "{line}");
    becomes(&home, |told| told["problems"][0].as_str().is_some_and(|problem| problem.contains(NO_SPACE)));
    load.goes_on();
    ensure!(names(home.path("var/sessions/localhost/x")) == ["snapshot"], "nothing half is there");
    disk.empty()?;
    serval.wait_for_log("its sessions are saved again", LONG)?;
    load.was_well();
    // Killed.
    drop(serval);
    let serval = started(&home);
    ensure!(visit(&serval, &cookie, "visit").0 == 3, "it has what was saved");
    ends_well(&home, &serval, 1);
    ensure!(serval.stop()?.success(), "it did not stop well");
    Ok(())
}

/// A stop says that not all is saved; a start serves when there is room.
fn at_the_stop_and_the_start() -> Result<()> {
    let home = home(SETTINGS);
    let disk = Small::mount(home.path("var"))?;
    let serval = started(&home);
    let snapshot = home.path("var/sessions/localhost/x/snapshot");
    let (_, cookie) = visit(&serval, "a=b", "visit");
    wait_until("a snapshot", || snapshot.exists());
    disk.fill()?;
    visit(&serval, &cookie, "visit");
    ensure!(serval.stop()?.code() == Some(3), "the stop says that something was lost");
    // What it had has made room.
    disk.fill()?;
    let serval = Serval::start(&home)?;
    let load = Steady::of_neighbour(&serval);
    let line = serval.wait_for_log("the new generation is refused", LONG)?;
    ensure!(line.contains(NO_SPACE) && line.contains("it is tried again"), "{line}");
    ensure!(get(&serval, "/x/step").status == 503, "its servlets are to come");
    disk.empty()?;
    answers(&serval, 1);
    // Of the snapshot from before.
    ensure!(visit(&serval, &cookie, "visit").0 == 2, "the session is as of the last snapshot");
    ends_well(&home, &serval, 1);
    load.was_well();
    ensure!(serval.stop()?.success(), "it did not stop well");
    Ok(())
}

/// Lines are lost, which is said; those that are there are whole.
fn access_log() -> Result<()> {
    let home = home(&format!("[access_log]\nfile = \"access.log\"\n{SETTINGS}"));
    let disk = Small::mount(home.path("var"))?;
    let serval = started(&home);
    let log = home.path("var/log/access.log");
    let load = Steady::of(&serval);
    load.goes_on();
    wait_until("lines", || log.exists());
    disk.fill()?;
    let line = serval.wait_for_log("access log ", LONG)?;
    ensure!(line.contains("lines could not be written") && line.contains(NO_SPACE), "{line}");
    load.goes_on();
    disk.empty()?;
    let before = fs::metadata(&log)?.len();
    wait_until("lines again", || fs::metadata(&log).is_ok_and(|log| log.len() > before + 1000));
    load.was_well();
    let lines = serval.stop_and_read()?;
    ensure!(lines.iter().any(|line| line.contains("lines were lost")), "{lines:#?}");
    let torn = fs::read_to_string(&log)?.lines().filter(|line| !is_whole(line)).count();
    ensure!(torn <= 1, "{torn} lines are not whole");
    Ok(())
}

fn is_whole(line: &str) -> bool {
    line.starts_with("127.0.0.1 ") && line.contains("\"GET /") && line.contains(" HTTP/1.1\" 200 ")
}

/// A client is told that there is no room (507), and what was there stays.
fn uploads() -> Result<()> {
    let home = home(SETTINGS);
    let (disk, webapps) = (Small::mount(home.path("var"))?, Small::mount(home.path("webapps"))?);
    // What was there is below it now.
    home.write("webapps/files/page.txt", "a page")?;
    home.write("webapps/files/WEB-INF/web.toml", "[files]\nwritable = true\n")?;
    home.write("webapps/x/WEB-INF/web.toml", "[multipart]\nmemory_bytes_max = \"1KiB\"\n")?;
    put(&home, 1);
    let serval = started(&home);
    let load = Steady::of(&serval);
    let large = vec![b'x'; 1 << 20];
    let sent = send(&serval, "PUT /files/put.txt", "text/plain", b"before")?;
    ensure!(sent.status == 201, "PUT: {}", sent.status);
    let mut parts = b"--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n".to_vec();
    parts.extend_from_slice(&large);
    parts.extend_from_slice(b"\r\n--B--\r\n");
    let multipart = "multipart/form-data; boundary=B";
    let upload = |status: u16| {
        let sent = send(&serval, "POST /x/step?parts", multipart, &parts)?;
        ensure!(sent.status == status, "multipart: {} {}", sent.status, String::from_utf8_lossy(&sent.body));
        wait_until("no part is left", || !has_part(&home.path("var/run")));
        Ok(())
    };
    upload(200)?;
    disk.fill()?;
    webapps.fill()?;
    let before = names(home.path("webapps/files"));
    let sent = send(&serval, "PUT /files/put.txt", "text/plain", &large)?;
    ensure!(sent.status == 507, "PUT: {}", sent.status);
    ensure!(get(&serval, "/files/put.txt").body == b"before", "what was there stays");
    ensure!(names(home.path("webapps/files")) == before, "{:?}", names(home.path("webapps/files")));
    upload(507)?;
    disk.empty()?;
    webapps.empty()?;
    upload(200)?;
    let sent = send(&serval, "PUT /files/put.txt", "text/plain", b"after")?;
    ensure!(sent.status == 204 && get(&serval, "/files/put.txt").body == b"after", "PUT: {}", sent.status);
    ends_well(&home, &serval, 1);
    load.was_well();
    ensure!(serval.stop()?.success(), "it did not stop well");
    Ok(())
}

fn send(serval: &Serval, line: &str, content_type: &str, body: &[u8]) -> Result<Response> {
    let mut connection = Connection::open(serval.address(), LONG)?;
    let len = body.len();
    let head = format!("{line} HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\nContent-Length: {len}\r\n\r\n");
    connection.send(head.as_bytes())?;
    connection.send(body)?;
    Ok(connection.read_response()?)
}

/// Whether a part of an upload lies in a folder, or below.
fn has_part(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| match path.is_dir() {
        true => has_part(&path),
        false => path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("part-")),
    })
}
