//! PUT and DELETE: files of a folder are made, replaced, changed in part, and removed (RFC 9110 9.3.4, 9.3.5).
//!
//! Called by the container, on threads that may block, for a folder whose operator has made it writable. What a client sends goes to a
//! hidden file beside the one that it is for, and takes its name when it is whole: a reader gets the old file or the new one, and an
//! upload that is cut changes nothing. It is not forced to the disk; a crash of the machine may lose it, and one of the process
//! leaves the hidden file behind (`.serval-put-...`), which is never served.
//!
//! Nothing is written through a link that leads out of the folder, whatever [`Options`](crate::Options) allow for reading.

use std::fs::File as Opened;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::PoisonError;

use http::header::{CONTENT_RANGE, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};
use http::{HeaderMap, Method, StatusCode};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use crate::conditions;
use crate::file::{File, Stamp};
use crate::folder::{Folder, Found, visible};
use crate::random;
use crate::range::Part;
use crate::strong::Patience;

/// Why nothing was changed.
#[derive(Debug)]
pub enum Refused {
    /// What the client is to be told.
    With(StatusCode),
    /// A fault of the machine, not of the request: 500.
    Failed(io::Error),
}

/// A PUT that is under way. Dropped before [`Upload::finish`] it leaves everything as it was.
#[derive(Debug)]
pub struct Upload<'f> {
    folder: &'f Folder,
    path: &'f str,
    place: Place<'f>,
    /// The name of the hidden file; none when it has its real one.
    temporary: Option<String>,
    opened: Opened,
    /// What was there when it began.
    before: Option<Stamp>,
    /// The part that is changed; none: all of the file.
    part: Option<Part>,
    /// Bytes that have come.
    len: u64,
}

/// A name in an opened directory.
#[derive(Debug)]
struct Place<'f> {
    directory: Opened,
    name: &'f str,
}

impl Folder {
    /// Begins a PUT. With Content-Range a part of the file is changed, which then has the length that the header says.
    ///
    /// `len_max` bounds that length, unless the file is longer already; what is sent is the caller's to bound.
    ///
    /// # Errors
    ///
    /// 400: a Content-Range that is malformed, or not allowed. 403: a file that this process may not read. 404: a hidden name. 409:
    /// a directory, or no directory to put it in. 412: a condition fails. 413: longer than `len_max`.
    pub fn upload<'f>(&'f self, path: &'f str, headers: &HeaderMap, len_max: u64) -> Result<Upload<'f>, Refused> {
        let part = self.part(headers)?;
        let place = self.place(path)?;
        let before = self.there(path, &place)?;
        self.check(before.as_ref(), &Method::PUT, headers)?;
        let (temporary, opened) = place.temporary()?;
        let mut upload = Upload {
            folder: self,
            path,
            place,
            temporary: Some(temporary),
            opened,
            before: before.as_ref().map(File::stamp),
            part: part.map(|(part, _)| part),
            len: 0,
        };
        if let Some((part, len)) = part {
            if len > len_max.max(before.as_ref().map_or(0, File::len)) {
                return Err(Refused::With(StatusCode::PAYLOAD_TOO_LARGE));
            }
            upload.start_from(before.as_ref(), len)?;
            upload.opened.seek(SeekFrom::Start(part.first)).map_err(failed)?;
        }
        Ok(upload)
    }

    /// Removes a file, or a directory that is empty. Returns 204.
    ///
    /// # Errors
    ///
    /// 403: a file that this process may not read. 404: nothing is there. 405: what cannot be removed, as a directory that is
    /// not empty. 412, 400: a condition fails or is malformed.
    pub fn delete(&self, path: &str, headers: &HeaderMap) -> Result<StatusCode, Refused> {
        const NOT_ALLOWED: Refused = Refused::With(StatusCode::METHOD_NOT_ALLOWED);
        let _alone = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = match self.lookup(path) {
            Found::File(file) => {
                self.check(Some(&file), &Method::DELETE, headers)?;
                AtFlags::empty()
            }
            Found::Directory => AtFlags::REMOVEDIR,
            Found::Missing => {
                self.check(None, &Method::DELETE, headers)?;
                return Err(Refused::With(StatusCode::NOT_FOUND));
            }
            Found::Forbidden => return Err(Refused::With(StatusCode::FORBIDDEN)),
            Found::Failed(error) => return Err(Refused::Failed(error)),
        };
        let Ok(place) = self.place(path.strip_suffix('/').unwrap_or(path)) else { return Err(NOT_ALLOWED) };
        match unlinkat(&place.directory, place.name, kind) {
            Ok(()) => Ok(StatusCode::NO_CONTENT),
            Err(Errno::NOENT) => Err(Refused::With(StatusCode::NOT_FOUND)),
            Err(_) => Err(NOT_ALLOWED),
        }
    }

