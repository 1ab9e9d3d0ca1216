//! What is kept of a password (RFC 7616 §3.4.2, RFC 8760).

use std::fmt;

use md5::Md5;
use sha2::{Digest, Sha256};

/// Hashes of `username:realm:password`, one for each algorithm. Each is as good as the password for its realm.
#[derive(Clone, PartialEq, Eq)]
pub struct Ha1 {
    sha256: Box<str>,
    md5: Box<str>,
}

/// A hash that digests are made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// For old peers (RFC 2617).
    Md5,
    /// RFC 7616, RFC 8760.
    Sha256,
}

impl fmt::Debug for Ha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ha1(secret)")
    }
}

impl Ha1 {
    /// Of a password.
    pub fn new(username: &str, realm: &str, password: &str) -> Ha1 {
        let text = format!("{username}:{realm}:{password}");
        Ha1 {
            sha256: Algorithm::Sha256.hash(&[text.as_bytes()]).into(),
            md5: Algorithm::Md5.hash(&[text.as_bytes()]).into(),
        }
    }

    /// As it is stored: the two in hexadecimal digits, SHA-256 first.
    pub fn to_text(&self) -> String {
        format!("{}:{}", self.sha256, self.md5)
    }

    /// Reads what [`Self::to_text`] wrote.
    pub fn from_text(text: &str) -> Option<Ha1> {
        let (sha256, md5) = text.split_once(':')?;
        let digits = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let fits = sha256.len() == 64 && md5.len() == 32 && digits(sha256) && digits(md5);
        fits.then(|| Ha1 { sha256: sha256.into(), md5: md5.into() })
    }

    pub(crate) fn of(&self, algorithm: Algorithm) -> &str {
        match algorithm {
            Algorithm::Md5 => &self.md5,
            Algorithm::Sha256 => &self.sha256,
        }
    }
}

impl Algorithm {
    /// A name as digest parameters have it; without one it is MD5.
    pub(crate) fn named(name: Option<&str>) -> Option<Algorithm> {
        match name {
            None => Some(Algorithm::Md5),
            Some(name) if name.eq_ignore_ascii_case("MD5") => Some(Algorithm::Md5),
            Some(name) if name.eq_ignore_ascii_case("SHA-256") => Some(Algorithm::Sha256),
            Some(_) => None,
        }
    }

    /// As digest parameters have it.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
        }
    }

    /// The hash of parts with a colon between, in hexadecimal digits.
    pub(crate) fn hash(self, parts: &[&[u8]]) -> String {
        let text = parts.join(&b':');
        match self {
            Algorithm::Md5 => hex(&Md5::digest(text)),
            Algorithm::Sha256 => hex(&Sha256::digest(text)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]))
        .collect()
}
