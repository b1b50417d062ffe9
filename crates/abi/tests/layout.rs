//! The C header and its Rust mirror have one layout, and it is the one of the golden file: each size and offset is compared
//! three ways. Needs `cc`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serval_abi::*;

/// Builds the table of all structs: for each its fields in order, its C program, and its layout in Rust.
macro_rules! structs {
    ($($name:ident { $($field:ident),* })*) => {
        fn rust_layout() -> String {
            let mut out = String::new();
            $(
                writeln!(out, "{} {}", stringify!($name), size_of::<$name>()).unwrap();
                $(writeln!(out, "{}.{} {}", stringify!($name), stringify!($field), std::mem::offset_of!($name, $field)).unwrap();)*
            )*
            out
        }

        fn c_program() -> String {
            let mut out = String::from("#include <stdio.h>\n#include \"servlet.h\"\nint main(void) {\n");
            $(
                writeln!(out, "printf(\"{0} %zu\\n\", sizeof({0}));", stringify!($name)).unwrap();
                $(writeln!(out, "printf(\"{0}.{1} %zu\\n\", offsetof({0}, {1}));", stringify!($name), stringify!($field)).unwrap();)*
            )*
            out.push_str("return 0; }\n");
            out
        }
    };
}

#[rustfmt::skip]
structs! {
        sv_str { ptr, len }
        sv_pair { name, value }
        sv_request { struct_size, method, method_name, http_version, dispatch, scheme, server_name, server_port, secure, target, request_uri, query, context_path, servlet_path, path_info, match_kind, reserved, match_pattern, match_value, servlet_name, headers, header_count, content_length, content_type, charset, remote_addr, local_addr, remote_port, local_port, id, connection_id }
        sv_tls { struct_size, certificate_count, certificates, protocol, cipher, server_name }
        sv_part { struct_size, header_count, headers, name, file_name, content_type, path, data, size }
        sv_response { struct_size, status, headers, header_count, body, body_len, body_kind, reserved, release, release_arg }
        sv_cookie { struct_size, flags, name, value, path, domain, max_age, attributes, attribute_count }
        sv_session_info { struct_size, is_new, id, requested_id, requested_by_cookie, requested_by_url, requested_valid, reserved, created, accessed, max_inactive }
        sv_event { struct_size, kind, context, exchange, session, session_id, name, value, old_value }
        sv_host { struct_size, abi_major, abi_minor, server, extension, log_enabled, log_message, report_panic, request, tls, header, parameter, parameters, path_parameter, cookie, cookies, part_count, part, attribute, attributes, set_attribute, principal, in_role, login, logout, read, read_chunk, read_all, request_trailers, respond, set_status, set_header, response_header, response_status, set_content_type, set_charset, set_content_length, set_buffer_size, set_cookie, set_trailer, informational, write, write_owned, flush, reset, reset_buffer, send_error, redirect, committed, encode_url, alloc, error_text, fail, unavailable, dispatch, cancelled, retiring, detach, complete, async_dispatch, set_timeout, waker, waker_clone, waker_wake, waker_drop, session, session_info, session_attribute, session_attributes, session_set_attribute, session_change_id, session_set_max_inactive, session_invalidate, context, context_path, context_parameter, context_parameters, context_folder, context_mime_type, context_resource, context_attribute, context_set_attribute, context_generation, context_post, context_timer }
        sv_config { struct_size, reserved, name, init, init_count }
        sv_servlet { struct_size, flags, flags_required, methods, name, patterns, pattern_count, init, init_count, load_order, reserved, create, destroy, service, poll, drop, last_modified }
        sv_filter { struct_size, flags, flags_required, dispatches, name, patterns, pattern_count, servlets, servlet_count, init, init_count, order, reserved, create, destroy, on_request, on_response, on_body, on_end }
        sv_listener { struct_size, flags, flags_required, kinds, on_event }
        sv_module { magic, struct_size, abi_major, abi_minor, need_minor, reserved, flags, flags_required, name, version, built_with, init, destroy, save, restore, servlets, servlet_count, filters, filter_count, listeners, listener_count, extension }
}

fn include() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("include")
}

#[track_caller]
fn compile(compiler: &str, arguments: &[&str], source: &Path, output: &Path) {
    let result = Command::new(compiler)
        .args(arguments)
        .arg("-I")
        .arg(include())
        .arg("-o")
        .arg(output)
        .arg(source)
        .output()
        .unwrap_or_else(|error| panic!("this test needs `{compiler}`: {error}"));
    assert!(result.status.success(), "{compiler} {arguments:?}:\n{}", String::from_utf8_lossy(&result.stderr));
}

#[test]
fn c_rust_and_the_golden_file_agree() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("layout.c");
    std::fs::write(&source, c_program()).unwrap();
    let program = folder.path().join("layout");
    compile("cc", &["-std=c99"], &source, &program);
    let c = String::from_utf8(Command::new(&program).output().unwrap().stdout).unwrap();
    let rust = rust_layout();
    assert_eq!(c, rust, "servlet.h and src/lib.rs differ");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layout.golden");
    if std::env::var_os("SERVAL_WRITE_GOLDEN").is_some() {
        std::fs::write(&golden, &rust).unwrap();
    }
    let golden = std::fs::read_to_string(&golden).unwrap();
    assert_eq!(rust, golden, "the layout has changed; what was released must not (rules in servlet.h, 6)");
}

#[test]
fn every_struct_of_the_header_is_compared() {
    let layout = rust_layout();
    for line in HEADER.lines() {
        if let Some(name) = line.strip_prefix("typedef struct ").and_then(|rest| rest.strip_suffix(" {")) {
            assert!(layout.contains(&format!("{name} ")), "{name} is not in the table of this test");
        }
    }
}

/// In C; the program `header` of the crate `e2e` does the same in C++, which needs more than a C compiler.
#[test]
fn the_header_stands_alone_in_c() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("h.c");
    std::fs::write(&source, "#include \"servlet.h\"\n").unwrap();
    for standard in ["-std=c99", "-std=c11"] {
        let strict = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-c", standard];
        compile("cc", &strict, &source, &folder.path().join("h.o"));
    }
}
