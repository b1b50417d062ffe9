//! What a webapp is given by name (context parameters, `[env]`, global resources, init parameters), by both files, as a
//! library reads it; and that no value is ever shown to anybody else.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use e2e::http_client::Connection;
use e2e::process;
use e2e::serval::{Home, Serval, binary, repository};

const LONG: Duration = Duration::from_secs(60);

/// The library, compiled once.
fn library() -> &'static [u8] {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    BUILT.get_or_init(|| {
        let home = Home::new().unwrap();
        home.write("values.c", include_str!("values.c")).unwrap();
        let mut command = Command::new("cc");
        command.args(["-std=c99", "-shared", "-fPIC", "-I"]).arg(repository().join("crates/abi/include"));
        command.arg(home.path("values.c")).arg("-o").arg(home.path("values.so"));
        process::run(command, LONG).unwrap();
        fs::read(home.path("values.so")).unwrap()
    })
}

/// A home with a webapp that has the library, for each of these descriptors.
fn home(settings: &str, webapps: &[(&str, &str)]) -> Home {
    let home = Home::new().unwrap();
    home.configure(settings).unwrap();
    for (name, web) in webapps {
        home.write(&format!("webapps/{name}/WEB-INF/lib/values.so"), library()).unwrap();
        home.write(&format!("webapps/{name}/WEB-INF/web.toml"), web).unwrap();
    }
    home
}

