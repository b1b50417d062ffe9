//! The command line from outside: what it says, where, and with which exit status.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

const SERVAL: &str = env!("CARGO_BIN_EXE_serval");

fn home(server_toml: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir_all(home.path().join("webapps")).unwrap();
    fs::create_dir_all(home.path().join("conf")).unwrap();
    fs::write(home.path().join("conf/server.toml"), server_toml).unwrap();
    home
}

fn serval(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(SERVAL).current_dir(folder).args(arguments).output().unwrap()
}

/// What a command says on its error stream, and that it fails with this status.
#[track_caller]
fn fails(output: Output, code: i32, says: &str) {
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(says), "{said}");
    assert_eq!(output.stdout, b"", "{said}");
}

/// A server that is ready; killed when dropped.
struct Running(Child, String);

impl Running {
    fn start(command: &mut Command) -> Running {
        let child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut running = Running(child, String::new());
        for line in BufReader::new(running.0.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(address) = line.strip_prefix("listening on http://") {
                address.clone_into(&mut running.1);
            }
            if line.starts_with("ready in ") {
                return running;
            }
        }
        panic!("it ended before it was ready");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.0.id().cast_signed()).unwrap(), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const ANY_PORT: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\n";

#[test]
fn an_empty_folder_is_no_home() {
    let folder = tempfile::tempdir().unwrap();
    for command in [&[][..], &["run"], &["check"]] {
        fails(
            serval(folder.path(), command),
            1,
            "start serval in a folder that has conf/server.toml, or name one with",
        );
    }
}

#[test]
fn check_says_what_is_wrong_and_where() {
    let wrong = home("[[listener]]\nadress = \"127.0.0.1:0\"\n");
    for command in ["check", "run"] {
        let expected = "conf/server.toml:2:1: unknown key `adress` in [[listener]]; did you mean `address`?\n";
        fails(serval(wrong.path(), &[command]), 1, expected);
    }
    let right = home(ANY_PORT);
    let file = right.path().join("conf/server.toml");
    let output = serval(Path::new("/"), &["check", "--config", file.to_str().unwrap()]);
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}: ok\n", file.display()));
    assert_eq!(output.stderr, b"");
    assert!(!right.path().join("var").exists(), "a check leaves nothing behind");
}

