//! Files and folders that nobody expects in a webapp: names of every kind, links, pipes, devices, what may not be read, and what
//! changes while it is sent. What is served is right, nothing from outside is, and nothing is a fault of the server.

use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::http_client::{Connection, Response};
use e2e::process;
use e2e::serval::{Home, Serval};

const SHORT: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(60);
const SECRET: &str = "secret from outside";
const BIG_BYTES: usize = 50 << 20;

fn open(serval: &Serval) -> Connection {
    Connection::open(serval.address(), SHORT).unwrap()
}

#[track_caller]
fn get(serval: &Serval, target: &str) -> Response {
    open(serval).get(target).unwrap_or_else(|error| panic!("{target}: {error}"))
}

fn text_of(response: &Response) -> String {
    String::from_utf8_lossy(&response.body).into_owned()
}

/// Served with this text.
#[track_caller]
fn served(serval: &Serval, target: &str, text: &str) {
    let answer = get(serval, target);
    assert_eq!((answer.status, text_of(&answer).as_str()), (200, text), "{target}");
}

/// Answered with one of these statuses, and shows no secret.
#[track_caller]
fn refused(serval: &Serval, target: &str, statuses: &[u16]) {
    let answer = get(serval, target);
    let text = text_of(&answer);
    assert!(statuses.contains(&answer.status), "{target}: {} {text}", answer.status);
    assert!(!text.contains("secret"), "{target}: {text}");
}

/// Every byte but letters, digits and slashes, as a careful client sends it.
fn encoded(path: &str) -> String {
    path.bytes().fold(String::new(), |text, byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' => text + &char::from(byte).to_string(),
        _ => text + &format!("%{byte:02X}"),
    })
}