    /// The status that a PUT of a whole file, or a DELETE, would have as things are; nothing is changed.
    pub fn foresee(&self, method: &Method, path: &str) -> StatusCode {
        let put = || Ok(self.there(path, &self.place(path)?)?.map_or(StatusCode::CREATED, |_| StatusCode::NO_CONTENT));
        let foreseen = match (*method == Method::DELETE).then(|| self.lookup(path)) {
            None => put(),
            Some(Found::File(_)) => Ok(StatusCode::NO_CONTENT),
            Some(Found::Directory) => Ok(match self.is_empty(path) {
                true => StatusCode::NO_CONTENT,
                false => StatusCode::METHOD_NOT_ALLOWED,
            }),
            Some(Found::Missing) => Ok(StatusCode::NOT_FOUND),
            Some(Found::Forbidden) => Ok(StatusCode::FORBIDDEN),
            Some(Found::Failed(error)) => Err(Refused::Failed(error)),
        };
        match foreseen {
            Ok(status) | Err(Refused::With(status)) => status,
            Err(Refused::Failed(_)) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Says whether a directory that may be removed has nothing in it.
    fn is_empty(&self, path: &str) -> bool {
        let Ok(place) = self.place(path.strip_suffix('/').unwrap_or(path)) else { return false };
        let opened = openat(&place.directory, place.name, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let Ok(mut entries) = opened.and_then(Dir::new) else { return false };
        entries.all(|entry| entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b"..")))
    }

    /// The part that Content-Range names, and the length of the whole.
    fn part(&self, headers: &HeaderMap) -> Result<Option<(Part, u64)>, Refused> {
        const BAD: Refused = Refused::With(StatusCode::BAD_REQUEST);
        let mut lines = headers.get_all(CONTENT_RANGE).iter();
        match (lines.next(), lines.next()) {
            (None, _) => Ok(None),
            (Some(line), None) if self.options().partial_put => content_range(line.as_bytes()).map(Some).ok_or(BAD),
            _ => Err(BAD),
        }
    }

    /// The directory of a path, and the name in it.
    fn place<'f>(&self, path: &'f str) -> Result<Place<'f>, Refused> {
        let relative = visible(path).ok_or(Refused::With(StatusCode::NOT_FOUND))?;
        if path.ends_with('/') {
            return Err(Refused::With(StatusCode::CONFLICT));
        }
        let (directory, name) = relative.rsplit_once('/').unwrap_or((".", relative));
        let directory = self.root().open_inside(directory, OFlags::PATH | OFlags::DIRECTORY).map_err(refused_by)?;
        Ok(Place { directory, name })
    }

    /// The file that is at a path, if nothing else is.
    fn there(&self, path: &str, place: &Place<'_>) -> Result<Option<File>, Refused> {
        const CONFLICT: Refused = Refused::With(StatusCode::CONFLICT);
        match self.lookup(path) {
            Found::File(file) => Ok(Some(file)),
            Found::Directory => Err(CONFLICT),
            Found::Missing => match statat(&place.directory, place.name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => Ok(None),
                // A link that leads nowhere or outside, a device: nobody means to replace those by an upload.
                Ok(_) => Err(CONFLICT),
                Err(errno) => Err(refused_by(errno)),
            },
            Found::Forbidden => Err(Refused::With(StatusCode::FORBIDDEN)),
            Found::Failed(error) => Err(Refused::Failed(error)),
        }
    }

    fn check(&self, file: Option<&File>, method: &Method, headers: &HeaderMap) -> Result<(), Refused> {
        if !is_conditional(headers) {
            return Ok(());
        }
        let status = match file {
            None => conditions::evaluate_missing(headers),
            Some(file) => match self.validators(file, file, Patience::Long).map_err(Refused::Failed)? {
                Some(validators) => conditions::evaluate(&validators, method, headers),
                None => None,
            },
        };
        status.map_or(Ok(()), |status| Err(Refused::With(status)))
    }
}