#[test]
fn check_reads_each_webapps_descriptor() {
    let home = home(&format!("{ANY_PORT}[[host]]\n[[host.context]]\npath = \"/far\"\nwebapp = \"../else/far\"\n"));
    let write = |webapp: &str, toml: &str| {
        let inside = home.path().join(webapp).join("WEB-INF");
        fs::create_dir_all(&inside).unwrap();
        fs::write(inside.join("web.toml"), toml).unwrap();
    };
    write("webapps/good", "");
    // Never a webapp.
    write("webapps/.hidden", "wrong");
    write("else/far", "[session]\ntimeot = \"1m\"\n");
    write("webapps/shop", "[[filter]]\n");
    fs::write(home.path().join("webapps/readme.txt"), "").unwrap();
    fs::create_dir(home.path().join("webapps/static")).unwrap();
    let output = serval(home.path(), &["check"]);
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    let [first, second] = lines[..] else { panic!("{said}") };
    let far = "/webapps/../else/far/WEB-INF/web.toml:2:1: unknown key `timeot` in [session]; did you mean `timeout`?";
    let shop =
        "/webapps/shop/WEB-INF/web.toml:1:1: [[filter]] has no `name`; write the declared one, as in `name = \"log\"`";
    assert!(first.ends_with(far) && second.ends_with(shop), "{said}");
    fails(output, 1, "");
    write("webapps/shop", "");
    write("else/far", "");
    let output = serval(home.path(), &["check"]);
    assert!(output.status.success());
    let shown = home.path().display();
    let expected = ["conf/server.toml", "webapps/../else/far/WEB-INF/web.toml", "webapps/good/WEB-INF/web.toml"];
    let expected = expected.map(|file| format!("{shown}/{file}: ok\n")).concat();
    let expected = format!("{expected}{shown}/webapps/shop/WEB-INF/web.toml: ok\n");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

#[test]
fn what_is_most_often_not_meant_is_a_warning_in_check() {
    let home = home(&format!(
        "{ANY_PORT}[access_log]\npattern = \"%h %Q\"\n[[host]]\n[[host.context]]\npath = \"/shop\"\nwebapp = \"shoppe\"\n"
    ));
    let inside = home.path().join("webapps/site/WEB-INF");
    fs::create_dir_all(&inside).unwrap();
    fs::create_dir(home.path().join("webapps/a##")).unwrap();
    let toml = "[files]\nfallback = \"app.html\"\n[[files.cache_control]]\nurl_patterns = [\"/a/*\", \"*.js\", \"/b/**\"]\n\
                value = \"public\"\n[[servlet]]\nname = \"more\"\nclass = \"default\"\ninit = { listings = \"true\" }\n\
                [[servlet]]\nname = \"cart\"\n";
    fs::write(inside.join("web.toml"), toml).unwrap();
    let output = serval(home.path(), &["check"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    for expected in [
        "server.toml:4: `pattern` in [access_log]: `%Q` stands for nothing, so each line will have `???Q???`",
        "/shoppe\" is not served: server.toml names it, and there is no such folder; make it, or name another one as `webapp`",
        "/a##\" is not served: no request could name it: nothing follows its `##`",
        "web.toml:2: `fallback` in [files]: there is no `app.html` in the webapp",
        "web.toml:4: `url_patterns` in [[files.cache_control]]: `/b/**` is only the path of these letters",
        "web.toml:9: `init` of the servlet `more`: the files have none; the keys of [files] say how they are served",
        "web.toml:6: the servlet `more` has no `url_patterns`, so it serves nothing",
        "web.toml:10: no library declares `cart`",
    ] {
        assert!(
            said.lines().any(|line| line.starts_with("warning: ") && line.contains(expected)),
            "{expected}\n{said}"
        );
    }
}

#[test]
fn a_used_port_is_a_warning_in_check_and_an_error_at_start() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let home = home(&format!("[[listener]]\naddress = \"{address}\"\n"));
    let check = serval(home.path(), &["check"]);
    assert!(check.status.success());
    let said = String::from_utf8(check.stderr).unwrap();
    assert!(said.starts_with(&format!("warning: {address} is in use by another program")), "{said}");
    fails(serval(home.path(), &["run"]), 1, &format!("{address} is in use by another program: stop that one, or "));
}

#[test]
fn a_home_has_one_server() {
    let home = home(ANY_PORT);
    let first = Running::start(Command::new(SERVAL).current_dir(home.path()));
    fails(serval(home.path(), &["run"]), 1, &format!("(process {}): stop that one first", first.0.id()));
    drop(first);
    // A killed one leaves nothing that the next would trip over.
    Running::start(Command::new(SERVAL).current_dir(home.path()));
}

#[test]
fn a_var_that_cannot_be_written_is_said() {
    let home = home(&format!("[server]\nvar = \"file\"\n{ANY_PORT}"));
    fs::write(home.path().join("file"), "").unwrap();
    fails(
        serval(home.path(), &["run"]),
        1,
        "server.toml:2:7: `var` in [server]: `file` is a file, but a folder is needed",
    );
    // No user may make folders there, root neither.
    fs::write(home.path().join("conf/server.toml"), format!("[server]\nvar = \"/proc/var\"\n{ANY_PORT}")).unwrap();
    let expected = "/proc/var cannot be written: No such file or directory (os error 2); make it a folder that Serval may \
                    write, or name another one as `var` in [server]";
    fails(serval(home.path(), &["run"]), 1, expected);
}

#[test]
fn few_file_handles_are_enough_or_a_sentence() {
    let home = home(ANY_PORT);
    let limited = |files: u32| {
        let mut command = Command::new("sh");
        command.current_dir(home.path()).args(["-c", &format!("ulimit -n {files} && exec {SERVAL}")]);
        command
    };
    // Enough to start, and far too few for connections_max.
    drop(Running::start(&mut limited(40)));
    fails(limited(6).output().unwrap(), 1, "Too many open files");
}

#[test]
fn a_stop_ends_idle_connections_and_succeeds() {
    let home = home(ANY_PORT);
    let mut running = Running::start(Command::new(SERVAL).current_dir(home.path()));
    let _idle = std::net::TcpStream::connect(&running.1).unwrap();
    running.signal(Signal::TERM);
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_now() {
    let home = home(&format!("[server]\nshutdown_timeout = \"1h\"\n{ANY_PORT}"));
    fs::create_dir(home.path().join("webapps/ROOT")).unwrap();
    fs::File::create(home.path().join("webapps/ROOT/big")).unwrap().set_len(1 << 30).unwrap();
    let mut running = Running::start(Command::new(SERVAL).current_dir(home.path()));
    // A download that nobody reads on is waited for.
    let mut open = std::net::TcpStream::connect(&running.1).unwrap();
    open.write_all(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut first = [0; 15];
    open.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    running.signal(Signal::TERM);
    // Two that come before the first has been seen are one.
    while running.0.try_wait().unwrap().is_none() {
        running.signal(Signal::TERM);
        std::thread::yield_now();
    }
    assert_eq!(running.0.wait().unwrap().code(), Some(3));
}

/// It waits for the end of its input.
#[test]
fn what_reads_a_stack_is_bounded_and_leaves_no_core() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.current_dir(folder.path()).args(["-c", &format!("ulimit -c unlimited; exec {SERVAL} stack 1 1")]);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let is_bounded = |line: &str| line.starts_with("Max data size ") && line.contains(" 2147483648 ");
    let ended = (0..20).find_map(|_| {
        let mut running = Running(command.spawn().unwrap(), String::new());
        let limits = format!("/proc/{}/limits", running.0.id());
        while !fs::read_to_string(&limits).unwrap_or_default().lines().any(is_bounded) {
            // On a busy machine it may not come so far in the time that it has.
            if let Some(ended) = running.0.try_wait().unwrap() {
                assert_eq!(ended.code(), Some(1));
                return None;
            }
            std::thread::yield_now();
        }
        running.signal(Signal::ABORT);
        Some(running.0.wait().unwrap()).filter(|ended| ended.code() != Some(1))
    });
    let ended = ended.expect("it comes so far in one of many tries");
    assert!(ended.signal().is_some() && !ended.core_dumped(), "{ended:?}");
}

#[test]
fn inspect_of_what_is_no_library() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.so"), "text").unwrap();
    fails(serval(folder.path(), &["inspect", "x.so"]), 1, "x.so: it is not an ELF file");
    fails(serval(folder.path(), &["inspect", "y.so"]), 1, "y.so: cannot be read");
    fails(serval(folder.path(), &["inspekt"]), 2, "unrecognized subcommand 'inspekt'");
}

#[test]
fn inspect_shows_a_library_without_its_init() {
    let folder = tempfile::tempdir().unwrap();
    let source = r#"
#include "servlet.h"
#include <stdlib.h>
static sv_status init(const sv_host *host, sv_context *context, void **module, sv_str *error) {
    (void)host; (void)context; (void)module; (void)error;
    abort();
}
static sv_status service(void *servlet, sv_exchange *exchange, void **task) {
    (void)servlet; (void)exchange; (void)task;
    return SV_OK;
}
static const sv_str patterns[] = {SV_STR("/a"), SV_STR("*.b")};
static const sv_pair parameters[] = {{SV_STR("colour"), SV_STR("blue")}};
static const sv_servlet first = {.struct_size = sizeof(sv_servlet), .flags = SV_NONBLOCKING, .name = SV_STR("first"),
    .patterns = patterns, .pattern_count = 2, .init = parameters, .init_count = 1, .service = service};
static const sv_servlet *const servlets[] = {&first};
static const sv_filter guard = {.struct_size = sizeof(sv_filter), .name = SV_STR("guard")};
static const sv_filter *const filters[] = {&guard};
static const sv_module shown = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR, .name = SV_STR("shown"), .version = SV_STR("1.2.3"), .built_with = SV_STR("cc"),
    .init = init, .servlets = servlets, .servlet_count = 1, .filters = filters, .filter_count = 1};
const sv_module *servlet_module_v1(void) { return &shown; }
"#;
    fs::write(folder.path().join("shown.c"), source).unwrap();
    let built = Command::new("cc")
        .current_dir(folder.path())
        .args(["-std=c99", "-shared", "-fPIC", "-fvisibility=hidden", "-I"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../abi/include"))
        .args(["-o", "shown.so", "shown.c"])
        .status();
    assert!(built.expect("this test needs cc").success());
    let output = serval(folder.path(), &["inspect", "shown.so"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "shown 1.2.3\n  \
           ABI         1.0\n  \
           built with  cc\n  \
           needs       libc.so.6\n\
         servlet first at \"/a\", \"*.b\" (non-blocking)\n  \
           load order  0\n  \
           init colour = \"blue\"\n\
         filter guard without a map (promises nothing)\n  \
           dispatches  REQUEST\n  \
           order       0\n  \
           hooks       none\n"
    );
}

/// Libraries find the libc hooks of the program in place of libc's own, and no other name of it in place of theirs.
#[test]
fn the_libc_hooks_are_exported_and_nothing_else() {
    let output =
        Command::new("nm").args(["-D", "--defined-only", SERVAL]).output().expect("nm comes with a C compiler");
    let text = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next_back()).collect();
    assert_eq!(names, ["__cxa_thread_atexit_impl", "pthread_create", "pthread_key_create", "pthread_key_delete"]);

    let home = home(ANY_PORT);
    let log = home.path().join("log");
    let mut command = Command::new("sh");
    command.current_dir(home.path()).args(["-c", &format!("exec {SERVAL} 2>log")]);
    drop(Running::start(&mut command));
    let said = fs::read_to_string(log).unwrap();
    let said: Vec<&str> = said.lines().filter(|line| !line.contains("Serval runs as root")).collect();
    assert_eq!(said, Vec::<&str>::new(), "the self-test, and the start, have nothing to say");
}
