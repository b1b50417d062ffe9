//! `[multipart]` of web.toml: the limits of uploads, and what becomes of them with the settings of the context.
//!
//! A servlet reads multipart bodies if its library says so, or `multipart = true` in `[[servlet]]`, or `everywhere`.

use crate::context_settings::{ContextSettings, PART_COUNT_MAX, PART_MEMORY_BYTES_MAX, UPLOAD_BYTES_MAX};
use crate::raw::Table;
use crate::web::Web;

/// Holds `[multipart]` as it is written. None: not said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WebMultipart {
    /// Servlets that do not say themselves whether they take multipart bodies do; default false.
    pub everywhere: bool,
    /// Bytes of one file, up to 1 TiB.
    pub file_bytes_max: Option<u64>,
    /// Bytes of a whole body, up to 1 TiB.
    pub request_bytes_max: Option<u64>,
    /// Bytes of a part up to which it stays in memory, up to 16 MiB.
    pub memory_bytes_max: Option<usize>,
    /// Parts of a body, 1 to 10000.
    pub part_count_max: Option<usize>,
}

/// The limits of `multipart/form-data` bodies. Those of other bodies, and of parameters, hold too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MultipartSettings {
    /// Bytes of one file, 0 to 1 TiB; default 100 MiB. More is 413.
    pub file_bytes_max: u64,
    /// Bytes of a whole body, 0 to 1 TiB; default 256 MiB. More is 413.
    pub request_bytes_max: u64,
    /// Bytes of a part up to which it stays in memory, 0 to 16 MiB; default 64 KiB. A longer one is spilled to a file.
    pub memory_bytes_max: usize,
    /// Parts of a body, 1 to 10000; default 50. More is 413.
    pub part_count_max: usize,
    /// Bytes of one part's headers, 256 B to 64 KiB; default 2 KiB. More is 413.
    pub part_header_bytes_max: usize,
}

impl Web {
    /// Returns the limits of uploads: as this descriptor says, else as the context's settings say.
    pub fn multipart_settings(&self, defaults: &ContextSettings) -> MultipartSettings {
        let multipart = &self.multipart;
        MultipartSettings {
            file_bytes_max: multipart.file_bytes_max.unwrap_or(defaults.file_bytes_max),
            request_bytes_max: multipart.request_bytes_max.unwrap_or(defaults.multipart_bytes_max),
            memory_bytes_max: multipart.memory_bytes_max.unwrap_or(defaults.part_memory_bytes_max),
            part_count_max: multipart.part_count_max.unwrap_or(defaults.part_count_max),
            part_header_bytes_max: defaults.part_header_bytes_max,
        }
    }
}

pub(crate) fn multipart(top: &Table<'_, '_>) -> WebMultipart {
    let Some(table) = top.table("multipart") else { return WebMultipart::default() };
    let d = ContextSettings::default();
    let multipart = WebMultipart {
        everywhere: table.flag("everywhere", false),
        file_bytes_max: table.given("file_bytes_max", |key| table.bytes(key, d.file_bytes_max, 0..=UPLOAD_BYTES_MAX)),
        request_bytes_max: table
            .given("request_bytes_max", |key| table.bytes(key, d.multipart_bytes_max, 0..=UPLOAD_BYTES_MAX)),
        memory_bytes_max: table.given("memory_bytes_max", |key| {
            table.bytes(key, d.part_memory_bytes_max as u64, 0..=PART_MEMORY_BYTES_MAX) as usize
        }),
        part_count_max: table
            .given("part_count_max", |key| table.count(key, d.part_count_max as u64, 1..=PART_COUNT_MAX) as usize),
    };
    table.finish();
    multipart
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::tests::{check, load};

    #[test]
    fn what_is_said_goes_before_the_defaults() {
        let defaults = ContextSettings { part_header_bytes_max: 300, part_count_max: 3, ..ContextSettings::default() };
        let settings = |toml: &str| load(toml).unwrap().multipart_settings(&defaults);
        let mut expected = MultipartSettings {
            file_bytes_max: 100 << 20,
            request_bytes_max: 256 << 20,
            memory_bytes_max: 64 << 10,
            part_count_max: 3,
            part_header_bytes_max: 300,
        };
        assert_eq!(settings("[multipart]"), expected);
        expected.file_bytes_max = 1 << 40;
        assert_eq!(settings("[multipart]\nfile_bytes_max = \"1TiB\""), expected);
        let all = "file_bytes_max = 1\nrequest_bytes_max = \"2KiB\"\nmemory_bytes_max = 0\npart_count_max = 4";
        (expected.file_bytes_max, expected.request_bytes_max) = (1, 2048);
        (expected.memory_bytes_max, expected.part_count_max) = (0, 4);
        assert_eq!(settings(&format!("[multipart]\n{all}")), expected);
    }

    #[test]
    fn problems() {
        check(
            r#"
[multipart]
file_bytes_max = "2TiB"
request_bytes_max = "2MB"
memory_bytes_max = "17MiB"
part_count_max = 0
part_header_bytes_max = 1
----
web.toml:3:18: `file_bytes_max` in [multipart]: `2TiB` is out of bounds; write 0B to 1TiB, as in `file_bytes_max = "100MiB"`
web.toml:4:21: `request_bytes_max` in [multipart]: `2MB` is not a byte size; write for example `request_bytes_max = "256MiB"`
web.toml:5:20: `memory_bytes_max` in [multipart]: `17MiB` is out of bounds; write 0B to 16MiB, as in `memory_bytes_max = "64KiB"`
web.toml:6:18: `part_count_max` in [multipart]: `0` is out of bounds; write 1 to 10000, as in `part_count_max = 50`
web.toml:7:1: unknown key `part_header_bytes_max` in [multipart]; its keys are `everywhere`, `file_bytes_max`, `request_bytes_max`, `memory_bytes_max`, `part_count_max`
"#,
        );
    }
}
