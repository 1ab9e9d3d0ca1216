//! How well trunks complete calls, as the ends of attempts and of calls show it (`docs/quality.md`).
//!
//! Everything here is a value: what happened goes in with its time, counts, averages and verdicts come out. Nothing holds a clock.
//! - [`Series`]: counts over two sliding windows; [`Prefixes`]: a bounded number of them, by trunk and called prefix.
//! - [`Averages`]: decaying averages as atomics, for decisions that compare trunks.
//! - [`Guards`]: which trunks of a group rest for the calls that they failed, and how they come back; [`Gate`]: its verdict as
//!   atomics, for every decision. The table in `docs/quality.md` says which event leads where, and a test holds the code to it.

mod average;
mod gate;
mod guard;
mod guards;
mod outcome;
mod prefixes;
mod series;
mod sums;

pub use average::{Averages, Decaying};
pub use gate::Gate;
pub use guard::{Rules, State};
pub use guards::{Change, Guards, Status};
pub use outcome::{Attempt, Class, Outcome};
pub use prefixes::Prefixes;
pub use series::{Series, Windows};
pub use sums::{Codes, DELAY_BOUNDS, Sums};

/// Milliseconds since an origin of the caller's choice; never runs backwards.
pub type Millis = u64;
