//! Reads an object member by member and gathers every fault, each with its place.

use serde_json::{Map, Value};

/// What was wrong with a document, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Where: a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What was wrong and what was expected.
    pub message: String,
}

/// Longest text of a record, in bytes.
const LONGEST_TEXT: usize = 1024;

/// Gathers faults below one place of a document.
pub(crate) struct Check<'a> {
    pointer: String,
    faults: &'a mut Vec<Fault>,
}

impl<'a> Check<'a> {
    /// At this place, such as `/routes/a`, or empty for the document itself.
    pub fn at(pointer: &str, faults: &'a mut Vec<Fault>) -> Check<'a> {
        Check { pointer: pointer.to_owned(), faults }
    }

    /// The same, one step further down.
    pub fn below(&mut self, step: &str) -> Check<'_> {
        Check { pointer: format!("{}/{}", self.pointer, escape(step)), faults: self.faults }
    }

    /// Notes a fault at this place. `expected` follows the name of the place, as in "weight must be an integer".
    pub fn fault(&mut self, expected: &str) {
        let name = self.name();
        self.faults.push(Fault { pointer: self.pointer.clone(), message: format!("{name} {expected}") });
    }

    /// Notes a fault at this place, in words that need no name before them.
    pub fn say(&mut self, message: &str) {
        self.faults.push(Fault { pointer: self.pointer.clone(), message: message.to_owned() });
    }

    /// The place in words: `match.time.from`, `targets[2]`; records have their kind and id left out.
    pub fn name(&self) -> String {
        let mut name = String::new();
        let mut steps = self.pointer.split('/').skip(1);
        if ["/trunks/", "/groups/", "/routes/"].iter().any(|kind| self.pointer.starts_with(kind)) {
            steps.by_ref().nth(1);
        }
        for step in steps {
            let step = step.replace("~1", "/").replace("~0", "~");
            if !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit()) {
                name.push_str(&format!("[{step}]"));
            } else {
                name.push_str(if name.is_empty() { "" } else { "." });
                name.push_str(&step);
            }
        }
        if name.is_empty() { "the record".to_owned() } else { name }
    }

    /// An object whose members are all known; null and nothing are none.
    pub fn object<'v>(&mut self, value: &'v Value, known: &[&str]) -> Option<&'v Map<String, Value>> {
        let Value::Object(members) = value else {
            self.fault("must be an object");
            return None;
        };
        for unknown in members.keys().filter(|name| !known.contains(&name.as_str())) {
            let expected = format!("is unknown; expected one of {}", known.join(", "));
            self.below(unknown).fault(&expected);
        }
        Some(members)
    }

    /// Reads a member, if it is there and not null.
    pub fn member<T>(
        &mut self,
        members: &Map<String, Value>,
        name: &str,
        read: impl FnOnce(&mut Check<'_>, &Value) -> Option<T>,
    ) -> Option<T> {
        let value = members.get(name).filter(|value| !value.is_null())?;
        read(&mut self.below(name), value)
    }

    /// A text that fits.
    pub fn text(&mut self, value: &Value, fits: impl Fn(&str) -> bool, expected: &str) -> Option<Box<str>> {
        let text = value.as_str().filter(|text| text.len() <= LONGEST_TEXT && fits(text));
        if text.is_none() {
            self.fault(&format!("must be {expected}"));
        }
        text.map(Into::into)
    }

    /// True or false.
    pub fn flag(&mut self, value: &Value) -> Option<bool> {
        let flag = value.as_bool();
        if flag.is_none() {
            self.fault("must be true or false");
        }
        flag
    }

    /// An integer in a range.
    pub fn integer(&mut self, value: &Value, least: u32, most: u32) -> Option<u32> {
        let fits = value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| (least..=most).contains(n));
        if fits.is_none() {
            let range = if most == u32::MAX { format!("{least} or more") } else { format!("{least} to {most}") };
            self.fault(&format!("must be an integer, {range}"));
        }
        fits
    }

    /// The entries of a list; what is no list counts as its only entry where `single` allows.
    pub fn list<T>(
        &mut self,
        value: &Value,
        most: usize,
        single: bool,
        mut read: impl FnMut(&mut Check<'_>, &Value) -> Option<T>,
    ) -> Vec<T> {
        match value {
            Value::Array(entries) if entries.len() > most => {
                self.fault(&format!("must have at most {most} entries"));
                Vec::new()
            }
            Value::Array(entries) => {
                let read = |(at, entry): (usize, &Value)| read(&mut self.below(&at.to_string()), entry);
                entries.iter().enumerate().filter_map(read).collect()
            }
            one if single => read(self, one).into_iter().collect(),
            _ => {
                self.fault("must be a list");
                Vec::new()
            }
        }
    }
}

/// A step of a JSON pointer (RFC 6901 §3).
pub(crate) fn escape(step: &str) -> String {
    step.replace('~', "~0").replace('/', "~1")
}
