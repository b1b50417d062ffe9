//! The SDK that `serval` carries: unpacked into `var/sdk/<version>`, where the manifests of webapps look for it.

use std::io;
use std::path::{Path, PathBuf};

macro_rules! files {
    ($($path:literal,)*) => {
        /// Each file under `crates/` that building a webapp needs, with its text.
        const FILES: &[(&str, &str)] = &[$(($path, include_str!(concat!("../../", $path)))),*];
    };
}

files![
    "abi/Cargo.toml",
    "abi/include/servlet.h",
    "abi/include/servlet.hpp",
    "abi/src/lib.rs",
    "macros/Cargo.toml",
    "macros/src/declaration.rs",
    "macros/src/filter.md",
    "macros/src/filter.rs",
    "macros/src/function.rs",
    "macros/src/lib.rs",
    "macros/src/servlet.md",
    "macros/src/words.rs",
    "macros/src/wrong.rs",
    "servlet/Cargo.toml",
    "servlet/build.rs",
    "servlet/src/background.rs",
    "servlet/src/body.rs",
    "servlet/src/broadcast.rs",
    "servlet/src/context.rs",
    "servlet/src/cookie.rs",
    "servlet/src/decode.rs",
    "servlet/src/dispatch.rs",
    "servlet/src/error.rs",
    "servlet/src/events.rs",
    "servlet/src/failed.rs",
    "servlet/src/filter.rs",
    "servlet/src/form.rs",
    "servlet/src/glue.rs",
    "servlet/src/handler.rs",
    "servlet/src/hooks.rs",
    "servlet/src/host.rs",
    "servlet/src/host/context.rs",
    "servlet/src/host/data.rs",
    "servlet/src/host/dispatching.rs",
    "servlet/src/host/waiting.rs",
    "servlet/src/html.rs",
    "servlet/src/job.rs",
    "servlet/src/json.rs",
    "servlet/src/lib.rs",
    "servlet/src/listener.rs",
    "servlet/src/log.rs",
    "servlet/src/log_adapter.rs",
    "servlet/src/method.rs",
    "servlet/src/module.rs",
    "servlet/src/multipart.rs",
    "servlet/src/request.rs",
    "servlet/src/response.rs",
    "servlet/src/runtime.rs",
    "servlet/src/session.rs",
    "servlet/src/stream.rs",
    "servlet/src/task.rs",
    "servlet/src/test/answer.rs",
    "servlet/src/test/call.rs",
    "servlet/src/test/exchange/input.rs",
    "servlet/src/test/exchange/mod.rs",
    "servlet/src/test/exchange/output.rs",
    "servlet/src/test/exchange/serve.rs",
    "servlet/src/test/mapping.rs",
    "servlet/src/test/mod.rs",
    "servlet/src/test/session.rs",
    "servlet/src/test/table/context.rs",
    "servlet/src/test/table/exchange.rs",
    "servlet/src/test/table/mod.rs",
    "servlet/src/test/table/request.rs",
    "servlet/src/test/table/response.rs",
    "servlet/src/test/table/session.rs",
    "servlet/src/test/webapp.rs",
    "servlet/src/time.rs",
    "servlet/src/tls.rs",
    "servlet/src/tracing_adapter.rs",
    "servlet/src/user.rs",
];

/// Where the SDK of this version lies.
pub fn folder(var: &Path) -> PathBuf {
    var.join("sdk").join(env!("CARGO_PKG_VERSION"))
}

/// Writes what differs, so that an unchanged SDK is not built again.
pub fn unpack(var: &Path) -> io::Result<()> {
    for (path, text) in FILES {
        let file = folder(var).join(path);
        if std::fs::read_to_string(&file).is_ok_and(|there| there == *text) {
            continue;
        }
        std::fs::create_dir_all(file.parent().unwrap_or(var))?;
        let unfinished = file.with_extension("unfinished");
        std::fs::write(&unfinished, text)?;
        std::fs::rename(&unfinished, &file)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_file_of_the_sdk_is_carried() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut folders: Vec<PathBuf> =
            ["abi/src", "macros/src", "servlet/src"].iter().map(|f| crates.join(f)).collect();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let path = path.strip_prefix(&crates).unwrap().to_str().unwrap().to_owned();
                    assert!(FILES.iter().any(|(carried, _)| *carried == path), "{path} is not in the list of sdk.rs");
                }
            }
        }
    }
}
