//! The parts of a multipart/form-data body: uploads.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fmt, process};

use serval_abi::{sv_part, sv_str};

use crate::host::{self, waiting};
use crate::{Error, Request, Result, error};

impl Request {
    /// Reads a multipart/form-data body whole and returns its parts, in the order in which they were sent.
    ///
    /// The servlet is declared with [`multipart`](macro@crate::servlet). The server holds small parts in memory and writes
    /// large ones into files, which it removes when the exchange ends; web.toml says which are large, and its limits. Errors
    /// are answered with 415 (a body of another type), 400 (a malformed one), 413 (one over a limit) and, when the servlet is
    /// not declared for it, 500.
    ///
    /// ```
    /// use servlet::prelude::*;
    ///
    /// #[servlet("/photos", methods = [POST], multipart)]
    /// fn upload(request: &Request, response: &mut Response) -> Result {
    ///     let folder = request.context().work_folder().ok_or_else(|| error(500, "no work folder"))?;
    ///     let mut saved = 0;
    ///     for part in request.parts()?.filter(|part| part.name() == "photo") {
    ///         // The client chose the name: never use it as it is.
    ///         let Some(name) = part.safe_file_name() else { continue };
    ///         part.save_to(folder.join(name))?;
    ///         saved += 1;
    ///     }
    ///     response.text(format!("{saved} saved"))
    /// }
    ///
    /// servlet::module!();
    /// # fn main() {
    /// let app = servlet::test::App::new();
    /// let photo = app.post("/photos").part("album", "2026").file("photo", "../../cat.png", "image/png", b"\x89PNG");
    /// photo.send().assert_text("1 saved");
    /// assert_eq!(std::fs::read(app.work_folder().join("cat.png")).unwrap(), b"\x89PNG");
    /// # }
    /// ```
    pub fn parts(&self) -> Result<Parts<'_>> {
        let count = self.exchange().part_count().map_err(wrong_parts)?;
        match count {
            Some(count) => Ok(Parts { request: self, next: 0, count }),
            None => Err(error(
                415,
                format!("the body is {}; multipart/form-data is expected", self.content_type().unwrap_or("of no type")),
            )),
        }
    }

    /// In an async servlet: waits until the whole body has come, so that [`parts`](Request::parts) can answer at once. Without
    /// it that is an error of the kind `servlet/would-block` as long as the body is still on its way.
    ///
    /// ```
    /// use servlet::prelude::*;
    ///
    /// #[servlet("/photos", methods = [POST], multipart)]
    /// async fn upload(request: &Request, response: &mut Response) -> Result {
    ///     request.parts_read().await?;
    ///     response.text(request.parts()?.count().to_string())
    /// }
    ///
    /// servlet::module!();
    /// # fn main() {
    /// servlet::test::App::new().post("/photos").part("a", "1").part("b", "2").send().assert_text("2");
    /// # }
    /// ```
    pub async fn parts_read(&self) -> Result {
        waiting(|| self.exchange().part_count()).await.map(drop).map_err(wrong_parts)
    }

    /// Returns the first part of that name. Errors are those of [`parts`](Request::parts).
    pub fn part(&self, name: &str) -> Result<Option<Part<'_>>> {
        Ok(self.parts()?.find(|part| part.name() == name))
    }
}

fn wrong_parts(wrong: Error) -> Error {
    const DECLARE: &str =
        "to read parts, declare the servlet with `multipart`: #[servlet(\"/upload\", methods = [POST], multipart)]";
    match wrong.kind() {
        "servlet/state" => error(500, format!("{}; {DECLARE}", wrong.text())).with_kind("servlet/state"),
        _ => wrong.of_client(),
    }
}

/// The parts of a body; see [`Request::parts`].
pub struct Parts<'a> {
    request: &'a Request,
    next: usize,
    count: usize,
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        while self.next < self.count {
            self.next += 1;
            // The body has been read, so that only a fault of the server is left; the part is passed over then.
            let Ok(part) = self.request.exchange().part(self.next - 1) else { continue };
            // SAFETY: NULL, or a part that lives until `service` returns (servlet.h 4), as the request lent for 'a does.
            if let Some(part) = unsafe { part.as_ref() } {
                return Some(Part { part });
            }
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.count - self.next))
    }
}

