//! Snapshots that are not whole, and folders that cannot be written: the server starts and serves, and says what is wrong.

use std::path::Path;

use e2e::serval::{Home, Serval};

use crate::sessions::status;
use crate::{LONG, begin, get, home, snapshot, wait_until};

/// Sets the checksum to what is right.
pub fn sum(bytes: &mut [u8]) {
    let end = bytes.len() - 4;
    let mut crc = flate2::Crc::new();
    crc.update(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.sum().to_le_bytes());
}

/// A home with one session, of a server that was stopped; with its cookie.
fn stopped() -> (Home, String) {
    let home = home(&["x"], "snapshot_every = \"50ms\"");
    let serval = Serval::start(&home).unwrap();
    let cookie = begin(&serval, "/x/kept");
    assert!(serval.stop().unwrap().success());
    (home, cookie)
}

fn with(mut bytes: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut bytes);
    bytes
}

#[test]
fn a_damaged_one_is_set_aside() {
    let (home, cookie) = stopped();
    let file = snapshot(&home, "x");
    let whole = std::fs::read(&file).unwrap();
    let length = whole.len();
    // The length of the first id.
    let huge = with(whole.clone(), |bytes| {
        bytes[20..24].fill(0xff);
        sum(bytes);
    });
    let kinds = [
        ("it ends too early", Vec::new()),
        ("it ends too early", whole[..11].to_vec()),
        ("it ends too early", whole[..length / 2].to_vec()),
        ("it ends too early", whole[..length - 1].to_vec()),
        ("its checksum is wrong", with(whole.clone(), |bytes| bytes[30] ^= 1)),
        ("something in it is too long", huge),
        ("it is of version 7 of the format", with(whole.clone(), |bytes| bytes[8] = 7)),
        ("it does not begin as a snapshot of sessions", (0..length).map(|at| (at * 89 % 251) as u8).collect()),
    ];
    for (number, (why, bytes)) in kinds.iter().enumerate() {
        std::fs::write(&file, bytes).unwrap();
        let serval = Serval::start(&home).unwrap();
        assert_eq!(get(&serval, "/x/kept?look", &cookie), "none", "{why}");
        let line = serval.wait_for_log(why, LONG).unwrap();
        let aside = file.with_file_name("snapshot.damaged.1");
        assert!(line.contains("ERROR") && line.contains(file.to_str().unwrap()), "{line}");
        assert!(line.contains(aside.to_str().unwrap()) && line.contains("remove it"), "{line}");
        assert_eq!(&std::fs::read(&aside).unwrap(), bytes, "{why}");
        // Sessions are kept as ever.
        let new = begin(&serval, "/x/kept");
        wait_until(|| file.exists());
        assert!(get(&serval, "/x/kept", &new).starts_with("2 old"));
        assert!(serval.stop().unwrap().success());
        assert_eq!(names(file.parent().unwrap()).len(), 1 + (number + 1).min(3), "those set aside are few");
    }
    // One that was brought back is taken.
    std::fs::write(&file, &whole).unwrap();
    let serval = Serval::start(&home).unwrap();
    assert!(get(&serval, "/x/kept", &cookie).starts_with("2 old"));
    assert!(serval.stop().unwrap().success());
}

fn names(folder: &Path) -> Vec<std::ffi::OsString> {
    folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

#[test]
fn what_cannot_be_read_is_set_aside() {
    let (home, cookie) = stopped();
    let file = snapshot(&home, "x");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    std::fs::write(file.join("in the way"), "").unwrap();
    let serval = Serval::start(&home).unwrap();
    assert_eq!(get(&serval, "/x/kept?look", &cookie), "none");
    serval.wait_for_log("it is not a file; it is set aside as", LONG).unwrap();
    let new = begin(&serval, "/x/kept");
    wait_until(|| file.is_file());
    assert!(serval.stop().unwrap().success());
    // And what cannot be set aside, since there is no folder.
    std::fs::remove_dir_all(home.path("var/sessions")).unwrap();
    home.write("var/sessions", "in the way").unwrap();
    let serval = Serval::start(&home).unwrap();
    assert_eq!(get(&serval, "/x/kept?look", &new), "none");
    serval.wait_for_log("it cannot be set aside", LONG).unwrap();
    begin(&serval, "/x/kept");
    serval.wait_for_log("cannot be saved", LONG).unwrap();
    // Not all of them were saved.
    assert_eq!(serval.stop().unwrap().code(), Some(3));
}

#[test]
fn a_folder_that_cannot_be_written_keeps_what_it_has() {
    let (home, cookie) = stopped();
    let file = snapshot(&home, "x");
    let good = std::fs::read(&file).unwrap();
    let serval = Serval::start(&home).unwrap();
    // Where the next one is to be written; a folder without permissions is none for root.
    let next = file.with_file_name("snapshot.new");
    wait_until(|| std::fs::create_dir(&next).is_ok());
    std::fs::write(next.join("in the way"), "").unwrap();
    assert!(get(&serval, "/x/kept", &cookie).starts_with("2 old"));
    let line = serval.wait_for_log("cannot be saved", LONG).unwrap();
    assert!(line.contains("ERROR") && line.contains(file.parent().unwrap().to_str().unwrap()), "{line}");
    let (code, told) = status(&home);
    assert!(code == Some(3) && told.contains("cannot be saved"), "{code:?} {told}");
    assert_eq!(std::fs::read(&file).unwrap(), good);
    // Killed: as of the last good one.
    drop(serval);
    let serval = Serval::start(&home).unwrap();
    assert!(get(&serval, "/x/kept", &cookie).starts_with("2 old"));
    serval.wait_for_log("cannot be saved", LONG).unwrap();
    std::fs::remove_dir_all(&next).unwrap();
    serval.wait_for_log("its sessions are saved again", LONG).unwrap();
    assert_eq!(status(&home).0, Some(0));
    let lines = serval.stop_and_read().unwrap();
    assert_eq!(lines.iter().filter(|line| line.contains("cannot be saved")).count(), 1, "it is said once");
    let serval = Serval::start(&home).unwrap();
    assert!(get(&serval, "/x/kept", &cookie).starts_with("3 old"));
    assert!(serval.stop().unwrap().success());
}
