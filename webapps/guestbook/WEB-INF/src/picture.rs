//! What is taken as a picture. It knows nothing of requests or of the database.

use imagesize::ImageType;
use servlet::{Result, error};

/// LIMIT: bytes of a picture. web.toml has the same limit for what is received.
pub const PICTURE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// LIMIT: pixels. A picture of few bytes can have so many that browsers give up.
const PIXELS_MAX: usize = 50_000_000;

/// A picture that browsers show.
#[derive(Debug, PartialEq, Eq)]
pub struct Picture {
    pub media_type: String,
    /// Pixels.
    pub width: u32,
    pub height: u32,
    pub bytes: Vec<u8>,
}

impl Picture {
    /// Takes JPEG, PNG, GIF and WebP, by what the bytes are and not by what the client says; 415 for others, 413 or
    /// 422 for one that is too large. SVG is none of them: it may hold scripts.
    pub fn parse(bytes: Vec<u8>) -> Result<Picture> {
        if bytes.len() > PICTURE_BYTES_MAX {
            return Err(too_large());
        }
        let media_type = match imagesize::image_type(&bytes) {
            Ok(ImageType::Gif) => "image/gif",
            Ok(ImageType::Jpeg) => "image/jpeg",
            Ok(ImageType::Png) => "image/png",
            Ok(ImageType::Webp) => "image/webp",
            _ => return Err(error(415, "This file is no picture that can be shown here: JPEG, PNG, GIF or WebP.")),
        };
        let size = imagesize::blob_size(&bytes).map_err(|_| error(415, "This picture is damaged."))?;
        let pixels = size.width.saturating_mul(size.height);
        let (Ok(width), Ok(height), 1..=PIXELS_MAX) = (size.width.try_into(), size.height.try_into(), pixels) else {
            return Err(error(422, "This picture has too many pixels."));
        };
        Ok(Picture { media_type: media_type.to_owned(), width, height, bytes })
    }
}

pub fn too_large() -> servlet::Error {
    error(413, "This picture is too large. It may have at most 2 MB.")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head of a PNG, which is all that is looked at.
    fn png(width: u32, height: u32) -> Vec<u8> {
        let (width, height) = (width.to_be_bytes(), height.to_be_bytes());
        [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", &width[..], &height[..], b"\x08\x06\0\0\0"].concat()
    }

    #[track_caller]
    fn check(bytes: impl Into<Vec<u8>>, expected: std::result::Result<(&str, u32, u32), u16>) {
        let picture = Picture::parse(bytes.into());
        let seen = picture.as_ref().map(|picture| (&*picture.media_type, picture.width, picture.height));
        assert_eq!(seen.map_err(|wrong| wrong.status()), expected);
    }

    #[test]
    fn pictures_are_told_by_their_bytes() {
        check(png(3, 2), Ok(("image/png", 3, 2)));
        check(*b"GIF89a\x03\0\x02\0\0\0\0", Ok(("image/gif", 3, 2)));
        check("<svg xmlns='http://www.w3.org/2000/svg'/>", Err(415));
        check("<html><script>", Err(415));
        check("", Err(415));
        check(*b"\x89PNG\r\n\x1a\n", Err(415));
        check(png(100_000, 100_000), Err(422));
        check(png(0, 2), Err(422));
        check([png(3, 2), vec![0; PICTURE_BYTES_MAX]].concat(), Err(413));
    }
}
