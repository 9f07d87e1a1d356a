//! Messages on the wire: an index over received bytes, and a builder.
//!
//! Called by everything in this crate and by the shards. Nothing here keeps state, knows the time
//! or opens a socket, and no input makes it panic.
//!
//! Reading: [`Message::parse`], then [`Message::check`], then accessors. Writing: [`Builder`].

mod address;
mod build;
mod message;
mod method;
mod multipart;
mod name;
mod scan;
pub mod text;
mod uri;

pub use address::{MAGIC_COOKIE, NameAddr, Via, q_milli};
pub use build::Builder;
pub use message::{Fault, Message, WireError};
pub use method::{Method, reason_phrase};
pub use multipart::Part;
pub use name::Name;
pub use scan::{MAX_HEADER_LINES, MAX_MESSAGE};
pub(crate) use scan::{check_start_line, content_length};
pub(crate) use text::is_token_byte;
pub use text::{List, Params};
pub use uri::{Uri, UriError, host_address, unescape};
