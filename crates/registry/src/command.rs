//! What may be asked of the registry, and what it answers.

use std::fmt;

use crate::binding::Binding;
use crate::routes::Fault;

/// A change that somebody wants. Bodies are as they came.
#[derive(Clone, Debug)]
pub enum Command {
    /// Registers or replaces a trunk (`PUT`).
    Register {
        /// Its id.
        id: String,
        /// JSON.
        body: Vec<u8>,
        /// What must hold.
        condition: Condition,
    },
    /// Merges a patch into a record (`PATCH`, RFC 7396); a heartbeat at once.
    Patch {
        /// Its id.
        id: String,
        /// JSON.
        body: Vec<u8>,
        /// What must hold.
        condition: Condition,
    },
    /// Deregisters a trunk, known or not (`DELETE`).
    Deregister {
        /// Its id.
        id: String,
        /// What must hold.
        condition: Condition,
    },
    /// Sets the operator's intent.
    SetAdmin {
        /// The trunk's id.
        id: String,
        /// JSON.
        body: Vec<u8>,
    },
    /// Clears the operator's intent.
    ClearAdmin {
        /// The trunk's id.
        id: String,
    },
    /// Binds a trunk to where it registered from by SIP; a heartbeat at once.
    Bind {
        /// The trunk's id.
        id: String,
        /// Where it is reached.
        binding: Binding,
    },
    /// Ends a registration by SIP.
    Unbind {
        /// The trunk's id.
        id: String,
    },
    /// Writes a route or a group.
    Edit {
        /// Which of them.
        of: Collection,
        /// Its id.
        id: String,
        /// How it changes.
        edit: Edit,
        /// What must hold.
        condition: Condition,
    },
    /// Deregisters a trunk whose lease is long over; the lease clock's own.
    Expire {
        /// The trunk's id.
        id: String,
        /// The revision that it was seen at.
        modified: u64,
    },
    /// Forgets the intent for a trunk that is long deregistered, or dates one whose trunk went while it was being set;
    /// the lease clock's own.
    PurgeAdmin {
        /// The trunk's id.
        id: String,
        /// The revision that it was seen at.
        modified: u64,
    },
}

/// Records that the operator alone writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Collection {
    Groups,
    Routes,
}

/// How a record of a collection changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// It is made or replaced; JSON.
    Put(Vec<u8>),
    /// A merge patch (RFC 7396); JSON.
    Patch(Vec<u8>),
    /// It is gone, if it was there.
    Delete,
}

/// Conditions of a write (RFC 9110 §13.1).
#[derive(Clone, Debug, Default)]
pub struct Condition {
    /// `If-Match`.
    pub if_match: Option<Match>,
    /// `If-None-Match`.
    pub if_none_match: Option<Match>,
}

/// What a condition names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// `*`: any record.
    Any,
    /// Tags without their quotes.
    Tags(Vec<String>),
}

/// What a command comes to: the writes that make it true, all or none of them, and how to call it.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Nothing to write where the state is already as asked.
    pub writes: Vec<Write>,
    /// How it ends once they are durable.
    pub outcome: Outcome,
}

/// A write to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Its key.
    pub key: String,
    /// What must be true of it.
    pub expect: Expect,
    /// The new value; none deletes.
    pub value: Option<Vec<u8>>,
}

/// The compare half of compare-and-set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key is not there.
    Absent,
    /// Whatever is there.
    Any,
    /// It was last changed at this revision.
    Modified(u64),
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // `unknown`: names of members that the registry keeps but does not know
pub enum Outcome {
    AdminCleared,
    AdminSet,
    Applied,
    Bound,
    Created {
        unknown: Vec<String>,
    },
    Deleted,
    Deregistered,
    Expired,
    /// There was nothing to do.
    Nothing,
    Patched {
        changed: bool,
        unknown: Vec<String>,
    },
    Replaced {
        unknown: Vec<String>,
    },
    Unbound,
}

/// Why a command is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Of which kind.
    pub kind: Kind,
    /// What was wrong and what was expected.
    pub message: String,
    /// The member that was wrong.
    pub field: Option<String>,
    /// Every fault with its place, where they are known; the message is the first's.
    pub faults: Vec<Fault>,
}

/// Kinds of violations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    BadRequest,
    NotFound,
    PreconditionFailed,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Violation {}

impl Violation {
    fn new(kind: Kind, message: String, field: Option<String>) -> Violation {
        Violation { kind, message, field, faults: Vec::new() }
    }

    pub(crate) fn bad(message: &str) -> Violation {
        Violation::new(Kind::BadRequest, message.to_owned(), None)
    }

    /// Of a record at the root of its document; never without a fault.
    pub(crate) fn faults(faults: Vec<Fault>) -> Violation {
        let first = faults.first().cloned().unwrap_or_default();
        let field = first.pointer.split('/').nth(1).map(|step| step.replace("~1", "/").replace("~0", "~"));
        Violation { faults, ..Violation::new(Kind::BadRequest, first.message, field) }
    }

    /// Of a document; never without a fault.
    pub(crate) fn document(faults: Vec<Fault>) -> Violation {
        let first = faults.first().cloned().unwrap_or_default();
        let more = match faults.len() {
            0 | 1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        let message = format!("{}: {}{more}", first.pointer, first.message);
        Violation { faults, ..Violation::new(Kind::BadRequest, message, None) }
    }

    pub(crate) fn member(name: &str, message: &str) -> Violation {
        let field = name.split('.').next().map(str::to_owned);
        Violation::new(Kind::BadRequest, message.to_owned(), field)
    }

    pub(crate) fn not_found(message: &str) -> Violation {
        Violation::new(Kind::NotFound, message.to_owned(), None)
    }

    pub(crate) fn precondition(message: String) -> Violation {
        Violation::new(Kind::PreconditionFailed, message, None)
    }
}

/// Checks a trunk id: 1 to 128 of `A-Z a-z 0-9 - . _ ~ : @ +`.
pub fn validate_id(id: &str) -> Result<(), Violation> {
    let ok = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:@+".contains(&byte);
    if (1..=128).contains(&id.len()) && id.bytes().all(ok) {
        return Ok(());
    }
    Err(Violation::member("id", "id must have 1 to 128 of A-Z a-z 0-9 - . _ ~ : @ +"))
}
