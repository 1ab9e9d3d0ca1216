//! Requests to register, decoded from bytes, and what must hold of every verdict; the tests and the fuzz target share it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use registrar::{Credentials, Ha1, Registrar, Settings, Verdict};
use sip::{Index, Name, NameAddr, Scheme, Uri};

const REALM: &str = "trunkline";
const USERS: [(&str, &str, &str); 2] = [("pbx", "secret", "trunk-1"), ("gw", "other", "trunk-2")];
/// URIs of a digest; the last is not that of the request.
const URIS: [&str; 4] = ["sip:example.net", "sip:EXAMPLE.net", "sip:example.net;x=y", "sip:other.net"];
/// Steps of time, in milliseconds.
const STEPS: [u64; 8] = [0, 1, 10, 999, 1000, 30_000, 60_001, 300_001];

struct Known;

impl Credentials for Known {
    fn find(&self, username: &str) -> Option<(Arc<str>, Ha1)> {
        let (user, password, trunk) = USERS.iter().find(|(user, ..)| *user == username)?;
        Some(((*trunk).into(), Ha1::new(user, REALM, password)))
    }
}

/// A right answer to a challenge that a request brings.
#[derive(Clone, Debug)]
struct Right {
    trunk: &'static str,
    nonce: String,
    /// Without a count it may serve once.
    count: u32,
    response: String,
}

/// A registrar and what it must know of its nonces.
struct World {
    registrar: Registrar,
    settings: Settings,
    now: u64,
    /// Nonces in the order in which they were given, with their time and source.
    given: Vec<(String, u64, IpAddr)>,
    /// The last count of each nonce that was taken.
    taken: HashMap<String, u32>,
    /// When a source was told that it is wrong.
    wrong: HashMap<IpAddr, Vec<u64>>,
    requests: usize,
}

/// Plays the requests that the bytes say; panics where an invariant does not hold.
pub fn everything(bytes: &[u8]) {
    let settings = Settings { tries: 3, ..Settings::default() };
    let mut world = World {
        registrar: Registrar::new(settings.clone(), [5; 16]),
        settings,
        now: 1000,
        given: Vec::new(),
        taken: HashMap::new(),
        wrong: HashMap::new(),
        requests: 0,
    };
    let mut rest = bytes;
    while let Some((head, after)) = rest.split_first() {
        rest = after;
        world.now += STEPS[usize::from(head >> 5)];
        let source = source(head & 3);
        match head >> 2 & 7 {
            0 => {
                let text = part(&mut rest);
                let (text, right) = world.expanded(text, source);
                world.ask(&text, source, &right);
            }
            1 | 2 => {
                let lines = part(&mut rest);
                let (lines, right) = world.expanded(lines, source);
                world.ask(&request(&lines), source, &right);
            }
            3 => {
                let _ = world.registrar.ignores(source, world.now);
            }
            _ => {
                let choice = [byte(&mut rest), byte(&mut rest)];
                let params = part(&mut rest);
                let lines = part(&mut rest);
                world.answered(choice, params, lines, source);
            }
        }
    }
    world.forgets();
}

fn byte(rest: &mut &[u8]) -> u8 {
    let Some((first, after)) = rest.split_first() else { return 0 };
    *rest = after;
    *first
}

/// Bytes up to a zero.
fn part<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    let (part, after) = rest.split_at(end);
    *rest = after.get(1..).unwrap_or_default();
    part
}

fn source(number: u8) -> IpAddr {
    match number {
        0 => IpAddr::from([192, 0, 2, 7]),
        1 => IpAddr::from([192, 0, 2, 8]),
        2 => IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0207]),
        _ => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]),
    }
}

fn request(lines: &[u8]) -> Vec<u8> {
    let head = b"REGISTER sip:example.net SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1\r\n\
        From: <sip:pbx@example.net>;tag=1\r\nTo: <sip:pbx@example.net>\r\nCall-ID: c1\r\nCSeq: 7 REGISTER\r\n";
    [head.as_slice(), lines, b"Content-Length: 0\r\n\r\n"].concat()
}

