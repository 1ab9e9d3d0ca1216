//! SIP REGISTER with digest authentication as a value: no socket, no clock, no store (RFC 3261 §10.3, RFC 7616, RFC 8760).
//!
//! Whoever asks without the right password learns nothing but that: an unknown username and a wrong password get the same
//! answer after the same work, and a source that keeps trying hears 403, then silence. Memory is bounded whatever comes.

mod ha1;
mod nonce;
mod params;
mod tries;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use sip::{Message, Name};
use subtle::ConstantTimeEq;

use crate::nonce::{Key, Nonce, Used};
use crate::params::Params;
use crate::tries::{Standing, Tries};

pub use crate::ha1::{Algorithm, Ha1};

/// Longest Contact URI.
const LONGEST_CONTACT: usize = 1024;
/// Contacts of one request that are looked at.
const MOST_CONTACTS: usize = 8;

/// Settings of the registrar.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Realm of the digests.
    pub realm: String,
    /// Shortest registration, in seconds; below it the answer is 423.
    pub min_expires: u32,
    /// Longest registration, in seconds; above it this is granted.
    pub max_expires: u32,
    /// Life of a nonce, in milliseconds.
    pub nonce_ms: u64,
    /// Algorithms that are offered, the strongest first: a peer takes the first that it knows (RFC 8760 §2.4).
    pub algorithms: Vec<Algorithm>,
    /// Failures of one source until it is blocked.
    pub tries: u32,
    /// Over how long they count, and how long a block lasts, in milliseconds.
    pub window_ms: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            realm: "trunkline".to_owned(),
            min_expires: 30,
            max_expires: 3600,
            nonce_ms: 300_000,
            algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
            tries: 10,
            window_ms: 60_000,
        }
    }
}

/// Finds who may register.
pub trait Credentials {
    /// The trunk that a username stands for, and the digest of its password.
    fn find(&self, username: &str) -> Option<(Arc<str>, Ha1)>;
}

/// What becomes of a REGISTER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is answered at once.
    Answer {
        /// Status code.
        status: u16,
        /// Reason phrase.
        reason: &'static str,
        /// Header lines, each with its CRLF.
        headers: String,
        /// For counts: `challenge`, `stale`, `wrong`, `blocked`, `malformed`, `extension` or `brief`.
        cause: &'static str,
    },
    /// Its Contact becomes the trunk's target.
    Bind {
        /// Id of the trunk.
        trunk: Arc<str>,
        /// Contact URI.
        contact: String,
        /// Seconds that it holds.
        expires: u32,
        /// Call-ID.
        call_id: String,
        /// CSeq number.
        cseq: u32,
    },
    /// The trunk deregisters.
    Unbind {
        /// Id of the trunk.
        trunk: Arc<str>,
    },
    /// It asks what is bound.
    Query {
        /// Id of the trunk.
        trunk: Arc<str>,
    },
    /// It is not answered.
    Silence,
}

/// Decides about REGISTER requests.
#[derive(Debug)]
pub struct Registrar {
    settings: Settings,
    key: Key,
    used: Mutex<Used>,
    tries: Mutex<Tries>,
    /// Stands for the password of an unknown user.
    nobody: Ha1,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(secret)")
    }
}

impl Registrar {
    /// `secret` keys the nonces.
    pub fn new(settings: Settings, secret: [u8; 16]) -> Registrar {
        let nobody = Ha1::new("", &settings.realm, "");
        Registrar { settings, key: Key(secret), used: Mutex::default(), tries: Mutex::default(), nobody }
    }

