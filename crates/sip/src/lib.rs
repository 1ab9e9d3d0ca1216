//! SIP wire grammar: a lazy parser over bytes (RFC 3261 §7, §25).
//!
//! [`Index`] notes in one pass where the header lines of a message lie and copies nothing; typed
//! values are read on demand. Whatever a reader does not ask for is never looked at, so it can leave
//! as it came. Nothing here panics or grows with hostile input: sizes are bounded by [`Index::parse`].

mod cseq;
mod frame;
mod host;
mod index;
mod message;
mod method;
mod name;
mod name_addr;
mod params;
mod scan;
mod transport;
mod uri;
mod validate;
mod values;
mod via;

pub use cseq::CSeq;
pub use frame::{Frame, Framer};
pub use host::Host;
pub use index::{Index, ParseError};
pub use message::{Field, Message, StartLine};
pub use method::Method;
pub use name::Name;
pub use name_addr::NameAddr;
pub use params::Params;
pub use transport::Transport;
pub use uri::{Scheme, Uri, UriError};
pub use validate::Violation;
pub use values::Value;
pub use via::Via;

/// A range of byte offsets in a message.
pub type Span = std::ops::Range<usize>;

/// A header value that does not follow its grammar: what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderError(pub &'static str);

impl std::fmt::Display for HeaderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for HeaderError {}
