//! Many changes as one, and what was changed: documents, differences in words, history.
//!
//! A document describes records; what is to be written for it follows from what is there, so that the same document
//! twice is one change and nothing. Every change of a trunk's record, of an intent, a group or a route is told in words
//! and kept with what was there before ([`HistoryEntry`]), in the very batch that makes it: so the state at any revision
//! that history reaches back to can be had again.

mod document;
mod history;
mod together;
mod words;

pub use document::Document;
pub use history::{HistoryChange, HistoryEntry, is_record};