    /// Decides about one request. `now_ms` never runs backwards; `random` is new each time.
    pub fn decide(
        &self,
        request: Message<'_>,
        source: IpAddr,
        credentials: &dyn Credentials,
        now_ms: u64,
        random: u64,
    ) -> Verdict {
        let Settings { tries, window_ms, .. } = self.settings;
        let standing = lock(&self.tries).standing(source, now_ms, tries, window_ms);
        match standing {
            Standing::Ignored => return Verdict::Silence,
            Standing::Blocked => return answer(403, "Forbidden", String::new(), "blocked"),
            Standing::Free => {}
        }
        if let Some(required) = request.field(Name::Require) {
            let headers = format!("Unsupported: {}\r\n", String::from_utf8_lossy(required.value));
            return answer(420, "Bad Extension", headers, "extension");
        }
        let Some(digest) = self.digest(request) else { return self.challenge(source, now_ms, random, false) };
        let nonce = digest.get("nonce").unwrap_or_default();
        // Only a nonce that this very source was given is judged: over UDP anybody could be wrong in another's name.
        match self.key.check(nonce, source, now_ms, self.settings.nonce_ms) {
            Nonce::Fresh => {}
            Nonce::Stale | Nonce::Foreign => return self.challenge(source, now_ms, random, true),
        }
        let Some(trunk) = self.verify(request, &digest, credentials) else {
            lock(&self.tries).fail(source, now_ms, tries);
            return match self.challenge(source, now_ms, random, false) {
                Verdict::Answer { status, reason, headers, .. } => answer(status, reason, headers, "wrong"),
                other => other,
            };
        };
        if !self.first_use(&digest, now_ms) {
            return self.challenge(source, now_ms, random, true);
        }
        self.bind(request, trunk)
    }

    /// Whether this source is to be left without an answer; asked before any work is done for it. Counts nothing.
    pub fn ignores(&self, source: IpAddr, now_ms: u64) -> bool {
        let Settings { tries, window_ms, .. } = self.settings;
        lock(&self.tries).is_ignored(source, now_ms, tries, window_ms)
    }

    /// Sources that were heard of, and nonces that were used: what is remembered.
    pub fn held(&self) -> (usize, usize) {
        (lock(&self.tries).len(), lock(&self.used).len())
    }

    /// The digest for our realm.
    fn digest(&self, request: Message<'_>) -> Option<Params> {
        let mut digests = request.fields_named(Name::Authorization).filter_map(|field| Params::parse(field.value));
        digests.find(|digest| digest.get("realm") == Some(&self.settings.realm))
    }

    fn verify(&self, request: Message<'_>, digest: &Params, credentials: &dyn Credentials) -> Option<Arc<str>> {
        let username = digest.get("username").unwrap_or_default();
        let found = credentials.find(username);
        let (trunk, ha1) = match &found {
            Some((trunk, ha1)) => (Some(trunk), ha1),
            None => (None, &self.nobody),
        };
        let algorithm = Algorithm::named(digest.get("algorithm"));
        let algorithm = algorithm.filter(|named| self.settings.algorithms.contains(named))?;
        let nonce = digest.get("nonce")?.as_bytes();
        let uri = digest.get("uri")?;
        let a2 = algorithm.hash(&[b"REGISTER", uri.as_bytes()]);
        let ha1 = ha1.of(algorithm).as_bytes();
        let expected = match digest.get("qop") {
            Some("auth") => {
                let (count, cnonce) = (digest.get("nc")?, digest.get("cnonce")?);
                let parts = [ha1, nonce, count.as_bytes(), cnonce.as_bytes(), b"auth", a2.as_bytes()];
                algorithm.hash(&parts)
            }
            // RFC 2069, which some old peers still speak.
            None if algorithm == Algorithm::Md5 => algorithm.hash(&[ha1, nonce, a2.as_bytes()]),
            _ => return None,
        };
        let given = digest.get("response").unwrap_or_default().to_ascii_lowercase();
        let right = bool::from(expected.as_bytes().ct_eq(given.as_bytes()));
        (right && same_uri(uri.as_bytes(), request.request_uri().unwrap_or_default())).then(|| trunk.cloned()).flatten()
    }

    fn first_use(&self, digest: &Params, now_ms: u64) -> bool {
        // Without a count a nonce serves once. Without qop the response is not made of the count: anybody could add one.
        let count = match (digest.get("qop"), digest.get("nc")) {
            (None, _) | (_, None) => Some(u32::MAX),
            (Some(_), Some(count)) => u32::from_str_radix(count, 16).ok(),
        };
        let Some(count) = count.filter(|count| *count > 0) else { return false };
        let nonce = digest.get("nonce").unwrap_or_default();
        lock(&self.used).take(nonce, count, now_ms, self.settings.nonce_ms)
    }

