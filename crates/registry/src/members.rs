//! The members of a JSON object, each value as it came.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// Members in the order they came; of one name given twice the last counts (RFC 8259 §4).
#[derive(Clone, Debug, Default)]
pub struct Members(Vec<(Box<str>, Box<RawValue>)>);

impl PartialEq for Members {
    fn eq(&self, other: &Members) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| a.0 == b.0 && a.1.get() == b.1.get())
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Members::default();
                while let Some((name, value)) = map.next_entry::<Box<str>, Box<RawValue>>()? {
                    members.set(name, value);
                    if members.0.len() > Members::MOST {
                        return Err(serde::de::Error::custom("too many members"));
                    }
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl Members {
    /// Most members of an object, so that looking through them stays cheap.
    pub(crate) const MOST: usize = 256;

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn set(&mut self, name: Box<str>, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(other, _)| *other == name) {
            Some(member) => member.1 = value,
            None => self.0.push((name, value)),
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|(other, _)| &**other != name);
    }

    pub(crate) fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(other, _)| &**other == name).map(|(_, value)| &**value)
    }

    /// Applies a merge patch (RFC 7396): null removes, objects merge, everything else replaces.
    pub(crate) fn merge(&mut self, patch: &Members) -> Result<(), serde_json::Error> {
        for (name, change) in patch.iter() {
            let change: Value = serde_json::from_str(change.get())?;
            match change {
                Value::Null => self.remove(name),
                Value::Object(_) => {
                    let mut value: Value =
                        self.get(name).map_or(Ok(Value::Null), |old| serde_json::from_str(old.get()))?;
                    merge_value(&mut value, change);
                    self.set(name.into(), serde_json::value::to_raw_value(&value)?);
                }
                _ => {
                    if let Some(raw) = patch.get(name) {
                        self.set(name.into(), raw.to_owned());
                    }
                }
            }
        }
        Ok(())
    }
}

/// Applies a merge patch (RFC 7396).
pub(crate) fn merge_value(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(target) = target {
        for (name, change) in patch {
            if change.is_null() {
                target.remove(&name);
            } else {
                merge_value(target.entry(name).or_insert(Value::Null), change);
            }
        }
    }
}

impl serde::Serialize for Members {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}