fn is_conditional(headers: &HeaderMap) -> bool {
    [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE].iter().any(|name| headers.contains_key(name))
}

impl Upload<'_> {
    /// Begins with the content of a file, cut or filled with zeros to this length.
    fn start_from(&self, file: Option<&File>, len: u64) -> Result<(), Refused> {
        if let Some(file) = file {
            let mut offset = 0;
            while offset < len.min(file.len()) {
                let piece = file.read_at(offset, 64 * 1024).map_err(Refused::Failed)?;
                if piece.is_empty() {
                    break;
                }
                self.opened.write_all_at(&piece, offset).map_err(failed)?;
                offset += piece.len() as u64;
            }
            if file.changed().map_err(Refused::Failed)? {
                return Err(Refused::With(StatusCode::CONFLICT));
            }
        }
        self.opened.set_len(len).map_err(failed)
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// 400: more than the part is long. 507: the disk is full.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.len += bytes.len() as u64;
        if self.part.is_some_and(|part| self.len > part.len()) {
            return Err(Refused::With(StatusCode::BAD_REQUEST));
        }
        self.opened.write_all(bytes).map_err(failed)
    }

    /// Puts the file in its place; all of it has come. Returns 201 when there was none, or else 204.
    ///
    /// # Errors
    ///
    /// 400: less than the part is long. 409: there is a directory now, or the file of which a part is changed has changed meanwhile. 412:
    /// so has the file that a condition is of.
    pub fn finish(mut self, headers: &HeaderMap) -> Result<StatusCode, Refused> {
        if self.part.is_some_and(|part| self.len != part.len()) {
            return Err(Refused::With(StatusCode::BAD_REQUEST));
        }
        // Of two that are under way one is first, and the other's conditions are of what that one has left.
        let _alone = self.folder.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.folder.there(self.path, &self.place)?;
        if now.as_ref().map(File::stamp) != self.before {
            if self.part.is_some() {
                return Err(Refused::With(StatusCode::CONFLICT));
            }
            self.folder.check(now.as_ref(), &Method::PUT, headers)?;
        }
        if let Some(temporary) = &self.temporary {
            let Place { directory, name } = &self.place;
            renameat(directory, temporary, directory, *name).map_err(refused_by)?;
            self.temporary = None;
        }
        Ok(if now.is_some() { StatusCode::NO_CONTENT } else { StatusCode::CREATED })
    }
}

impl Place<'_> {
    /// Makes the hidden file.
    fn temporary(&self) -> Result<(String, Opened), Refused> {
        let name = format!(".serval-put-{}", random::hex());
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // As any program makes files; the umask takes from it.
        let mode = Mode::from_raw_mode(0o666);
        let opened = openat(&self.directory, &name, flags, mode).map_err(refused_by)?;
        Ok((name, Opened::from(opened)))
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // It may be gone with its directory; there is nobody to tell.
            let _ = unlinkat(&self.place.directory, temporary, AtFlags::empty());
        }
    }
}

/// Reads `bytes first-last/length` (RFC 9110 14.4), with white space where Tomcat takes it too.
fn content_range(value: &[u8]) -> Option<(Part, u64)> {
    let text = str::from_utf8(value).ok()?.trim_ascii();
    let (unit, rest) = text.split_once([' ', '\t'])?;
    let (range, len) = rest.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| {
        let digits = text.trim_ascii();
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u64>().ok()).flatten()
    };
    let (part, len) = (Part { first: number(first)?, last: number(last)? }, number(len)?);
    (unit.eq_ignore_ascii_case("bytes") && part.first <= part.last && part.last < len).then_some((part, len))
}

fn failed(error: io::Error) -> Refused {
    match Errno::from_io_error(&error) {
        Some(errno) => refused_by(errno),
        None => Refused::Failed(error),
    }
}