/// By the formulas of RFC 7616 §3.4 and RFC 2069 §2.1.2, without the code under test.
fn response(user: usize, password: &str, nonce: &str, count: Option<&str>, uri: &str, sha256: bool) -> String {
    let hash = |text: String| -> String {
        use sha2::Digest;
        let bytes: Vec<u8> = if sha256 { sha2::Sha256::digest(text).to_vec() } else { md5::Md5::digest(text).to_vec() };
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let (user, ..) = USERS[user];
    let (ha1, ha2) = (hash(format!("{user}:{REALM}:{password}")), hash(format!("REGISTER:{uri}")));
    hash(match count {
        Some(count) => format!("{ha1}:{nonce}:{count}:abc:auth:{ha2}"),
        None => format!("{ha1}:{nonce}:{ha2}"),
    })
}

impl World {
    /// The last nonce that a source was given.
    fn nonce_of(&self, source: IpAddr) -> String {
        let own = self.given.iter().rfind(|(_, _, to)| *to == source);
        own.map_or_else(|| "0".repeat(64), |(nonce, ..)| nonce.clone())
    }

    /// Bytes below 5 stand for what nobody can guess: the nonce, and a right response to it by SHA-256, by MD5 and by MD5 of
    /// RFC 2069.
    fn expanded(&self, text: &[u8], source: IpAddr) -> (Vec<u8>, Vec<Right>) {
        let (mut out, mut right) = (Vec::new(), Vec::new());
        let nonce = self.nonce_of(source);
        for byte in text {
            let count = (*byte != 4).then_some("00000001");
            match byte {
                1 => out.extend_from_slice(nonce.as_bytes()),
                2..=4 => {
                    let response = response(0, USERS[0].1, &nonce, count, URIS[0], *byte == 2);
                    out.extend_from_slice(response.as_bytes());
                    let count = count.map_or(u32::MAX, |_| 1);
                    right.push(Right { trunk: USERS[0].2, nonce: nonce.clone(), count, response });
                }
                other => out.push(*other),
            }
        }
        (out, right)
    }

    /// A request with an answer to a challenge, right or wrong.
    fn answered(&mut self, [who, how]: [u8; 2], params: &[u8], lines: &[u8], source: IpAddr) {
        let user = usize::from(who & 1);
        let password = if who & 2 == 0 { USERS[user].1 } else { "guess" };
        let uri = usize::from(who >> 2 & 3);
        let nonce = match who >> 4 & 3 {
            0 | 1 => self.nonce_of(source),
            2 => self.given.first().map(|(nonce, ..)| nonce.clone()).unwrap_or_default(),
            _ => self.given.last().map(|(nonce, ..)| nonce.clone()).unwrap_or_default(),
        };
        let (sha256, counted) = (how & 1 == 0, how & 2 == 0 || how & 1 == 0);
        let count = u32::from(how >> 2);
        let digits = format!("{count:08x}");
        let response = response(user, password, &nonce, counted.then_some(&digits), URIS[uri], sha256);
        let mut right = Vec::new();
        if who & 2 == 0 && uri < 3 && (count > 0 || !counted) {
            let count = if counted { count } else { u32::MAX };
            right.push(Right { trunk: USERS[user].2, nonce: nonce.clone(), count, response: response.clone() });
        }
        let algorithm = if sha256 { "SHA-256" } else { "MD5" };
        let counted = if counted { format!(", qop=auth, nc={digits}, cnonce=\"abc\"") } else { String::new() };
        let authorization = format!(
            "Authorization: Digest username=\"{}\", realm=\"{REALM}\", nonce=\"{nonce}\", uri=\"{}\", algorithm={algorithm}, \
             response=\"{response}\"{counted}",
            USERS[user].0, URIS[uri]
        );
        let lines = [authorization.as_bytes(), params, b"\r\n", lines].concat();
        self.ask(&request(&lines), source, &right);
    }

    fn ask(&mut self, text: &[u8], source: IpAddr, right: &[Right]) {
        let mut index = Index::new();
        if index.parse(text).is_err() {
            return;
        }
        self.requests += 1;
        let random = (self.requests as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let verdict = self.registrar.decide(index.message(text), source, &Known, self.now, random);
        let trunk = match &verdict {
            Verdict::Answer { status, headers, cause, .. } => return self.told(source, *status, headers, cause),
            Verdict::Silence => return,
            Verdict::Bind { trunk, contact, expires, .. } => {
                self.binds(contact, *expires);
                trunk
            }
            Verdict::Unbind { trunk } | Verdict::Query { trunk } => trunk,
        };
        // Nothing of this can be had without the password, nor twice.
        let fits = |right: &&Right| {
            let given = self.given.iter().find(|(nonce, ..)| *nonce == right.nonce);
            right.trunk == &**trunk
                && text.windows(right.response.len()).any(|window| window == right.response.as_bytes())
                && given.is_some_and(|(_, at, to)| {
                    to.to_canonical() == source.to_canonical() && self.now - at <= self.settings.nonce_ms
                })
                && self.taken.get(&right.nonce).is_none_or(|last| *last < right.count)
        };
        let Some(used) = right.iter().filter(fits).min_by_key(|right| right.count) else {
            panic!("without a right answer: {verdict:?}\n{}", String::from_utf8_lossy(text));
        };
        self.taken.insert(used.nonce.clone(), used.count);
    }

    /// An answer is one that can be sent, and keeps its secrets.
    fn told(&mut self, source: IpAddr, status: u16, headers: &str, cause: &str) {
        assert!(matches!(status, 400 | 401 | 403 | 420 | 423), "{status}");
        let answer = format!("SIP/2.0 {status} x\r\n{headers}\r\n");
        let mut index = Index::new();
        assert_eq!(index.parse(answer.as_bytes()), Ok(()), "{answer:?}");
        for field in index.message(answer.as_bytes()).fields() {
            let name = String::from_utf8_lossy(field.name_bytes).into_owned();
            assert!(matches!(name.as_str(), "WWW-Authenticate" | "Unsupported" | "Min-Expires"), "{answer:?}");
        }
        for (user, password, _) in USERS {
            let secret = Ha1::new(user, REALM, password).to_text();
            assert!(secret.split(':').all(|secret| !headers.contains(secret)));
        }
        if let Some(nonce) = headers.split("nonce=\"").nth(1).and_then(|rest| rest.split('"').next()) {
            self.given.push((nonce.to_owned(), self.now, source));
        }
        if cause == "wrong" {
            let wrong = self.wrong.entry(source).or_default();
            wrong.push(self.now);
            let within = wrong.iter().filter(|at| self.now - **at <= self.settings.window_ms).count();
            assert!(within < 2 * self.settings.tries as usize, "{within} guesses in a window");
        }
    }

    /// What is bound can be called, and told in a Contact.
    fn binds(&self, contact: &str, expires: u32) {
        assert!((self.settings.min_expires..=self.settings.max_expires).contains(&expires), "{expires}");
        let uri = Uri::parse(contact.as_bytes()).expect("a URI is bound");
        assert!(matches!(uri.scheme, Scheme::Sip | Scheme::Sips) && uri.headers.is_none() && contact.len() <= 1024);
        let answer = format!("SIP/2.0 200 OK\r\n{}\r\n", registrar::granted(contact, expires));
        let mut index = Index::new();
        assert_eq!(index.parse(answer.as_bytes()), Ok(()));
        let message = index.message(answer.as_bytes());
        let values: Vec<_> = message.values(Name::Contact).collect();
        assert!(values.len() == 1 && message.fields().count() == 1, "{answer:?}");
        let told = NameAddr::parse(values[0].bytes).expect("a Contact is told");
        assert_eq!(told.uri, contact.as_bytes());
    }

    /// What can serve no more is not kept.
    fn forgets(&mut self) {
        let (sources, nonces) = self.registrar.held();
        assert!(sources <= 4 && nonces <= self.requests);
        self.now += self.settings.nonce_ms.max(self.settings.window_ms) + 1;
        let source = source(0);
        self.ask(&request(b""), source, &[]);
        self.answered([0, 1 << 2], b"", b"", source);
        assert_eq!(self.registrar.held().1, 1, "nonces past their time are kept");
    }
}
