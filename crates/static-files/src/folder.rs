//! The opened folder and the look-up of one path in it.
//!
//! What a path means is decided here (hidden names, kinds of file, which error is which answer); how
//! it is opened without leaving the folder is `resolve`. Called by the container for each request.

use std::io;
use std::path::Path;
use std::sync::Mutex;

use http::HeaderValue;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::cache_control::{CacheRule, CacheRules};
use crate::conditions::Validators;
use crate::file::File;
use crate::media_type::MediaTypes;
use crate::resolve::Root;
use crate::strong::{Patience, StrongTags, Tag};
use crate::variants::Format;

/// Without O_NONBLOCK the open of a FIFO would wait for its writer; with it, no open waits.
/// LIMIT: a device is still opened for a moment before it is refused.
const READING: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// An opened folder whose files are served.
///
/// It keeps a descriptor of the folder: when another folder takes its path, this one goes on to serve
/// the old one.
#[derive(Debug)]
pub struct Folder {
    pub(crate) root: Root,
    media_types: MediaTypes,
    formats: Vec<Format>,
    /// When tags are to be strong.
    strong_tags: Option<StrongTags>,
    cache_rules: CacheRules,
    /// Held while a file is put in its place or removed.
    pub(crate) writes: Mutex<()>,
    options: Options,
}

/// What an operator chooses for one folder.
#[derive(Debug, Clone)]
pub struct Options {
    /// Serves what a symbolic link points to even when that is outside the folder.
    pub symlinks_outside: bool,
    /// Media types by extension (without its dot, in any case); they win over the built-in list, the
    /// last of several wins, and they are sent as written, with no charset added.
    pub mime: Vec<(String, String)>,
    /// PUT and DELETE change files.
    pub writable: bool,
    /// A PUT with Content-Range changes a part of a file; else it is 400.
    pub partial_put: bool,
    /// POST is answered as GET; else it is 405.
    pub post_as_get: bool,
    /// A directory is shown as a list; see [`Folder::list`].
    pub listings: bool,
    /// Entity tags are the SHA-256 of the content.
    pub strong_etags: bool,
    /// Codings (`br`) and extensions (`.br`) of the files beside a file that are the same, coded; in the server's order of
    /// preference.
    pub precompressed: Vec<(String, String)>,
    /// The file, relative to the folder, that stands for paths where nothing is.
    pub fallback: Option<String>,
    /// The first that fits a file is sent with it.
    pub cache_control: Vec<CacheRule>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            symlinks_outside: false,
            mime: Vec::new(),
            writable: false,
            partial_put: true,
            post_as_get: true,
            listings: false,
            strong_etags: false,
            precompressed: Vec::new(),
            fallback: None,
            cache_control: Vec::new(),
        }
    }
}

/// What is at a path.
#[derive(Debug)]
pub enum Found {
    /// A regular file, opened.
    File(File),
    /// A directory, whether or not the path ends in a slash and the directory can be listed.
    Directory,
    /// Nothing that may be known of: no such name, a hidden one, one that leads outside, a device.
    Missing,
    /// A file this process may not read.
    Forbidden,
    /// A fault of the machine, not of the request: no descriptors left, a broken disk.
    Failed(io::Error),
}

impl Folder {
    /// Opens a folder.
    ///
    /// # Errors
    ///
    /// The system's error when `path` is not a directory that can be reached, and `InvalidInput` when
    /// a media type, a coding or a Cache-Control of `options` cannot be sent in a header.
    pub fn open(path: &Path, options: Options) -> io::Result<Folder> {
        Folder::with_root(Root::open(path, options.symlinks_outside)?, options)
    }

    /// One in which nothing ever is.
    pub fn of_nothing(options: Options) -> io::Result<Folder> {
        Folder::with_root(Root::of_nothing()?, options)
    }

    fn with_root(root: Root, options: Options) -> io::Result<Folder> {
        let media_types = MediaTypes::with_overrides(&options.mime)?;
        let formats = Format::list(&options.precompressed)?;
        let strong_tags = options.strong_etags.then(StrongTags::default);
        let cache_rules = CacheRules::new(options.cache_control.clone())?;
        Ok(Folder { root, media_types, formats, strong_tags, cache_rules, writes: Mutex::default(), options })
    }