    fn challenge(&self, source: IpAddr, now_ms: u64, random: u64, stale: bool) -> Verdict {
        let nonce = self.key.make(source, now_ms, random);
        let realm = &self.settings.realm;
        let stale_param = if stale { ", stale=true" } else { "" };
        let mut headers = String::new();
        for algorithm in &self.settings.algorithms {
            headers.push_str(&format!(
                "WWW-Authenticate: Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={}, qop=\"auth\"{stale_param}\r\n",
                algorithm.name()
            ));
        }
        answer(401, "Unauthorized", headers, if stale { "stale" } else { "challenge" })
    }

    /// What an authenticated request asks for (RFC 3261 §10.3 steps 5 to 8).
    fn bind(&self, request: Message<'_>, trunk: Arc<str>) -> Verdict {
        let malformed = |reason: &'static str| answer(400, reason, String::new(), "malformed");
        let asked = match request.field(Name::Expires) {
            Some(_) => match request.seconds(Name::Expires) {
                Some(seconds) => Some(seconds),
                None => return malformed("Expires is malformed"),
            },
            None => None,
        };
        let mut contacts: Vec<_> = request.values(Name::Contact).take(MOST_CONTACTS + 1).collect();
        if contacts.len() > 1 {
            // A peer whose address has changed takes the old one back in the same request.
            let is_new = |contact: &sip::Value<'_>| {
                let parsed = sip::NameAddr::parse(contact.bytes);
                parsed.map_or(true, |contact| contact.params.get(b"expires") != Some(Some(b"0")))
            };
            let taken_back = contacts.iter().filter(|contact| !is_new(contact)).count();
            if taken_back < contacts.len() {
                contacts.retain(is_new);
            } else {
                contacts.truncate(1);
            }
        }
        let Some(contact) = contacts.first() else { return Verdict::Query { trunk } };
        if contacts.len() > 1 {
            return malformed("One Contact is expected: a trunk has one target");
        }
        if contact.bytes == b"*" {
            return if asked == Some(0) { Verdict::Unbind { trunk } } else { malformed("Contact * needs Expires 0") };
        }
        let Ok(contact) = sip::NameAddr::parse(contact.bytes) else { return malformed("Contact is malformed") };
        let own = contact.params.get(b"expires").flatten();
        let own = own.map(|digits| std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok()));
        let expires = match own {
            Some(None) => return malformed("Contact's expires is malformed"),
            Some(Some(seconds)) => u32::try_from(seconds).unwrap_or(u32::MAX),
            None => asked.unwrap_or(self.settings.max_expires),
        };
        if expires == 0 {
            return Verdict::Unbind { trunk };
        }
        if expires < self.settings.min_expires {
            let headers = format!("Min-Expires: {}\r\n", self.settings.min_expires);
            return answer(423, "Interval Too Brief", headers, "brief");
        }
        let fits = sip::Uri::parse(contact.uri)
            .is_ok_and(|uri| matches!(uri.scheme, sip::Scheme::Sip | sip::Scheme::Sips) && uri.headers.is_none());
        let text = std::str::from_utf8(contact.uri).ok().filter(|uri| fits && uri.len() <= LONGEST_CONTACT);
        let (Some(uri), Ok(cseq)) = (text, request.cseq()) else {
            return malformed("Contact must be a sip: or sips: URI");
        };
        Verdict::Bind {
            trunk,
            contact: uri.to_owned(),
            expires: expires.min(self.settings.max_expires),
            call_id: String::from_utf8_lossy(request.call_id().unwrap_or_default()).into_owned(),
            cseq: cseq.number,
        }
    }
}

/// Header lines of the 200 that tells what is bound.
pub fn granted(contact: &str, expires: u32) -> String {
    format!("Contact: <{contact}>;expires={expires}\r\n")
}

fn answer(status: u16, reason: &'static str, headers: String, cause: &'static str) -> Verdict {
    Verdict::Answer { status, reason, headers, cause }
}

/// The digest's URI is the Request-URI, or what a proxy or a careless peer made of it: host and port must agree.
fn same_uri(a: &[u8], b: &[u8]) -> bool {
    if a == b {
        return true;
    }
    match (sip::Uri::parse(a), sip::Uri::parse(b)) {
        (Ok(a), Ok(b)) => a.user == b.user && a.host_bytes.eq_ignore_ascii_case(b.host_bytes) && a.port == b.port,
        _ => false,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