/// Asks a context for its values until they are these.
#[track_caller]
fn becomes(serval: &Serval, context: &str, expected: &str) {
    let deadline = Instant::now() + LONG;
    loop {
        let answer = Connection::open(serval.address(), LONG).unwrap().get(&format!("/{context}/values")).unwrap();
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if answer.status == 200 && text == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{} {text}\n{:#?}", answer.status, serval.program().lines_from(0));
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn serval(home: &Home, variable: &str, arguments: &[&str]) -> Output {
    let (command, words) = arguments.split_first().unwrap();
    let mut serval = Command::new(binary().unwrap());
    serval.env(variable, MARKER).env("NO_COLOR", "1").arg(command).arg("--home").arg(home.path("")).args(words);
    serval.output().unwrap()
}

fn check(home: &Home) -> (bool, String) {
    let output = serval(home, "UNUSED", &["check"]);
    (output.status.success(), String::from_utf8_lossy(&output.stderr).replace(home.path("").to_str().unwrap(), ""))
}

#[test]
fn each_context_and_each_generation_has_its_own() {
    let settings = r#"
        [resources]
        database = "the database"
        unused = "nobody's"
        [[host]]
        [[host.context]]
        path = "/a"
        [host.context.params]
        currency = "CHF"
        [host.context.env]
        mail = "a's by the server"
        db = { resource = "database" }
    "#;
    let web = "[params]\ncurrency = \"EUR\"\nown = \"1\"\n[env]\nmail = \"own\"\n";
    let linked =
        format!("{web}db = {{ resource = \"database\" }}\n[[servlet]]\nname = \"values\"\ninit = {{ key = \"k\" }}\n");
    let home = home(settings, &[("a", web), ("b", &linked)]);
    assert_eq!(check(&home), (true, String::new()));
    let serval = Serval::start(&home).unwrap();
    let of_a = "currency=CHF\nown=1\ndb: the database\nmail: a's by the server\n";
    becomes(&serval, "a", of_a);
    becomes(&serval, "b", "currency=EUR\nown=1\ndb: the database\nmail: own\nkey k\n");
    home.write("webapps/b/WEB-INF/web.toml", "[params]\nnext = \"2\"\n[env]\ndatabase = { resource = \"unused\" }\n")
        .unwrap();
    becomes(&serval, "b", "next=2\ndatabase: nobody's\n");
    becomes(&serval, "a", of_a);
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_link_to_nothing_refuses_the_generation() {
    let settings = "[resources]\ndatabase = \"d\"\n";
    let home =
        home(settings, &[("good", "[env]\ndb = { resource = \"database\" }"), ("reloaded", "[env]\ndb = \"1\"")]);
    let wrong = "[env]\ndb = { resource = \"databse\" }\n";
    home.write("webapps/wrong/WEB-INF/web.toml", wrong).unwrap();
    let why = "webapps/wrong/WEB-INF/web.toml:2:19: `resource` in [env.db]: `databse` is not in [resources] of server.toml; \
               did you mean `database`?";
    assert_eq!(check(&home), (false, format!("{why}\n")));
    let serval = Serval::start(&home).unwrap();
    serval.wait_for_log(why, LONG).unwrap();
    becomes(&serval, "good", "db: d\n");
    becomes(&serval, "reloaded", "db: 1\n");
    home.write("webapps/reloaded/WEB-INF/web.toml", wrong).unwrap();
    let line = serval.wait_for_log("the new generation is refused", LONG).unwrap();
    assert!(line.contains("did you mean `database`?") && line.contains("generation 1 serves on"), "{line}");
    becomes(&serval, "reloaded", "db: 1\n");
    assert!(serval.stop().unwrap().success());
}

#[test]
fn a_secret_that_cannot_be_read_says_why() {
    let home = home("", &[]);
    home.write("webapps/x/WEB-INF/binary", [0xff]).unwrap();
    home.write("webapps/x/WEB-INF/large", vec![b'x'; 100_000]).unwrap();
    let names = ["none", "lib", "binary", "large"];
    fs::create_dir(home.path("webapps/x/WEB-INF/lib")).unwrap();
    let values = names.map(|name| format!("{name} = \"${{file:{name}}}\"\n"));
    home.write("webapps/x/WEB-INF/web.toml", format!("[env]\n{}", values.concat())).unwrap();
    let (good, said) = check(&home);
    assert!(!good);
    let expected = [
        ":2:8: `webapps/x/WEB-INF/none` cannot be read (No such file or directory (os error 2)); create it, or correct the path",
        ":3:7: `webapps/x/WEB-INF/lib` is not a file; name a file with the value in it",
        ":4:10: `webapps/x/WEB-INF/binary` is not UTF-8; name a text file",
        ":5:9: `webapps/x/WEB-INF/large` is larger than 64KiB; name a file with nothing but the value in it",
    ];
    assert_eq!(
        said.lines().map(|line| line.replacen("webapps/x/WEB-INF/web.toml", "", 1)).collect::<Vec<_>>(),
        expected
    );
}

const MARKER: &str = "s3cr3t-m4rk3r";
/// Holds `MARKER`, as a file of the home does.
const VARIABLE: &str = "SERVAL_TEST_MARKER";

/// Nobody has said or written the secret.
#[track_caller]
fn is_hidden(what: &str, bytes: &[u8]) {
    let found = bytes.windows(MARKER.len()).any(|window| window.eq_ignore_ascii_case(MARKER.as_bytes()));
    assert!(!found, "{what} shows the secret: {}", String::from_utf8_lossy(bytes));
}

fn nothing_below_has_it(folder: &Path) {
    // What the server removes meanwhile is not there.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => nothing_below_has_it(&path),
            false => is_hidden(&path.display().to_string(), &fs::read(&path).unwrap_or_default()),
        }
    }
}

/// A value of each kind that nobody but the webapp reads, by both ways.
const GOOD_WEB: &str = r#"
display_name = "BY_FILE"
[params]
file = "BY_FILE"
variable = "BY_VARIABLE"
[env]
db = "postgres://shop:BY_FILE@db/shop"
mail = "BY_VARIABLE"
database = { resource = "database" }
[[servlet]]
name = "values"
init = { key = "BY_VARIABLE and BY_FILE" }
[build]
command = ["true", "BY_FILE", "BY_VARIABLE"]
"#;

const GOOD_SERVER: &str = r#"
[log]
level = "trace"
[build]
sources = true
[resources]
database = "BY_FILE"
other = "BY_VARIABLE"
[[host]]
[[host.context]]
path = "/good"
[host.context.params]
first = "BY_FILE and BY_VARIABLE"
[host.context.env]
unused = { resource = "other" }
mail = "BY_FILE"
"#;

/// Each is wrong, in a way that makes a message, and some of them nearly right.
const BAD_WEB: &str = r#"
welcome_files = ["/WRONG"]
params = "WRONG"
display_name = ["WRONG"]
[env]
a = { resource = "WRONG" }
[mime]
x = "WRONG"
[build]
command = "WRONG"
[[servlet]]
name = "WRONG"
url_patterns = ["WRONG", "/WRONG", "/{WRONG}/{WRONG}", "*.WRONG/"]
load_on_startup = "WRONG"
multipart = "WRONG"
async_timeout = "WRONG"
enabled = "WRONG"
[[servlet]]
name = "WRONG"
url_patterns = ["/WRONG"]
[[filter]]
name = "WRONG"
order = "WRONG"
dispatchers = ["WRONG"]
url_patterns = ["/{WRONG}"]
[session]
timeout = "WRONG"
cookie_name = "WRONG;"
cookie_path = "WRONG"
cookie_domain = "-WRONG"
secure = "WRONG"
same_site = "WRONG"
[multipart]
file_bytes_max = "WRONG"
[files]
writable = "WRONG"
precompressed = ["WRONG", "gzip=WRONG"]
fallback = "/WRONG"
[[files.cache_control]]
url_patterns = ["WRONG"]
types = ["WRONG"]
value = "WRONG\u0000"
[compression]
codings = ["WRONG"]
[redirects]
status = "WRONG"
"#;

const BAD_SERVER: &str = r#"
resources = "WRONG"
[server]
io_threads = "WRONG"
shutdown_timeout = "WRONG"
[log]
level = "WRONG"
format = "WRONG"
[access_log]
pattern = "%{WRONG}t"
file = "/WRONG"
rotate_bytes = "WRONG"
[defaults.context]
workers_max = "WRONG"
compression = ["WRONG"]
[defaults.context.remote_ip]
internal_proxies = ["WRONG"]
remote_ip_header = "WRONG:"
[[listener]]
address = "localhost:WRONG"
encoded_slash = "WRONG"
relaxed_path_chars = "WRONG"
proxy_name = "WRONG:80"
[[host]]
name = "WRONG:80"
aliases = ["WRONG", "WRONG"]
webapps = "WRONG"
[[host.context]]
path = "WRONG"
[[host.context]]
path = "/WRONG"
[[host.context]]
path = "/WRONG"
webapp = "../WRONG"
[host.context.env]
a = { resource = "WRONG" }
"#;

#[test]
fn secrets_are_never_shown() {
    let home = home("", &[]);
    home.write("secret", format!("{MARKER}\n")).unwrap();
    let by_file = format!("${{file:{}}}", home.path("secret").display());
    let by_variable = format!("${{env:{VARIABLE}}}");
    let fill = |text: &str| text.replace("BY_FILE", &by_file).replace("BY_VARIABLE", &by_variable);
    let bad = |text: &str, by: &str| text.replace("WRONG", by);

    home.write("webapps/good/WEB-INF/lib/values.so", library()).unwrap();
    home.write("webapps/good/WEB-INF/src/any", "a source, so that there is a build").unwrap();
    home.write("webapps/good/WEB-INF/web.toml", fill(GOOD_WEB)).unwrap();
    home.write("webapps/bad-file/WEB-INF/web.toml", bad(BAD_WEB, &by_file)).unwrap();
    home.write("webapps/bad-variable/WEB-INF/web.toml", bad(BAD_WEB, &by_variable)).unwrap();
    home.configure(&fill(GOOD_SERVER)).unwrap();
    let library = home.path("webapps/good/WEB-INF/lib/values.so");

    let look = |arguments: &[&str], expected: &str| {
        let output = serval(&home, VARIABLE, arguments);
        let said = [output.stdout, output.stderr].concat();
        is_hidden(&arguments.join(" "), &said);
        assert!(String::from_utf8_lossy(&said).contains(expected), "{arguments:?} {}", String::from_utf8_lossy(&said));
    };
    look(&["check"], "bad-variable/WEB-INF/web.toml:2:18");
    look(&["explain", "GET", "/good/values"], "by the servlet values");
    look(&["explain", "--json", "GET", "/bad-file/values"], "");
    let output = Command::new(binary().unwrap()).arg("inspect").arg(&library).output().unwrap();
    is_hidden("inspect", &[output.stdout, output.stderr].concat());

    let running = Serval::start_with(&home, VARIABLE, MARKER).unwrap();
    let m = MARKER;
    let expected = format!(
        "first={m} and {m}\nfile={m}\nvariable={m}\ndb: postgres://shop:{m}@db/shop\nmail: {m}\ndatabase: {m}\nunused: {m}\nkey {m} and {m}\n"
    );
    becomes(&running, "good", &expected);
    running.wait_for_log("bad-file/WEB-INF/web.toml:2:18", LONG).unwrap();
    running.wait_for_log("bad-variable/WEB-INF/web.toml:2:18", LONG).unwrap();
    home.write("webapps/good/WEB-INF/web.toml", bad(BAD_WEB, &by_file)).unwrap();
    running.wait_for_log("the new generation is refused", LONG).unwrap();
    nothing_below_has_it(&home.path("var"));
    let lines = running.stop_and_read().unwrap().join("\n");
    assert!(lines.contains("TRACE"), "the log is at its most talkative");
    is_hidden("run", lines.as_bytes());
    nothing_below_has_it(&home.path("var"));

    for by in [by_file, by_variable] {
        home.write("conf/server.toml", bad(BAD_SERVER, &by)).unwrap();
        for command in ["check", "run"] {
            look(&[command], "conf/server.toml:4:14");
        }
        look(&["explain", "GET", "/good/values"], "conf/server.toml:4:14");
    }
}