impl fmt::Debug for Parts<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Parts({} of {} left)", self.count - self.next, self.count)
    }
}

/// One part of a multipart/form-data body: a file, or the value of a form's field.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    part: &'a sv_part,
}

// SAFETY: plain memory of the server, which any thread may read while it lives (servlet.h 4).
unsafe impl Send for Part<'_> {}
// SAFETY: as above.
unsafe impl Sync for Part<'_> {}

impl<'a> Part<'a> {
    fn view(&self, view: sv_str) -> Option<&'a str> {
        // SAFETY: views of a part live as long as it does.
        unsafe { host::text(view) }
    }

    /// Returns the name of the form's field.
    pub fn name(&self) -> &'a str {
        self.view(self.part.name).unwrap_or_default()
    }

    /// Returns the name of the file as the client sent it, or `None`, if the part is not a file.
    ///
    /// It is no path: a client may send `../../etc/passwd`. To save under it take [`safe_file_name`](Part::safe_file_name).
    pub fn file_name(&self) -> Option<&'a str> {
        self.view(self.part.file_name)
    }

    /// Returns what can be used of the file's name as the name of a file in a folder: what stands after the last `/` or
    /// `\`, without control characters and white space around, cut at 255 bytes. `None`: the part is no file, or nothing is
    /// left of its name (it is empty, or only dots).
    ///
    /// Another upload may have the same name, and a name may be one that the folder has a meaning for (`.htaccess`): an own
    /// name is safer still.
    pub fn safe_file_name(&self) -> Option<String> {
        self.file_name().and_then(safe_file_name)
    }

    /// Returns the media type that the client gave; it may be wrong.
    pub fn content_type(&self) -> Option<&'a str> {
        self.view(self.part.content_type)
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> u64 {
        self.part.size
    }

    /// Returns the part's headers in order, their names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        // SAFETY: they live as long as the part.
        let headers = unsafe { host::pairs::<'a>(self.part.headers, self.part.header_count as usize) };
        headers.iter().map(|header| {
            // SAFETY: as above.
            let (name, value) = unsafe { (host::text(header.name), host::bytes(header.value)) };
            (name.unwrap_or_default(), value.unwrap_or_default())
        })
    }

    /// Returns the first header of that name, in any case of letters; `None` also when it is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let value = self.headers().find_map(|(found, value)| found.eq_ignore_ascii_case(name).then_some(value))?;
        std::str::from_utf8(value).ok()
    }

    /// Returns the content if it is in memory; `None`: it is in a file, see [`open`](Part::open).
    pub fn bytes(&self) -> Option<&'a [u8]> {
        match self.path() {
            Some(_) => None,
            // SAFETY: it lives as long as the part.
            None => Some(unsafe { host::bytes(self.part.data) }.unwrap_or_default()),
        }
    }

    /// The file that the server wrote it to.
    fn path(&self) -> Option<&'a Path> {
        self.view(self.part.path).map(Path::new)
    }

    /// Returns the whole content, wherever it is; 413 if it is longer than `bytes_max`.
    pub fn all(&self, bytes_max: usize) -> Result<Cow<'a, [u8]>> {
        if self.size() > bytes_max as u64 {
            return Err(error(
                413,
                format!("the part {:?} has {} bytes, at most {bytes_max} are taken", self.name(), self.size()),
            ));
        }
        match (self.bytes(), self.path()) {
            (None, Some(path)) => Ok(Cow::Owned(fs::read(path)?)),
            (bytes, _) => Ok(Cow::Borrowed(bytes.unwrap_or_default())),
        }
    }

    /// Returns the whole content as text, as for a field of a form; 400 if it is not UTF-8, 413 if it is longer than
    /// `bytes_max`.
    pub fn text(&self, bytes_max: usize) -> Result<Cow<'a, str>> {
        let wrong =
            |wrong: std::str::Utf8Error| error(400, format!("the part {:?} is not UTF-8: {wrong}", self.name()));
        Ok(match self.all(bytes_max)? {
            Cow::Borrowed(bytes) => Cow::Borrowed(std::str::from_utf8(bytes).map_err(wrong)?),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8(bytes).map_err(|both| wrong(both.utf8_error()))?),
        })
    }

    /// Opens the content for reading, wherever it is.
    pub fn open(&self) -> Result<PartReader<'a>> {
        Ok(PartReader(match (self.bytes(), self.path()) {
            (None, Some(path)) => Source::File(File::open(path)?),
            (bytes, _) => Source::Memory(Cursor::new(bytes.unwrap_or_default())),
        }))
    }

    /// Saves the content as a file, in place of one that is there. Others see the whole file or none of it.
    ///
    /// What the server has already written to a file is not copied if `path` is on the same file system. A part can be saved
    /// more than once, and read afterwards. The folder has to exist.
    pub fn save_to(&self, path: impl AsRef<Path>) -> Result {
        let path = path.as_ref();
        self.save(path).map_err(|wrong| {
            let kind = wrong.kind();
            Error::from(io::Error::new(
                kind,
                format!("cannot save the part {:?} as {}: {wrong}", self.name(), path.display()),
            ))
        })
    }

    fn save(&self, path: &Path) -> io::Result<()> {
        let unfinished = unfinished(path)?;
        let written = match (self.bytes(), self.path()) {
            // A second name for the same file: the server removes only its own. Elsewhere it has to be copied.
            (None, Some(file)) => fs::hard_link(file, &unfinished).or_else(|_| fs::copy(file, &unfinished).map(|_| ())),
            (bytes, _) => fs::write(&unfinished, bytes.unwrap_or_default()),
        };
        let result = written.and_then(|()| fs::rename(&unfinished, path));
        // When both are names of one file already, rename leaves the first; and a half copy is of no use.
        let _ = fs::remove_file(&unfinished);
        result
    }
}