    /// Returns what was chosen when it was opened.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Returns what is at `path`: relative to the context, decoded, normalised, starting with `/`.
    ///
    /// A path that is not of that form is [`Found::Missing`]. So is one with a segment that starts with
    /// a dot, except `.well-known` (RFC 8615), and a file with a slash behind it. The names that count
    /// are those of the request: a link that an operator made to a hidden name in the folder works.
    pub fn lookup(&self, path: &str) -> Found {
        let Some(relative) = visible(path) else {
            return Found::Missing;
        };
        let mut flags = READING;
        if path.ends_with('/') {
            flags |= OFlags::DIRECTORY;
        }
        match self.root.open_beneath(relative, flags) {
            Ok(opened) => self.found(opened, path).unwrap_or_else(Found::Failed),
            Err(Errno::ACCESS) => self.unreadable(relative),
            Err(errno) => found_by(errno),
        }
    }

    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    pub(crate) fn formats(&self) -> &[Format] {
        &self.formats
    }

    /// Returns the number of the rule of [`Options::cache_control`] that counts for a file, which was looked up by this path.
    pub fn cache_rule(&self, path: &str, file: &File) -> Option<usize> {
        self.cache_rules.number(path, file.content_type())
    }

    pub(crate) fn cache_rules(&self) -> &CacheRules {
        &self.cache_rules
    }

    /// Returns the file whose name is that of `path` and an extension, if there is one that can be read; without its type.
    pub(crate) fn beside(&self, path: &str, extension: &str) -> Option<File> {
        let path = format!("{path}{extension}");
        let opened = self.root.open_beneath(visible(&path)?, READING).ok()?;
        let metadata = opened.metadata().ok().filter(|metadata| metadata.is_file())?;
        Some(File::new(opened, &metadata, None))
    }

    /// Returns what conditions are compared with, where `sent` is the file itself or a coded one beside it; `None`: a large file
    /// has to be read first, and there is no time for it.
    pub(crate) fn validators(&self, file: &File, sent: &File, patience: Patience) -> io::Result<Option<Validators>> {
        let strong = match &self.strong_tags {
            None => Tag::NotYet,
            Some(tags) => tags.of(sent, patience)?,
        };
        let etag = match strong {
            Tag::Strong(tag) => tag,
            Tag::TakesLong => return Ok(None),
            // A weak one is of the file's length and time, and does not say what it holds.
            Tag::NotYet | Tag::Changed => HeaderValue::try_from(file.etag()).map_err(io::Error::other)?,
        };
        Ok(Some(Validators { etag, modified_seconds: file.modified_seconds() }))
    }

    fn found(&self, opened: std::fs::File, path: &str) -> io::Result<Found> {
        let metadata = opened.metadata()?;
        if metadata.is_dir() {
            return Ok(Found::Directory);
        }
        if !metadata.is_file() {
            return Ok(Found::Missing);
        }
        let content_type = self.media_types.of(path);
        Ok(Found::File(File::new(opened, &metadata, content_type)))
    }

    /// Tells an unreadable file from a directory that cannot be listed but may hold readable files.
    fn unreadable(&self, relative: &str) -> Found {
        match self.root.open_beneath(relative, OFlags::PATH) {
            Ok(opened) => match opened.metadata() {
                Ok(metadata) if metadata.is_dir() => Found::Directory,
                Ok(metadata) if metadata.is_file() => Found::Forbidden,
                Ok(_) => Found::Missing,
                Err(error) => Found::Failed(error),
            },
            Err(errno) => found_by(errno),
        }
    }
}

/// Returns the path below the folder, without slashes around it, when a request may name it.
pub(crate) fn visible(path: &str) -> Option<&str> {
    let below = path.strip_prefix('/')?;
    if below.is_empty() {
        return Some(".");
    }
    let below = below.strip_suffix('/').unwrap_or(below);
    (!below.split('/').any(is_hidden)).then_some(below)
}

/// Says whether no request may have this segment in its path.
pub(crate) fn is_hidden(segment: &str) -> bool {
    segment.is_empty() || segment.contains('\0') || (segment.starts_with('.') && segment != ".well-known")
}

