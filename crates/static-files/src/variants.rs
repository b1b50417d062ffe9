//! The files beside a file that are the same, coded: `app.js.br` for `app.js` (SEMANTICS 14, Tomcat's `precompressed`).
//!
//! Called by `respond`, which answers with what is chosen here in the file's name.

use std::io;

use http::{HeaderMap, HeaderValue};

use crate::coding::preferred;
use crate::file::File;
use crate::folder::Folder;

/// What is sent for a path: its file, or a coded one beside it.
#[derive(Debug)]
pub(crate) struct Representation {
    /// Of it are the media type, the time, and the weak tag, in either case.
    pub(crate) file: File,
    pub(crate) variant: Option<Variant>,
    /// There is a variant, chosen or not, so that another client may get another answer.
    pub(crate) varies: bool,
}

#[derive(Debug)]
pub(crate) struct Variant {
    /// For Content-Encoding.
    pub(crate) coding: HeaderValue,
    pub(crate) file: File,
}

/// A coding that files beside others may have.
#[derive(Debug)]
pub(crate) struct Format {
    /// In lower case.
    coding: String,
    value: HeaderValue,
    /// With its dot.
    extension: String,
}

impl Format {
    /// # Errors
    ///
    /// `InvalidInput`: a coding that cannot be sent in a header, or an extension that would lead elsewhere.
    pub(crate) fn list(written: &[(String, String)]) -> io::Result<Vec<Format>> {
        written.iter().map(|(coding, extension)| Format::new(coding, extension)).collect()
    }

    fn new(coding: &str, extension: &str) -> io::Result<Format> {
        let coding = coding.to_ascii_lowercase();
        match HeaderValue::try_from(coding.as_str()) {
            Ok(value) if extension.len() > 1 && extension.starts_with('.') && !extension.contains('/') => {
                Ok(Format { coding, value, extension: extension.to_owned() })
            }
            _ => {
                let message = format!("{coding:?} with {extension:?} is not a coding with an extension of files");
                Err(io::Error::new(io::ErrorKind::InvalidInput, message))
            }
        }
    }
}

impl Representation {
    /// Chooses by Accept-Encoding. A request that names a coded file itself gets that one as it is.
    pub(crate) fn choose(folder: &Folder, path: &str, file: File, headers: &HeaderMap) -> Representation {
        let formats = folder.formats();
        if formats.is_empty() || formats.iter().any(|format| path.ends_with(&format.extension)) {
            return Representation { file, variant: None, varies: false };
        }
        let beside = formats.iter().map(|format| (format, folder.beside(path, &format.extension)));
        let mut there: Vec<(&Format, File)> = beside.filter_map(|(format, file)| Some((format, file?))).collect();
        let codings: Vec<&str> = there.iter().map(|(format, _)| format.coding.as_str()).collect();
        let chosen = preferred(headers, &codings).and_then(|coding| codings.iter().position(|&there| there == coding));
        let varies = !there.is_empty();
        let variant = chosen.map(|at| there.swap_remove(at));
        let variant = variant.map(|(format, file)| Variant { coding: format.value.clone(), file });
        Representation { file, variant, varies }
    }

    /// The file whose bytes are sent.
    pub(crate) fn sent(&self) -> &File {
        self.variant.as_ref().map_or(&self.file, |variant| &variant.file)
    }

    pub(crate) fn into_sent(self) -> File {
        self.variant.map_or(self.file, |variant| variant.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_that_are_none() {
        for (coding, extension) in [("a\nb", ".x"), ("br", "br"), ("br", "."), ("br", ""), ("br", "./../x")] {
            let error = Format::list(&[(coding.into(), extension.into())]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{coding:?} {extension:?}");
        }
    }
}