/// Returns the answer that an error of the system stands for.
fn refused_by(errno: Errno) -> Refused {
    match errno {
        Errno::NOSPC | Errno::DQUOT => Refused::With(StatusCode::INSUFFICIENT_STORAGE),
        Errno::FBIG => Refused::With(StatusCode::PAYLOAD_TOO_LARGE),
        // As Tomcat, which has one answer for all: it cannot be written there.
        Errno::NOENT
        | Errno::NOTDIR
        | Errno::ISDIR
        | Errno::EXIST
        | Errno::NOTEMPTY
        | Errno::LOOP
        | Errno::XDEV
        | Errno::NAMETOOLONG
        | Errno::ILSEQ
        | Errno::ACCESS
        | Errno::PERM
        | Errno::ROFS => Refused::With(StatusCode::CONFLICT),
        other => Refused::Failed(other.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use http::HeaderValue;
    use std::fs;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    const TEXT: &str = "Starting text";

    /// The vectors' files of the area put, and links.
    fn tree(options: Options) -> (TempDir, Folder) {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        for directory in ["root/dir", "root/empty", "root/WEB-INF", "outside"] {
            fs::create_dir_all(temp.path().join(directory)).unwrap();
        }
        for (name, content) in [("a.txt", TEXT), ("dir/x", "x"), ("WEB-INF/web.toml", "web"), (".hidden", "hidden")] {
            fs::write(root.join(name), content).unwrap();
        }
        fs::write(temp.path().join("outside/secret"), "outside").unwrap();
        symlink("../outside", root.join("out")).unwrap();
        symlink("../outside/secret", root.join("secret")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        symlink("a.txt", root.join("link")).unwrap();
        symlink("dir", root.join("dirlink")).unwrap();
        symlink("WEB-INF", root.join("private")).unwrap();
        let folder = Folder::open(&root, Options { writable: true, ..options }).unwrap();
        (temp, folder)
    }

    fn headers(lines: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines.lines() {
            let (name, value) = line.split_once(": ").unwrap();
            headers.append(name.parse::<http::HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap());
        }
        headers
    }

    fn put(folder: &Folder, path: &str, lines: &str, body: &str) -> Result<StatusCode, Refused> {
        let headers = headers(lines);
        let mut upload = folder.upload(path, &headers, 1000)?;
        for piece in body.as_bytes().chunks(3) {
            upload.write(piece)?;
        }
        upload.finish(&headers)
    }

    fn status(answer: Result<StatusCode, Refused>) -> u16 {
        match answer {
            Ok(status) | Err(Refused::With(status)) => status.as_u16(),
            Err(Refused::Failed(error)) => panic!("{error}"),
        }
    }

    /// All names and contents below a folder, in order.
    fn all(folder: &std::path::Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match fs::symlink_metadata(&path).unwrap() {
                metadata if metadata.is_dir() => found.extend(all(&path)),
                metadata if metadata.is_file() => {
                    found.push(format!("{} {}", path.display(), fs::read_to_string(&path).unwrap()));
                }
                _ => found.push(format!("{} -> {}", path.display(), fs::read_link(&path).unwrap().display())),
            }
        }
        found.sort();
        found
    }

    #[track_caller]
    fn check_with(options: Options, path: &str, lines: &str, body: &str, expected: u16, after: Option<&str>) {
        let (temp, folder) = tree(options);
        let before = all(temp.path());
        assert_eq!(status(put(&folder, path, lines, body)), expected, "{path} {lines}");
        match after {
            Some(content) => {
                assert_eq!(fs::read_to_string(temp.path().join("root").join(&path[1..])).unwrap(), content)
            }
            None => assert_eq!(all(temp.path()), before, "{path} {lines}"),
        }
        let hidden = |name: &String| name.contains(".serval-put");
        assert!(!all(temp.path()).iter().any(hidden), "{path} {lines}");
    }

    /// `after` is the file's content; none: nothing has changed anywhere.
    #[track_caller]
    fn check(path: &str, lines: &str, body: &str, expected: u16, after: Option<&str>) {
        check_with(Options::default(), path, lines, body, expected, after);
    }

    #[test]
    fn files_are_made_and_replaced() {
        check("/a.txt", "", "new", 204, Some("new"));
        check("/a.txt", "", "", 204, Some(""));
        check("/new.txt", "", "new content", 201, Some("new content"));
        check("/dir/new", "", "n", 201, Some("n"));
        check("/dirlink/x", "", "n", 204, Some("n"));
        check("/two words", "", "n", 201, Some("n"));
    }

    #[test]
    fn what_cannot_be_a_file() {
        check("/dir", "", "n", 409, None);
        check("/dir/", "", "n", 409, None);
        check("/", "", "n", 409, None);
        check("/new/", "", "n", 409, None);
        check("/none/x", "", "n", 409, None);
        check("/a.txt/x", "", "n", 409, None);
        check(&format!("/{}", "x".repeat(300)), "", "n", 409, None);
    }

    #[test]
    fn nothing_is_written_outside_or_hidden() {
        for symlinks_outside in [false, true] {
            let options = || Options { symlinks_outside, ..Options::default() };
            check_with(options(), "/out/new", "", "n", 409, None);
            check_with(options(), "/out/secret", "", "n", 409, None);
            check_with(options(), "/private/web.toml", "", "n", 409, None);
            check_with(options(), "/private/new", "", "n", 409, None);
        }
        check("/secret", "", "n", 409, None);
        check("/dangling", "", "n", 409, None);
        check("/.hidden", "", "n", 404, None);
        check("/.new", "", "n", 404, None);
        check("/.git/config", "", "n", 404, None);
        check("/../outside/secret", "", "n", 404, None);
        check("/a\0b", "", "n", 404, None);
    }

    #[test]
    fn a_link_is_replaced_and_not_what_it_leads_to() {
        let (temp, folder) = tree(Options::default());
        assert_eq!(status(put(&folder, "/link", "", "new")), 204);
        assert_eq!(fs::read_to_string(temp.path().join("root/a.txt")).unwrap(), TEXT);
        let (temp, folder) = tree(Options { symlinks_outside: true, ..Options::default() });
        assert_eq!(status(put(&folder, "/secret", "", "new")), 204);
        assert_eq!(fs::read_to_string(temp.path().join("outside/secret")).unwrap(), "outside");
        assert_eq!(status(folder.delete("/dirlink", &HeaderMap::new())), 405);
    }

    #[test]
    fn a_part_of_a_file() {
        for range in ["bytes 0-7/13", "ByTeS 0-7/13", "bytes  0-7/13", "bytes 0 - 7 / 13 "] {
            check("/a.txt", &format!("Content-Range: {range}"), "Ending *", 204, Some("Ending * text"));
        }
        check("/a.txt", "Content-Range: bytes 9-12/13", "test", 204, Some("Starting test"));
        check("/a.txt", "Content-Range: bytes 0-2/5", "abc", 204, Some("abcrt"));
        check("/a.txt", "Content-Range: bytes 13-14/15", "++", 204, Some("Starting text++"));
        check("/new", "Content-Range: bytes 1-2/4", "ab", 201, Some("\0ab\0"));
    }

    #[test]
    fn parts_that_are_none() {
        for range in [
            "apples 0-7/13",
            "bytes00-7/13",
            "bytes0-7/13",
            "bytes=0-7/13",
            "bytes@0-7/13",
            "bytes 9-7/13",
            "bytes -7/13",
            "bytes 9-/13",
            "bytes 9-X/13",
            "bytes 0-5/",
            "bytes 0-5/0x5",
            "bytes 0-8/8",
            "bytes 0-7/*",
            "bytes */13",
            "bytes 0-7",
            "bytes +0-7/13",
            "bytes 0-7/99999999999999999999",
            "bytes",
            "",
            // Of another length than the body.
            "bytes 0-1/8",
            "bytes 0-8/20",
            "bytes 0-6/20",
        ] {
            check("/a.txt", &format!("Content-Range: {range}"), "Ending *", 400, None);
        }
        check("/a.txt", "Content-Range: bytes 0-7/13\nContent-Range: bytes 0-7/13", "Ending *", 400, None);
        let without = Options { partial_put: false, ..Options::default() };
        check_with(without, "/a.txt", "Content-Range: bytes 0-7/13", "Ending *", 400, None);
        check("/a.txt", "Content-Range: bytes 0-7/1001", "Ending *", 413, None);
        check("/a.txt", "Content-Range: bytes 0-7/9223372036854775807", "Ending *", 413, None);
    }

    #[test]
    fn conditions_hold() {
        check("/a.txt", "If-None-Match: *", "n", 412, None);
        check("/new", "If-None-Match: *", "n", 201, Some("n"));
        check("/new", "If-Match: *", "n", 412, None);
        check("/a.txt", "If-Match: *", "n", 204, Some("n"));
        check("/a.txt", "If-Match: \"x\"", "n", 412, None);
        check("/a.txt", "If-Match: x", "n", 400, None);
        check("/a.txt", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT", "n", 412, None);
        check("/a.txt", "If-Modified-Since: Sun, 06 Nov 2094 08:49:36 GMT", "n", 204, Some("n"));
        const OTHER: &str = "\"00\"";
        let strong = || Options { strong_etags: true, ..Options::default() };
        check_with(strong(), "/a.txt", &format!("If-Match: {OTHER}"), "n", 412, None);
        let (_temp, folder) = tree(strong());
        let tag = tag_of(&folder, "/a.txt");
        assert_eq!(status(put(&folder, "/a.txt", &format!("If-Match: {tag}"), "n")), 204);
        assert_eq!(status(put(&folder, "/a.txt", &format!("If-Match: {tag}"), "m")), 412);
    }

    fn tag_of(folder: &Folder, path: &str) -> String {
        let Found::File(file) = folder.lookup(path) else { panic!("{path}") };
        let response = crate::respond(folder, path, file, &Method::HEAD, &HeaderMap::new());
        response.headers()["etag"].to_str().unwrap().to_owned()
    }

    #[test]
    fn an_upload_that_is_cut_changes_nothing() {
        let (temp, folder) = tree(Options::default());
        let before = all(temp.path());
        for lines in ["", "Content-Range: bytes 0-7/13"] {
            let headers = headers(lines);
            let mut upload = folder.upload("/a.txt", &headers, 1000).unwrap();
            upload.write(b"End").unwrap();
            assert_ne!(all(temp.path()), before);
            drop(upload);
            assert_eq!(all(temp.path()), before);
        }
    }

    #[test]
    fn the_second_of_two_uploads_meets_what_the_first_has_left() {
        let (temp, folder) = tree(Options::default());
        let finish = |lines: &str, first: &str| {
            let headers = headers(lines);
            let mut upload = folder.upload("/new", &headers, 1000).unwrap();
            upload.write(b"ab").unwrap();
            assert!(status(put(&folder, "/new", "", first)) < 300);
            status(upload.finish(&headers))
        };
        assert_eq!(finish("If-None-Match: *", "first"), 412);
        assert_eq!(finish("Content-Range: bytes 0-1/5", "other"), 409);
        assert_eq!(fs::read_to_string(temp.path().join("root/new")).unwrap(), "other");
        assert_eq!(finish("", "again"), 204);
        assert_eq!(fs::read_to_string(temp.path().join("root/new")).unwrap(), "ab");
        let upload = folder.upload("/dir/late", &HeaderMap::new(), 1000).unwrap();
        fs::create_dir(temp.path().join("root/dir/late")).unwrap();
        assert_eq!(status(upload.finish(&HeaderMap::new())), 409);
    }

    #[test]
    fn removal() {
        let (temp, folder) = tree(Options::default());
        let delete = |path: &str, lines: &str| status(folder.delete(path, &headers(lines)));
        let before = all(temp.path());
        for (path, lines, expected) in [
            ("/none", "", 404),
            ("/a.txt/", "", 404),
            ("/.hidden", "", 404),
            ("/out/secret", "", 404),
            ("/secret", "", 404),
            ("/dangling", "", 404),
            ("/private/web.toml", "", 404),
            ("/dir", "", 405),
            ("/dir/", "", 405),
            ("/", "", 405),
            ("/dirlink/", "", 405),
            ("/a.txt", "If-Match: \"x\"", 412),
            ("/a.txt", "If-None-Match: *", 412),
            ("/none", "If-Match: *", 412),
            ("/a.txt", "If-Match: x", 400),
        ] {
            assert_eq!(delete(path, lines), expected, "{path} {lines}");
        }
        assert_eq!(all(temp.path()), before);
        assert_eq!(delete("/link", ""), 204);
        assert_eq!(delete("/a.txt", "If-Match: *"), 204);
        assert_eq!(delete("/a.txt", ""), 404);
        assert_eq!(delete("/dirlink/x", ""), 204);
        assert_eq!(delete("/empty/", ""), 204);
        assert!(!temp.path().join("root/empty").exists());
    }

    #[test]
    fn errors_of_the_system() {
        for (errno, expected) in [(Errno::NOSPC, 507), (Errno::FBIG, 413), (Errno::ROFS, 409), (Errno::ACCESS, 409)] {
            assert_eq!(status(Err(refused_by(errno))), expected);
        }
        assert!(matches!(refused_by(Errno::IO), Refused::Failed(_)));
    }
}