/// Returns the answer that an error of the system stands for.
pub(crate) fn found_by(errno: Errno) -> Found {
    match errno {
        // XDEV: the path leaves the folder. NXIO, NODEV: a socket, or a device with no driver.
        // ILSEQ: a name that this file system cannot hold.
        Errno::NOENT
        | Errno::NOTDIR
        | Errno::LOOP
        | Errno::NAMETOOLONG
        | Errno::XDEV
        | Errno::NXIO
        | Errno::NODEV
        | Errno::ILSEQ => Found::Missing,
        Errno::ACCESS | Errno::PERM => Found::Forbidden,
        other => Found::Failed(other.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::Way;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use tempfile::TempDir;

    /// A folder `root` with files, links and oddities, and a file beside it that must never be seen.
    fn tree() -> TempDir {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        for dir in [
            "root/dir/deep",
            "root/.git",
            "root/.well-known/acme",
            "root/dir/.well-known",
            "root/WEB-INF",
            "root/dir/WEB-INF",
            "outside",
            "rooted",
        ] {
            fs::create_dir_all(temp.path().join(dir)).unwrap();
        }
        for name in [
            "a.txt",
            "two words.txt",
            "grüße-日本.txt",
            "new\nline.txt",
            "dir/b.txt",
            "dir/deep/c.txt",
            ".secret",
            ".git/config",
            ".well-known/acme/token",
            "dir/.well-known/x",
            "..odd",
            "back\\slash",
            "dot.",
            "a%2Fb",
            "WEB-INF/web.toml",
            "dir/WEB-INF/page",
        ] {
            fs::write(root.join(name), name).unwrap();
        }
        for name in ["outside/secret.txt", "rooted/secret.txt"] {
            fs::write(temp.path().join(name), "outside").unwrap();
        }
        symlink("a.txt", root.join("link")).unwrap();
        symlink("../a.txt", root.join("dir/up")).unwrap();
        symlink("dir", root.join("dirlink")).unwrap();
        symlink(".", root.join("here")).unwrap();
        symlink("WEB-INF", root.join("private-dir")).unwrap();
        symlink("../WEB-INF/web.toml", root.join("dir/private")).unwrap();
        symlink("web.toml", root.join("WEB-INF/link")).unwrap();
        symlink(root.join("dir/b.txt"), root.join("absolute")).unwrap();
        symlink(root.join("dir"), root.join("absolute-dir")).unwrap();
        symlink(&root, root.join("self")).unwrap();
        symlink("../root/a.txt", root.join("out-and-in")).unwrap();
        symlink("../outside/secret.txt", root.join("escape")).unwrap();
        symlink("../outside", root.join("escape-dir")).unwrap();
        symlink(temp.path().join("outside/secret.txt"), root.join("escape-absolute")).unwrap();
        // Its path starts with the text of the folder's path, but is not below it.
        symlink(temp.path().join("rooted/secret.txt"), root.join("escape-prefix")).unwrap();
        symlink("escape", root.join("escape-twice")).unwrap();
        symlink("..", root.join("parent")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        symlink(root.join("nowhere"), root.join("dangling-absolute")).unwrap();
        symlink("loop-b", root.join("loop-a")).unwrap();
        symlink("loop-a", root.join("loop-b")).unwrap();
        symlink("/dev/zero", root.join("device")).unwrap();
        symlink("/", root.join("top")).unwrap();
        symlink(".git/config", root.join("made-visible")).unwrap();
        make_fifo(&root.join("fifo"));
        drop(UnixListener::bind(root.join("socket")).unwrap());
        temp
    }

    fn make_fifo(path: &Path) {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap();
    }

    fn describe(found: Found) -> String {
        match found {
            Found::File(file) => {
                let body = crate::body::tests::read_all(crate::content(file).unwrap());
                format!("file {}", String::from_utf8(body.unwrap()).unwrap())
            }
            Found::Directory => "directory".into(),
            Found::Missing => "missing".into(),
            Found::Forbidden => "forbidden".into(),
            Found::Failed(error) => format!("failed {error}"),
        }
    }

    #[track_caller]
    fn check_with(symlinks_outside: bool, cases: &[(&str, &str)]) {
        let temp = tree();
        for way in [Way::Beneath, Way::Walk] {
            let root = Root::open_by(&temp.path().join("root"), symlinks_outside, way).unwrap();
            let folder = Folder::with_root(root, Options::default()).unwrap();
            for (path, expected) in cases {
                assert_eq!(describe(folder.lookup(path)), *expected, "{path:?} by {way:?}");
            }
        }
    }

    #[track_caller]
    fn check(cases: &[(&str, &str)]) {
        check_with(false, cases);
    }

    #[test]
    fn files_and_directories() {
        check(&[
            ("/a.txt", "file a.txt"),
            ("/dir/b.txt", "file dir/b.txt"),
            ("/dir/deep/c.txt", "file dir/deep/c.txt"),
            ("/", "directory"),
            ("/dir", "directory"),
            ("/dir/", "directory"),
            ("/dir/deep/", "directory"),
            ("/none", "missing"),
            ("/none/none", "missing"),
        ]);
    }

    #[test]
    fn a_file_is_not_a_directory() {
        check(&[("/a.txt/", "missing"), ("/link/", "missing"), ("/absolute/", "missing"), ("/a.txt/b", "missing")]);
    }

    #[test]
    fn names_are_bytes_not_syntax() {
        check(&[
            ("/two words.txt", "file two words.txt"),
            ("/grüße-日本.txt", "file grüße-日本.txt"),
            ("/new\nline.txt", "file new\nline.txt"),
            ("/back\\slash", "file back\\slash"),
            ("/dot.", "file dot."),
            ("/a%2Fb", "file a%2Fb"),
        ]);
    }

    #[test]
    fn hidden_names() {
        check(&[
            ("/.secret", "missing"),
            ("/.git/config", "missing"),
            ("/.git", "missing"),
            ("/..odd", "missing"),
            ("/.well-known", "directory"),
            ("/.well-known/acme/token", "file .well-known/acme/token"),
            ("/dir/.well-known/x", "file dir/.well-known/x"),
            ("/.well-known/.secret", "missing"),
            ("/.well-known2", "missing"),
            ("/made-visible", "file .git/config"),
        ]);
    }

    #[test]
    fn paths_that_the_container_never_passes() {
        check(&[
            ("", "missing"),
            ("a.txt", "missing"),
            ("//a.txt", "missing"),
            ("//", "missing"),
            ("/dir//b.txt", "missing"),
            ("/..", "missing"),
            ("/../outside/secret.txt", "missing"),
            ("/dir/../a.txt", "missing"),
            ("/./a.txt", "missing"),
            ("/a.txt\0", "missing"),
            ("/a\0/a.txt", "missing"),
        ]);
    }

    #[test]
    fn names_that_are_too_long() {
        let long = format!("/{}", "x".repeat(300));
        let deep = "/xxxxxxx".repeat(2000);
        check(&[(&long, "missing"), (&deep, "missing")]);
    }

    #[test]
    fn links_that_stay_inside() {
        check(&[
            ("/link", "file a.txt"),
            ("/dir/up", "file a.txt"),
            ("/dirlink", "directory"),
            ("/dirlink/", "directory"),
            ("/dirlink/b.txt", "file dir/b.txt"),
            ("/dirlink/up", "file a.txt"),
            ("/absolute", "file dir/b.txt"),
            ("/absolute-dir/deep/c.txt", "file dir/deep/c.txt"),
            ("/absolute-dir/", "directory"),
            ("/self", "directory"),
            ("/self/self/a.txt", "file a.txt"),
            ("/out-and-in", "file a.txt"),
        ]);
    }

    /// The container lets only forwards and includes name them (SEMANTICS 7).
    #[test]
    fn links_do_not_lead_into_private_folders() {
        let cases = [
            ("/private-dir", "missing"),
            ("/private-dir/web.toml", "missing"),
            ("/dir/private", "missing"),
            ("/here/WEB-INF/web.toml", "missing"),
            ("/self/WEB-INF/web.toml", "missing"),
            ("/here/here/a.txt", "file a.txt"),
            ("/here/dir/WEB-INF/page", "file dir/WEB-INF/page"),
            ("/WEB-INF/web.toml", "file WEB-INF/web.toml"),
            ("/WEB-INF/link", "file WEB-INF/web.toml"),
        ];
        check(&cases);
        check_with(true, &cases);
    }

    #[test]
    fn links_that_leave() {
        check(&[
            ("/escape", "missing"),
            ("/escape-dir", "missing"),
            ("/escape-dir/", "missing"),
            ("/escape-dir/secret.txt", "missing"),
            ("/escape-absolute", "missing"),
            ("/escape-prefix", "missing"),
            ("/escape-twice", "missing"),
            ("/parent", "missing"),
            ("/parent/outside/secret.txt", "missing"),
            ("/magic", "missing"),
            ("/top", "missing"),
            ("/magic/etc/passwd", "missing"),
            ("/dangling", "missing"),
            ("/dangling-absolute", "missing"),
            ("/loop-a", "missing"),
            ("/loop-a/x", "missing"),
        ]);
    }

    #[test]
    fn links_that_leave_when_allowed() {
        check_with(
            true,
            &[
                ("/escape", "file outside"),
                ("/escape-dir/", "directory"),
                ("/escape-dir/secret.txt", "file outside"),
                ("/escape-absolute", "file outside"),
                ("/escape-twice", "file outside"),
                ("/absolute", "file dir/b.txt"),
                ("/link", "file a.txt"),
                ("/..", "missing"),
                ("/loop-a", "missing"),
                ("/dangling", "missing"),
                ("/device", "missing"),
                ("/top/", "directory"),
            ],
        );
    }

    #[test]
    fn only_regular_files_are_served_and_no_open_waits() {
        check(&[("/fifo", "missing"), ("/socket", "missing"), ("/device", "missing"), ("/fifo/", "missing")]);
    }

    #[test]
    fn files_are_seen_when_they_come_and_go() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::open(temp.path(), Options::default()).unwrap();
        assert_eq!(describe(folder.lookup("/x")), "missing");
        fs::write(temp.path().join("x"), "one").unwrap();
        assert_eq!(describe(folder.lookup("/x")), "file one");
        fs::write(temp.path().join("x"), "other").unwrap();
        assert_eq!(describe(folder.lookup("/x")), "file other");
        fs::remove_file(temp.path().join("x")).unwrap();
        assert_eq!(describe(folder.lookup("/x")), "missing");
        temp.close().unwrap();
        assert_eq!(describe(folder.lookup("/x")), "missing");
    }

    #[test]
    fn a_root_that_is_a_link_is_the_folder_it_points_to() {
        let temp = tree();
        symlink("root", temp.path().join("alias")).unwrap();
        let folder = Folder::open(&temp.path().join("alias"), Options::default()).unwrap();
        assert_eq!(describe(folder.lookup("/absolute")), "file dir/b.txt");
        assert_eq!(describe(folder.lookup("/escape")), "missing");
    }

    /// By the mapping only: the superuser, whom tests may run as, is never denied.
    #[test]
    fn errors_of_the_system() {
        for (errno, expected) in [
            (Errno::ACCESS, "forbidden"),
            (Errno::PERM, "forbidden"),
            (Errno::NOENT, "missing"),
            (Errno::NOTDIR, "missing"),
            (Errno::LOOP, "missing"),
            (Errno::NAMETOOLONG, "missing"),
            (Errno::XDEV, "missing"),
            (Errno::NXIO, "missing"),
            (Errno::MFILE, "failed Too many open files (os error 24)"),
            (Errno::IO, "failed Input/output error (os error 5)"),
        ] {
            assert_eq!(describe(found_by(errno)), expected);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_opened() {
        let temp = tree();
        for (name, kind) in [("none", io::ErrorKind::NotFound), ("root/a.txt", io::ErrorKind::NotADirectory)] {
            let error = Folder::open(&temp.path().join(name), Options::default()).unwrap_err();
            assert_eq!(error.kind(), kind, "{name}");
        }
    }

    #[test]
    fn one_folder_serves_all_threads() {
        fn check<T: Send + Sync>() {}
        check::<Folder>();
        check::<File>();
    }
}
