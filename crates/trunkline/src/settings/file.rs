//! The settings file.

use std::ops::Range;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Value};

use super::values::{KEYS, Key};
use super::{Settings, SettingsError};

/// Takes the settings of a file over. `name` is how errors call it.
pub fn apply(settings: &mut Settings, name: &str, text: &str) -> Result<(), SettingsError> {
    let at = |span: Range<usize>, what: String| {
        let line = text.as_bytes()[..span.start.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1;
        SettingsError(format!("{name}:{line}: {what}"))
    };
    let document =
        DeTable::parse(text).map_err(|error| at(error.span().unwrap_or(0..0), error.message().to_owned()))?;
    take(settings, "", document.get_ref(), &at)
}

/// Takes the entries of a table over, and of those inside it.
fn take(
    settings: &mut Settings,
    table: &str,
    entries: &DeTable<'_>,
    at: &impl Fn(Range<usize>, String) -> SettingsError,
) -> Result<(), SettingsError> {
    for (key, value) in entries {
        let name = key.get_ref();
        let inner = if table.is_empty() { name.to_string() } else { format!("{table}.{name}") };
        match value.get_ref() {
            DeValue::Table(entries) if KEYS.iter().any(|known| known.table == inner) => {
                take(settings, &inner, entries, at)?;
            }
            _ => {
                let known = find(table, name).map_err(|what| at(key.span(), what))?;
                set(settings, known, value, at)?;
            }
        }
    }
    Ok(())
}

fn find(table: &str, name: &str) -> Result<&'static Key, String> {
    KEYS.iter().find(|key| key.table == table && key.name == name).ok_or_else(|| {
        let names = KEYS.iter().filter(|key| key.table == table).map(|key| key.name.to_owned());
        let mut known: Vec<String> = names.collect();
        for key in KEYS {
            let parent = key.table.rsplit_once('.').map_or("", |(parent, _)| parent);
            let inner = format!("[{}]", key.table);
            if !key.table.is_empty() && parent == table && !known.contains(&inner) {
                known.push(inner);
            }
        }
        let place = if table.is_empty() { String::new() } else { format!(" in [{table}]") };
        format!("unknown key \"{name}\"{place}; expected one of {}", known.join(", "))
    })
}

fn set(
    settings: &mut Settings,
    key: &Key,
    value: &Spanned<DeValue<'_>>,
    at: &impl Fn(Range<usize>, String) -> SettingsError,
) -> Result<(), SettingsError> {
    let plain = to_value(value.get_ref());
    (key.set)(settings, &plain)
        .map_err(|expected| at(value.span(), format!("{}: expected {expected}, found {}", key.name, key.shown(&plain))))
}

fn to_value(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(&number.as_str().replace('_', ""), number.radix())
            .map_or_else(|_| Value::String(number.as_str().to_owned()), Value::Integer),
        DeValue::Float(number) => {
            number.as_str().parse().map_or_else(|_| Value::String(number.as_str().to_owned()), Value::Float)
        }
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Datetime(time) => Value::Datetime(*time),
        DeValue::Array(entries) => Value::Array(entries.iter().map(|entry| to_value(entry.get_ref())).collect()),
        DeValue::Table(table) => Value::Table(
            table.iter().map(|(name, value)| (name.get_ref().to_string(), to_value(value.get_ref()))).collect(),
        ),
    }
}
