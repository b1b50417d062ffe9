//! One folder, answered as HTTP: paths, validators, ranges, codings, media types, lists, uploads.
//!
//! [`Folder::lookup`] turns a path into an opened [`File`], and [`respond`] turns that file and a
//! request's headers into a response; [`Folder::list`] shows a directory, [`Folder::upload`] and [`Folder::delete`] change what is
//! there. The container calls them, after it has cleaned the path, refused `WEB-INF` and `META-INF`, and chosen the static servlet;
//! redirects to a directory's slash, welcome files and error pages are the container's too, so an error here is a status with an
//! empty body.
//!
//! Nothing is cached but strong tags: each request opens its file anew, so a file that appears, changes or goes is
//! seen by the next request. What is known about a file (length, time, type) is read from the
//! descriptor that is sent, never from the path a second time, so a rename between two steps cannot
//! mix two files.
//!
//! Looking up and responding make short blocking file calls and may run on an I/O thread; what may take longer says so. All types are
//! `Send` and `Sync`; one `Folder` serves all threads.
//!
//! Reading order: `folder` and `resolve` (from a path to an opened file), `media_type`, `file` (its weak validators), `respond` (the
//! list of steps), `variants`, `coding`, `strong`, `conditions`, `range`, `body`, `byteranges`; beside them `listing`, `put`,
//! `cache_control`.

#![forbid(unsafe_code)]

mod accept;
mod body;
mod byteranges;
mod cache_control;
mod coding;
mod conditions;
mod file;
mod folder;
#[doc(hidden)]
pub mod fuzz;
mod listing;
mod media_type;
mod put;
mod random;
mod range;
mod resolve;
mod respond;
mod strong;
mod variants;

pub use accept::{accepts_by_name, prefers_to_html};
pub use body::Body;
pub use cache_control::CacheRule;
pub use coding::preferred;
pub use file::File;
pub use folder::{Folder, Found, Options};
pub use listing::Listing;
pub use media_type::{TypePattern, content_type, media_type};
pub use put::{Refused, Upload};
pub use resolve::is_private;
pub use respond::{ReadFailure, content, respond, respond_at_once, status_when_missing};
pub use strong::Patience;
