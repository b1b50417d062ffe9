//! `[archives]` of server.toml: what the archive of a webapp may cost; and `deploy_ignore` of a host. Used by `server`.

use glob::Pattern;

use crate::raw::Table;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Holds `[archives]`: an archive that needs more is refused before anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Archives {
    /// Bytes of all its files, unpacked, 1 MiB to 1 TiB; default 2 GiB.
    pub bytes_max: u64,
    /// How many times longer they may be than the archive, 1 to 10000; default 200.
    pub ratio_max: u64,
    /// Its files and folders, 1 to 1000000; default 50000.
    pub entry_count_max: usize,
    /// Folders in each other, with the file in them, 1 to 500; default 50.
    pub depth_max: usize,
}

impl Default for Archives {
    fn default() -> Self {
        Self { bytes_max: 2 * GIB, ratio_max: 200, entry_count_max: 50_000, depth_max: 50 }
    }
}

impl Archives {
    pub(crate) fn read(table: &Table<'_, '_>) -> Archives {
        let d = Archives::default();
        Archives {
            bytes_max: table.bytes("bytes_max", d.bytes_max, MIB..=1024 * GIB),
            ratio_max: table.count("ratio_max", d.ratio_max, 1..=10_000),
            entry_count_max: table.count("entry_count_max", d.entry_count_max as u64, 1..=1_000_000) as usize,
            depth_max: table.count("depth_max", d.depth_max as u64, 1..=500) as usize,
        }
    }
}

/// Returns `deploy_ignore` of a host: patterns of names that are no webapps.
pub(crate) fn deploy_ignore(table: &Table<'_, '_>) -> Vec<Pattern> {
    let mut patterns = Vec::new();
    for text in table.texts("deploy_ignore", "[\"*.bak\"]").unwrap_or_default() {
        match Pattern::new(&text.value) {
            Ok(pattern) if !text.value.is_empty() && !text.value.contains('/') => patterns.push(pattern),
            _ => table.wrong(
                &text,
                "deploy_ignore",
                "is no pattern of names",
                "write a name in which `*` stands for any characters, `?` for one and `[ab]` for one of them, as in `*.bak`",
            ),
        }
    }
    patterns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::{check, good, load};

    #[test]
    fn what_is_set() {
        let server = good(
            "[archives]\nbytes_max = \"1MiB\"\nratio_max = 1\nentry_count_max = 2\ndepth_max = 3\n\
             [[host]]\ndeploy_ignore = [\"*.bak\", \"old-?\"]\nundeploy_old_versions = true\n",
        );
        assert_eq!(server.archives, Archives { bytes_max: MIB, ratio_max: 1, entry_count_max: 2, depth_max: 3 });
        let host = &server.hosts[0];
        assert!(host.undeploy_old_versions);
        let ignored = ["a.bak", "old-1", "old", "a"].map(|name| host.ignores(name));
        assert_eq!(ignored, [true, true, false, false]);
    }

    #[test]
    fn what_is_no_pattern() {
        for pattern in ["", "[", "a***"] {
            let problem = load(format!("[[host]]\ndeploy_ignore = [\"{pattern}\"]\n").as_bytes()).unwrap_err();
            assert!(problem.contains("is no pattern of names"), "{problem}");
        }
        check(
            "[[host]]
deploy_ignore = [\"a/b\"]
----
server.toml:2:18: `deploy_ignore` in [[host]]: `a/b` is no pattern of names; write a name in which `*` stands for any characters, `?` for one and `[ab]` for one of them, as in `*.bak`",
        );
    }
}