#[test]
fn names_of_files() {
    // What may be asked for by its bytes, encoded.
    let shown = [
        "two words.txt",
        " leading and trailing ",
        "gr\u{fc}\u{df}e.txt",
        "gru\u{308}\u{df}e.txt",
        "\u{65e5}\u{672c}\u{8a9e}.txt",
        "\u{1f98a}.txt",
        "\u{202e}txt.exe",
        "100%.txt",
        "%41.txt",
        "%2e%2e",
        "%2F",
        "a#b.txt",
        "a?b.txt",
        "a;b.txt",
        "a;b=c/d.txt",
        "a&b=c+d.txt",
        "a:b.txt",
        "a*b.txt",
        "a|b<c>d.txt",
        "{a}[b]^`.txt",
        "single'quote.txt",
        "double\"quote.txt",
        "back~",
        "~",
        "trailing.",
        "trailing..",
        "a..b",
        "-",
        "Upper.TXT",
        "upper.TXT",
        "nul",
        "page.php",
        "web.toml",
        "x/WEB-INF/page.txt",
        ".well-known/page.txt",
    ];
    // What is never served, by its name alone: SEMANTICS 3, and names that begin with a dot.
    let hidden = [
        ("back\\slash.txt", 400),
        ("new\nline.txt", 400),
        ("carriage\rreturn.txt", 400),
        ("tab\t.txt", 400),
        ("delete\u{7f}.txt", 400),
        (".hidden", 404),
        (".git/config", 404),
        // Encoded, as it is here: a segment of nothing but dots.
        ("...", 400),
        ("..odd", 404),
        ("x/.env", 404),
    ];
    let home = Home::new().unwrap();
    for name in shown.iter().chain(hidden.iter().map(|(name, _)| name)) {
        home.write(&format!("webapps/ROOT/{name}"), format!("this is {name}")).unwrap();
        home.write(&format!("webapps/app/{name}"), format!("app's {name}")).unwrap();
    }
    let longest = "x".repeat(255);
    home.write(&format!("webapps/ROOT/{longest}"), "longest").unwrap();
    use std::os::unix::ffi::OsStringExt as _;
    fs::write(home.path("webapps/ROOT").join(OsString::from_vec(b"latin\xfc.txt".to_vec())), "x").unwrap();
    let serval = Serval::start(&home).unwrap();
    for name in shown {
        served(&serval, &encoded(&format!("/{name}")), &format!("this is {name}"));
        served(&serval, &encoded(&format!("/app/{name}")), &format!("app's {name}"));
        let mut connection = open(&serval);
        connection
            .send(format!("HEAD {} HTTP/1.1\r\nHost: a\r\n\r\n", encoded(&format!("/{name}"))).as_bytes())
            .unwrap();
        assert_eq!(connection.read_response_of_head().unwrap().status, 200, "{name}");
    }
    for (name, status) in hidden {
        refused(&serval, &encoded(&format!("/{name}")), &[status]);
        refused(&serval, &encoded(&format!("/app/{name}")), &[status]);
    }
    served(&serval, &format!("/{longest}"), "longest");
    refused(&serval, &format!("/{longest}x"), &[404]);
    refused(&serval, "/latin%FC.txt", &[400]);
    refused(&serval, "/latin%C3%BC.txt", &[404]);
    // A name means itself: it is decoded once, its case counts, and what is not encoded is syntax.
    served(&serval, "/%2541.txt", "this is %41.txt");
    refused(&serval, "/%41.txt", &[404]);
    refused(&serval, "/UPPER.TXT", &[404]);
    refused(&serval, "/a;b.txt", &[404]);
    refused(&serval, "/a?b.txt", &[404]);
    served(&serval, "/a&b=c+d.txt", "this is a&b=c+d.txt");
    served(&serval, "/back~?x=y", "this is back~");
    served(&serval, "/back~;x=y", "this is back~");
    served(&serval, "/x/../back~", "this is back~");
    refused(&serval, "/back~/", &[404]);
    refused(&serval, "/back~/x", &[404]);
    refused(&serval, "/back~%20", &[404]);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn names_of_folders_in_a_webapp() {
    let home = Home::new().unwrap();
    for name in ["two words", "gr\u{fc}\u{df}e", "100%", "a#b", "a?b", "a;b", "q\"'", "line\nfeed"] {
        home.write(&format!("webapps/ROOT/{name}/index.html"), format!("index of {name}")).unwrap();
    }
    home.write("webapps/ROOT/odd/index.html/page.txt", "page").unwrap();
    home.write("webapps/ROOT/bare/page.txt", "page").unwrap();
    let serval = Serval::start(&home).unwrap();
    for name in ["two words", "gr\u{fc}\u{df}e", "100%", "a#b", "a?b", "a;b", "q\"'"] {
        let target = encoded(&format!("/{name}"));
        let answer = get(&serval, &format!("{target}?x=%2F"));
        assert_eq!(answer.status, 302, "{name}");
        assert_eq!(answer.header("location"), Some(format!("{target}/?x=%2F").as_str()));
        served(&serval, &format!("{target}/"), &format!("index of {name}"));
    }
    refused(&serval, &encoded("/line\nfeed/"), &[400]);
    // Never to another host.
    for target in ["//bare", "///bare", "//a.example/../bare", "//a.example/..//bare"] {
        let answer = get(&serval, target);
        let location = answer.header("location").unwrap_or("/");
        assert!(location.starts_with('/') && !location.starts_with("//"), "{target}: {location}");
    }
    // A directory that is called like a welcome file is a directory.
    refused(&serval, "/odd/", &[404]);
    assert_eq!(get(&serval, "/odd/index.html").header("location"), Some("/odd/index.html/"));
    refused(&serval, "/odd/index.html/", &[404]);
    served(&serval, "/odd/index.html/page.txt", "page");
    refused(&serval, "/bare/", &[404]);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn names_of_webapps() {
    let home = Home::new().unwrap();
    let shown = [
        ("two words", "/two words"),
        ("gr\u{fc}\u{df}e", "/gr\u{fc}\u{df}e"),
        ("gru\u{308}\u{df}e", "/gru\u{308}\u{df}e"),
        ("a#b", "/a/b"),
        ("a#b c#\u{e4}", "/a/b c/\u{e4}"),
        ("100%", "/100%"),
        ("semi;colon", "/semi;colon"),
        ("ask?", "/ask?"),
        ("quotes\"'", "/quotes\"'"),
        ("dotted.name", "/dotted.name"),
        ("root", "/root"),
    ];
    for (name, _) in shown {
        home.write(&format!("webapps/{name}/index.html"), format!("this is {name}")).unwrap();
        home.write(&format!("webapps/{name}/WEB-INF/x.txt"), "secret").unwrap();
    }
    let never = [".hidden", "copy~", "half.tmp", "half.part", "WEB-INF", "meta-inf", "b#", "c#..#d"];
    for name in never {
        home.write(&format!("webapps/{name}/index.html"), "secret").unwrap();
    }
    // No request can name these; they may be mounted, but must not be in the way of others.
    for name in ["back\\slash", "new\nline"] {
        home.write(&format!("webapps/{name}/index.html"), "secret").unwrap();
    }
    use std::os::unix::ffi::OsStringExt as _;
    fs::create_dir(home.path("webapps").join(OsString::from_vec(b"latin\xfc".to_vec()))).unwrap();
    home.write("webapps/file", "secret").unwrap();
    symlink("nowhere", home.path("webapps/dangling")).unwrap();
    symlink("loop", home.path("webapps/loop")).unwrap();
    let serval = Serval::start(&home).unwrap();
    for why in ["a segment is empty", "a backslash or a control character", "its name is not UTF-8"] {
        serval.wait_for_log(why, SHORT).unwrap();
    }
    for (name, path) in shown {
        let target = encoded(path);
        served(&serval, &format!("{target}/"), &format!("this is {name}"));
        served(&serval, &format!("{target}/index.html"), &format!("this is {name}"));
        refused(&serval, &format!("{target}/WEB-INF/x.txt"), &[404]);
        let answer = get(&serval, &target);
        // The path as it is written best, whatever the client has encoded.
        let location = format!("{target}/").replace("%27", "'").replace("%2E", ".");
        assert_eq!((answer.status, answer.header("location")), (302, Some(location.as_str())), "{name}");
    }
    for name in never.iter().chain(&["file", "dangling", "loop", "b", "back\\slash", "new\nline", "d"]) {
        for end in ["", "/", "/index.html"] {
            refused(&serval, &format!("{}{end}", encoded(&format!("/{name}"))), &[400, 404]);
        }
    }
    assert!(serval.stop().unwrap().success());
}

/// A root with files and links of all kinds, and beside it what is none of its clients' business.
fn linked() -> Home {
    let home = Home::new().unwrap();
    home.write("webapps/ROOT/page.txt", "page").unwrap();
    home.write("webapps/ROOT/index.html", "welcome").unwrap();
    home.write("webapps/ROOT/dir/deep.txt", "deep").unwrap();
    home.write("webapps/ROOT/WEB-INF/x.txt", "secret").unwrap();
    home.write("webapps/other/page.txt", SECRET).unwrap();
    home.write("webapps/ROOT-copy/page.txt", SECRET).unwrap();
    home.write("outside/x.txt", SECRET).unwrap();
    home.write("outside/index.html", SECRET).unwrap();
    let root = home.path("webapps/ROOT");
    let outside = home.path("outside");
    let link = |target: &Path, name: &str| symlink(target, root.join(name)).unwrap();
    link(Path::new("page.txt"), "inside");
    link(Path::new("dir"), "inside-dir");
    link(Path::new("../page.txt"), "dir/up");
    link(&root.join("dir/deep.txt"), "inside-absolute");
    link(Path::new("../../webapps/ROOT/page.txt"), "out-and-in");
    link(Path::new("../../outside/x.txt"), "outside-file");
    link(Path::new("../../outside"), "outside-dir");
    link(&outside.join("x.txt"), "outside-absolute");
    link(Path::new("outside-file"), "outside-twice");
    link(Path::new("../../../outside/x.txt"), "dir/outside-deep");
    link(Path::new("../other/page.txt"), "neighbour");
    link(&home.path("webapps/ROOT-copy/page.txt"), "same-prefix");
    link(Path::new(".."), "parent");
    link(Path::new("/"), "top");
    link(Path::new("/proc/self/root"), "magic");
    link(Path::new("/proc/self/environ"), "environ");
    link(Path::new("/proc/self/fd"), "descriptors");
    link(Path::new("nowhere"), "dangling");
    link(&outside.join("nowhere"), "dangling-outside");
    link(Path::new("loop-b"), "loop-a");
    link(Path::new("loop-a"), "loop-b");
    link(Path::new("loop-c"), "loop-c");
    link(Path::new("/dev/zero"), "zero");
    home
}

#[test]
fn links_stay_inside() {
    let home = linked();
    let serval = Serval::start(&home).unwrap();
    served(&serval, "/inside", "page");
    served(&serval, "/inside-dir/deep.txt", "deep");
    served(&serval, "/dir/up", "page");
    served(&serval, "/inside-absolute", "deep");
    served(&serval, "/out-and-in", "page");
    for target in [
        "/outside-file",
        "/outside-dir",
        "/outside-dir/",
        "/outside-dir/x.txt",
        "/outside-dir/index.html",
        "/outside-dir/none",
        "/outside-absolute",
        "/outside-twice",
        "/dir/outside-deep",
        "/inside-dir/outside-deep",
        "/neighbour",
        "/same-prefix",
        "/parent/other/page.txt",
        "/parent/ROOT/WEB-INF/x.txt",
        "/parent/ROOT/web-inf/x.txt",
        "/top/etc/passwd",
        "/magic/etc/passwd",
        "/environ",
        "/descriptors/0",
        "/dangling",
        "/dangling/",
        "/dangling-outside",
        "/loop-a",
        "/loop-a/",
        "/loop-a/x",
        "/loop-c",
        "/zero",
    ] {
        refused(&serval, target, &[403, 404]);
        let mut connection = open(&serval);
        connection.send(format!("HEAD {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        let status = connection.read_response_of_head().unwrap().status;
        assert!(matches!(status, 403 | 404), "{target}: {status}");
    }
    assert!(serval.stop().unwrap().success());
}

#[test]
fn links_may_lead_outside_where_an_operator_says_so() {
    let home = linked();
    home.configure("[defaults.context]\nsymlinks_outside = true").unwrap();
    let serval = Serval::start(&home).unwrap();
    served(&serval, "/inside", "page");
    served(&serval, "/inside-absolute", "deep");
    for target in [
        "/outside-file",
        "/outside-dir/x.txt",
        "/outside-dir/",
        "/outside-absolute",
        "/outside-twice",
        "/dir/outside-deep",
        "/neighbour",
        "/same-prefix",
    ] {
        served(&serval, target, SECRET);
    }
    assert_eq!(get(&serval, "/outside-dir").header("location"), Some("/outside-dir/"));
    for target in ["/dangling", "/dangling-outside", "/loop-a", "/loop-a/x", "/loop-c", "/zero"] {
        refused(&serval, target, &[403, 404]);
    }
    // A link is followed, but no request may leave by itself.
    for target in ["/../outside/x.txt", "/%2e%2e/outside/x.txt", "/dir/..%2f..%2foutside/x.txt", "/outside-dir/..;/x"] {
        refused(&serval, target, &[400]);
    }
    refused(&serval, "/WEB-INF/x.txt", &[404]);
    assert!(serval.stop().unwrap().success());
}

/// A link is turned to and fro while it is asked for: the check and the open are one.
#[test]
fn a_link_that_turns_never_shows_the_outside() {
    let home = linked();
    let serval = Serval::start(&home).unwrap();
    let root = home.path("webapps/ROOT");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in (0..4).cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                let targets = ["dir", "../../outside", "../ROOT/dir", "../../outside"];
                for (name, file) in [("turning-dir", ""), ("turning", "/x.txt")] {
                    let _ = fs::remove_file(root.join("next"));
                    symlink(format!("{}{file}", targets[turn]), root.join("next")).unwrap();
                    fs::rename(root.join("next"), root.join(name)).unwrap();
                }
            }
        });
        let mut connection = open(&serval);
        for number in 0..2000 {
            let target = ["/turning", "/turning-dir/x.txt", "/turning-dir/"][number % 3];
            let answer = connection.get(target).unwrap();
            assert!(answer.status < 500 && !text_of(&answer).contains("secret"), "{target}: {answer:?}");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(serval.stop().unwrap().success());
}

#[test]
fn what_is_no_file_is_not_opened_for_long() {
    let home = linked();
    let root = home.path("webapps/ROOT");
    let make = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.current_dir(&root).args(arguments);
        process::run(command, SHORT)
    };
    make("mkfifo", &["pipe"]).unwrap();
    make("mkfifo", &["dir/index.html"]).unwrap();
    let _listener = UnixListener::bind(root.join("socket")).unwrap();
    drop(UnixListener::bind(root.join("dead-socket")).unwrap());
    let mut targets = vec!["/pipe", "/pipe/", "/pipe/x", "/dir/", "/dir/index.html", "/socket", "/dead-socket"];
    match make("mknod", &["device", "c", "1", "5"]).and(make("mknod", &["block", "b", "7", "250"])) {
        Ok(()) => targets.extend(["/device", "/block"]),
        Err(error) => eprintln!("not shown: device nodes cannot be made here ({error:#})"),
    }
    let serval = Serval::start(&home).unwrap();
    for target in targets {
        // More often than there are threads that could hang.
        for _ in 0..20 {
            refused(&serval, target, &[403, 404]);
        }
    }
    served(&serval, "/page.txt", "page");
    assert!(serval.stop().unwrap().success());
}

/// As the superuser without the right to read everything, for whom a file without permissions is one.
#[test]
fn what_may_not_be_read_is_forbidden() {
    let home = linked();
    let root = home.path("webapps/ROOT");
    home.write("webapps/ROOT/closed.txt", "secret").unwrap();
    home.write("webapps/ROOT/closed/x.txt", "secret").unwrap();
    home.write("webapps/ROOT/unlisted/index.html", "page").unwrap();
    home.write("webapps/ROOT/closed-index/index.html", "secret").unwrap();
    let set = |name: &str, mode| fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    set("closed.txt", 0);
    set("closed", 0);
    set("unlisted", 0o111);
    set("closed-index/index.html", 0);
    let reads_all = fs::read(root.join("closed.txt")).is_ok();
    let without: Vec<OsString> =
        ["setpriv", "--bounding-set=-dac_override,-dac_read_search"].map(OsString::from).into();
    let serval = match reads_all.then(|| Serval::start_under(&home, &without)) {
        None => Serval::start(&home).unwrap(),
        Some(Ok(serval)) => serval,
        Some(Err(error)) => {
            eprintln!("not shown: a file that may not be read, because this user may read all ({error:#})");
            set("closed", 0o755);
            return;
        }
    };
    refused(&serval, "/closed.txt", &[403, 404]);
    refused(&serval, "/closed/", &[403, 404]);
    refused(&serval, "/closed/x.txt", &[403, 404]);
    refused(&serval, "/closed-index/", &[403, 404]);
    served(&serval, "/unlisted/", "page");
    served(&serval, "/page.txt", "page");
    assert!(serval.stop().unwrap().success());
    set("closed", 0o755);
}

#[test]
fn protected_folders_are_never_served() {
    let home = Home::new().unwrap();
    for webapp in ["ROOT", "app", "app#deep"] {
        for folder in ["WEB-INF", "META-INF", "web-inf", "Web-Inf", "meta-inf"] {
            home.write(&format!("webapps/{webapp}/{folder}/x.txt"), "secret").unwrap();
            home.write(&format!("webapps/{webapp}/{folder}/index.html"), "secret").unwrap();
        }
        home.write(&format!("webapps/{webapp}/sub/WEB-INF/x.txt"), "page").unwrap();
        home.write(&format!("webapps/{webapp}/WEB-INFO/x.txt"), "page").unwrap();
    }
    let serval = Serval::start(&home).unwrap();
    for context in ["", "/app", "/app/deep", "/%61pp", "//app", "/app//deep", "/x/../app", "/app;x=y"] {
        for folder in [
            "/WEB-INF",
            "/web-inf",
            "/Web-Inf",
            "/META-INF",
            "/meta-inf",
            "/%57EB-INF",
            "/%77eb-inf",
            "/WEB%2DINF",
            "/%4d%45%54%41%2d%49%4e%46",
            "//WEB-INF",
            "///WEB-INF",
            "/./WEB-INF",
            "/././/WEB-INF",
            "/x/../WEB-INF",
            "/sub/WEB-INF/../../WEB-INF",
            "/WEB-INF/../WEB-INF",
            "/WEB-INF;x",
            "/WEB-INF;x=y/.",
            "/WEB-INF/.",
            "/;/WEB-INF",
            "/.;/WEB-INF",
            "/%2e/WEB-INF",
            "/sub/%2e%2e/WEB-INF",
            "/sub/..;/WEB-INF",
            "/sub/..%2fWEB-INF",
            "/sub%2f..%2fWEB-INF",
            "/%2fWEB-INF",
            "/%5cWEB-INF",
            "/WEB-INF%2f",
            "/WEB-INF%5c",
            "/WEB-INF%00",
            "/WEB-INF%20",
            "/WEB-INF.",
            "/WEB-INF%c0%af",
            "/%c1%97EB-INF",
            "/%ef%bc%b7EB-INF",
            "/WEB-INF::$DATA",
            "/%2557EB-INF",
            "/\\WEB-INF",
        ] {
            for rest in ["", "/", "/x.txt", "//x.txt", "/x.txt;a", "/x.txt?a=b", "/index.html", "%2fx.txt"] {
                refused(&serval, &format!("{context}{folder}{rest}"), &[400, 404]);
            }
        }
        for path in ["/sub/WEB-INF/x.txt", "/WEB-INFO/x.txt", "/WEB-INF/../WEB-INFO/x.txt"] {
            served(&serval, &format!("{context}{path}"), "page");
        }
    }
    // By no method, and with no answer that tells what is there.
    for method in ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"] {
        let mut connection = open(&serval);
        connection.send(format!("{method} /WEB-INF/x.txt HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(connection.read_response_of_head().unwrap().status, 404, "{method}");
    }
    let mut connection = open(&serval);
    connection.send(b"GET http://a/WEB-INF/x.txt HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(connection.read_response().unwrap().status, 404);
    assert!(serval.stop().unwrap().success());
}

/// A download that has begun and is far from its end.
struct Download {
    stream: TcpStream,
    length: usize,
    body: Vec<u8>,
}

impl Download {
    fn begin(serval: &Serval, target: &str) -> Download {
        let mut stream = TcpStream::connect(serval.address()).unwrap();
        stream.set_read_timeout(Some(SHORT)).unwrap();
        stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        let mut bytes = vec![0; 60_000];
        stream.read_exact(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap();
        Download { stream, length: length.parse().unwrap(), body: bytes.split_off(end) }
    }

    /// Reads to the announced end; or to that of the connection, and then it is not whole.
    fn end(mut self) -> (bool, Vec<u8>) {
        let mut piece = vec![0; 256 << 10];
        while self.body.len() < self.length {
            match self.stream.read(&mut piece) {
                Ok(0) => return (false, self.body),
                Ok(len) => self.body.extend_from_slice(&piece[..len]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return (false, self.body),
                Err(error) => panic!("not closed after {} of {} bytes: {error}", self.body.len(), self.length),
            }
        }
        assert_eq!(self.body.len(), self.length, "more than was announced");
        (true, self.body)
    }
}

#[test]
fn a_file_may_change_while_it_is_sent() {
    let home = Home::new().unwrap();
    let path = home.path("webapps/ROOT/big.bin");
    let old = vec![b'a'; BIG_BYTES];
    let new = vec![b'b'; BIG_BYTES];
    home.write("webapps/ROOT/big.bin", &old).unwrap();
    home.write("webapps/ROOT/page.txt", "page").unwrap();
    let serval = Serval::start(&home).unwrap();
    let check = |target: &str, expected: &[u8]| {
        let answer = get(&serval, target);
        assert!(answer.status == 200 && answer.body == expected, "{target}: {} {}", answer.status, answer.body.len());
    };
    check("/big.bin", &old);

    // Replaced, as one should: who has begun gets the old one whole.
    let download = Download::begin(&serval, "/big.bin");
    home.write("next", &new).unwrap();
    fs::rename(home.path("next"), &path).unwrap();
    let (whole, body) = download.end();
    assert!(whole && body == old, "a replaced file: {whole}, {} bytes", body.len());
    check("/big.bin", &new);

    // Removed: the same.
    let download = Download::begin(&serval, "/big.bin");
    fs::remove_file(&path).unwrap();
    let (whole, body) = download.end();
    assert!(whole && body == new, "a removed file: {whole}, {} bytes", body.len());
    refused(&serval, "/big.bin", &[404]);

    // Cut short: what has come is right, and the client sees that it is not all.
    fs::write(&path, &old).unwrap();
    let download = Download::begin(&serval, "/big.bin");
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1000).unwrap();
    let (whole, body) = download.end();
    assert!(!whole && old.starts_with(&body), "a file cut short: {whole}, {} bytes", body.len());
    check("/big.bin", &old[..1000]);

    // Written over in place, or longer: never whole, because nobody knows of which state it is.
    fs::write(&path, &old).unwrap();
    let download = Download::begin(&serval, "/big.bin");
    fs::OpenOptions::new().write(true).open(&path).unwrap().write_all(&new).unwrap();
    let (whole, body) = download.end();
    assert!(!whole, "a file that is written over: {} bytes", body.len());
    check("/big.bin", &new);
    let download = Download::begin(&serval, "/big.bin");
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more").unwrap();
    let (whole, body) = download.end();
    assert!(!whole && new.starts_with(&body), "a file that grows: {whole}, {} bytes", body.len());
    assert_eq!(get(&serval, "/big.bin").body.len(), BIG_BYTES + 4);

    // A file becomes a directory, and a directory a file.
    fs::remove_file(&path).unwrap();
    home.write("webapps/ROOT/big.bin/index.html", "index").unwrap();
    served(&serval, "/big.bin/", "index");
    fs::remove_dir_all(&path).unwrap();
    fs::write(&path, "file").unwrap();
    served(&serval, "/big.bin", "file");
    refused(&serval, "/big.bin/", &[404]);
    served(&serval, "/page.txt", "page");
    assert!(serval.stop().unwrap().success());
}

/// A small file is replaced, written over and removed all the time: each answer is of one state.
#[test]
fn a_small_file_is_of_one_state() {
    let home = Home::new().unwrap();
    home.write("webapps/ROOT/small.txt", "a".repeat(1000)).unwrap();
    let serval = Serval::start(&home).unwrap();
    let (done, rounds) = (AtomicBool::new(false), 2000);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for letter in ["a", "b", "c"].iter().cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                home.write("next", letter.repeat(1000)).unwrap();
                fs::rename(home.path("next"), home.path("webapps/ROOT/small.txt")).unwrap();
            }
        });
        let mut connection = open(&serval);
        for _ in 0..rounds {
            let answer = connection.get("/small.txt").unwrap();
            let first = answer.body.first().copied();
            let is_one = answer.body.len() == 1000 && answer.body.iter().all(|&byte| Some(byte) == first);
            assert!(answer.status == 200 && is_one, "{answer:?}");
        }
        done.store(true, Ordering::Relaxed);
    });
    // What remains at the end is what is served.
    let deadline = Instant::now() + LONG;
    let last = fs::read_to_string(home.path("webapps/ROOT/small.txt")).unwrap();
    while text_of(&get(&serval, "/small.txt")) != last {
        assert!(Instant::now() < deadline, "the last state is not served");
    }
    assert!(serval.stop().unwrap().success());
}