/// A name in the same folder that nothing else uses.
fn unfinished(path: &Path) -> io::Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    if path.file_name().is_none() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path does not end in a file's name"));
    }
    // The address of a static tells generations of a library apart, which live in one process.
    let name = format!(
        ".{}-{:x}-{}.unfinished",
        process::id(),
        (&raw const COUNT).addr(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    Ok(path.with_file_name(name))
}

/// LIMIT: what Linux takes for a file's name.
const FILE_NAME_BYTES_MAX: usize = 255;

fn safe_file_name(sent: &str) -> Option<String> {
    let last = sent.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain: String = last.chars().filter(|letter| !letter.is_control()).collect();
    let mut name = plain.trim();
    while name.len() > FILE_NAME_BYTES_MAX {
        name = &name[..name.char_indices().next_back().map_or(0, |(at, _)| at)];
    }
    let name = name.trim_end();
    (!name.is_empty() && !name.chars().all(|letter| letter == '.')).then(|| name.to_owned())
}

impl fmt::Debug for Part<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Part({:?}, file {:?}, {} bytes)", self.name(), self.file_name(), self.size())
    }
}

/// Reads the content of a [`Part`], from memory or from a file.
#[derive(Debug)]
pub struct PartReader<'a>(Source<'a>);

#[derive(Debug)]
enum Source<'a> {
    Memory(Cursor<&'a [u8]>),
    File(File),
}

impl Read for PartReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Source::Memory(memory) => memory.read(buffer),
            Source::File(file) => file.read(buffer),
        }
    }
}

impl Seek for PartReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match &mut self.0 {
            Source::Memory(memory) => memory.seek(to),
            Source::File(file) => file.seek(to),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sent: &str, safe: Option<&str>) {
        assert_eq!(safe_file_name(sent).as_deref(), safe, "{sent:?}");
    }

    #[test]
    fn file_names_are_made_safe() {
        check("cat.png", Some("cat.png"));
        check("../../etc/passwd", Some("passwd"));
        check("C:\\Users\\Ada\\cat.png", Some("cat.png"));
        check("  my cat.png ", Some("my cat.png"));
        check("a\0b\n.png", Some("ab.png"));
        check(".htaccess", Some(".htaccess"));
        for nothing in ["", "/", "a/", ".", "..", "...", "x\\..", " . . ".trim(), "\u{7f}\0"] {
            if nothing != ". ." {
                check(nothing, None);
            }
        }
        check(&"ü".repeat(200), Some(&"ü".repeat(127)));
    }
}
