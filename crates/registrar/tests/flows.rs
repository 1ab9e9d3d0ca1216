//! Whole registrations, as messages.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use registrar::{Credentials, Ha1, Registrar, Settings, Verdict};

const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

struct One;

impl Credentials for One {
    fn find(&self, username: &str) -> Option<(Arc<str>, Ha1)> {
        (username == "pbx").then(|| ("trunk-1".into(), Ha1::new("pbx", "trunkline", "secret")))
    }
}

fn registrar() -> Registrar {
    Registrar::new(Settings::default(), [5; 16])
}

fn request(extra: &str) -> String {
    format!(
        "REGISTER sip:example.net SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1\r\nFrom: <sip:pbx@example.net>;tag=1\r\n\
         To: <sip:pbx@example.net>\r\nCall-ID: c1\r\nCSeq: 7 REGISTER\r\n{extra}Content-Length: 0\r\n\r\n"
    )
}

fn decide_from(registrar: &Registrar, source: IpAddr, text: &str, now: u64) -> Verdict {
    let mut index = sip::Index::new();
    index.parse(text.as_bytes()).unwrap();
    registrar.decide(index.message(text.as_bytes()), source, &One, now, now ^ 0x5555)
}

fn decide(registrar: &Registrar, text: &str, now: u64) -> Verdict {
    decide_from(registrar, SOURCE, text, now)
}

fn parts(verdict: &Verdict) -> (u16, &str, &str) {
    match verdict {
        Verdict::Answer { status, headers, cause, .. } => (*status, headers, cause),
        other => panic!("{other:?}"),
    }
}

fn nonce(verdict: &Verdict) -> String {
    let (_, headers, _) = parts(verdict);
    headers.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

/// An answer to a challenge, made by the formulas of RFC 7616 §3.4 without the code under test.
fn authorize(username: &str, password: &str, nonce: &str, count: u32, algorithm: &str) -> String {
    let hash = |text: String| -> String {
        use sha2::Digest;
        let bytes: Vec<u8> =
            if algorithm == "MD5" { md5::Md5::digest(text).to_vec() } else { sha2::Sha256::digest(text).to_vec() };
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let ha1 = hash(format!("{username}:trunkline:{password}"));
    let ha2 = hash("REGISTER:sip:example.net".to_owned());
    let response = hash(format!("{ha1}:{nonce}:{count:08x}:abc:auth:{ha2}"));
    format!(
        "Authorization: Digest username=\"{username}\", realm=\"trunkline\", nonce=\"{nonce}\", uri=\"sip:example.net\", \
         algorithm={algorithm}, qop=auth, nc={count:08x}, cnonce=\"abc\", response=\"{response}\"\r\n"
    )
}

const CONTACT: &str = "Contact: <sip:pbx@192.0.2.7:5070>\r\n";

#[test]
fn a_challenge_and_its_answer() {
    for algorithm in ["SHA-256", "MD5"] {
        let registrar = registrar();
        let challenge = decide(&registrar, &request(CONTACT), 1000);
        let (status, headers, cause) = parts(&challenge);
        assert_eq!((status, cause), (401, "challenge"));
        let (sha, md5) = (headers.find("algorithm=SHA-256").unwrap(), headers.find("algorithm=MD5").unwrap());
        assert!(sha < md5, "the stronger first: {headers}");
        let answer = authorize("pbx", "secret", &nonce(&challenge), 1, algorithm);
        let bound = decide(&registrar, &request(&format!("{CONTACT}Expires: 120\r\n{answer}")), 1100);
        let expected = Verdict::Bind {
            trunk: "trunk-1".into(),
            contact: "sip:pbx@192.0.2.7:5070".into(),
            expires: 120,
            call_id: "c1".into(),
            cseq: 7,
        };
        assert_eq!(bound, expected);
    }
}

/// The example of RFC 7616 §3.9.1 is for HTTP; its hashes hold all the same.
#[test]
fn the_hashes_are_those_of_the_rfc() {
    let ha1 = Ha1::new("Mufasa", "http-auth@example.org", "Circle of Life");
    let (sha256, md5) =
        ("7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232", "3d78807defe7de2157e2b0b6573a855f");
    assert_eq!(ha1.to_text(), format!("{sha256}:{md5}"));
    assert_eq!(Ha1::from_text(&ha1.to_text()), Some(ha1.clone()));
    assert_eq!(format!("{ha1:?}"), "Ha1(secret)");
    for bad in ["", ":", "x:y", &sha256.to_uppercase()] {
        assert_eq!(Ha1::from_text(bad), None);
    }
}

#[test]
fn who_is_wrong_learns_nothing() {
    let registrar = registrar();
    let fresh = nonce(&decide(&registrar, &request(""), 1000));
    let answer = |user: &str| {
        let text = request(&format!("{CONTACT}{}", authorize(user, "guess", &fresh, 1, "MD5")));
        let verdict = decide(&registrar, &text, 1000);
        let (status, headers, cause) = parts(&verdict);
        (status, headers.len(), cause.to_owned())
    };
    assert_eq!(answer("pbx"), answer("nobody"));
    assert_eq!(answer("pbx").0, 401);
}

#[test]
fn what_is_not_offered_is_not_taken() {
    let settings = Settings { algorithms: vec![registrar::Algorithm::Sha256], ..Settings::default() };
    let registrar = Registrar::new(settings, [5; 16]);
    let challenge = decide(&registrar, &request(""), 1000);
    assert!(!parts(&challenge).1.contains("MD5"));
    let answer = |algorithm: &str| {
        let answer = authorize("pbx", "secret", &nonce(&challenge), 1, algorithm);
        decide(&registrar, &request(&format!("{CONTACT}{answer}")), 1000)
    };
    assert_eq!(parts(&answer("MD5")).2, "wrong");
    assert!(matches!(answer("SHA-256"), Verdict::Bind { .. }));
}

#[test]
fn nobody_is_blocked_in_anothers_name() {
    let registrar = registrar();
    let mine = nonce(&decide_from(&registrar, IpAddr::from([203, 0, 113, 1]), &request(""), 1000));
    let forged = request(&format!("{CONTACT}{}", authorize("pbx", "guess", &mine, 1, "MD5")));
    for _ in 0..50 {
        assert_eq!(parts(&decide(&registrar, &forged, 1000)).2, "stale");
    }
    assert!(!registrar.ignores(SOURCE, 1000));
}

#[test]
fn a_source_that_keeps_guessing_hears_403_then_nothing() {
    let registrar = registrar();
    let fresh = nonce(&decide(&registrar, &request(""), 1000));
    let wrong = request(&format!("{CONTACT}{}", authorize("pbx", "guess", &fresh, 1, "MD5")));
    for _ in 0..10 {
        assert_eq!(parts(&decide(&registrar, &wrong, 1000)).0, 401);
    }
    let right = request(&format!("{CONTACT}{}", authorize("pbx", "secret", &fresh, 2, "MD5")));
    let verdict = decide(&registrar, &right, 1001);
    assert_eq!(parts(&verdict), (403, "", "blocked"), "the right password is not told apart either");
    assert!((0..20).any(|_| decide(&registrar, &wrong, 1002) == Verdict::Silence));
    assert!(registrar.ignores(SOURCE, 1002));
    let other = IpAddr::from([192, 0, 2, 8]);
    let challenge = decide_from(&registrar, other, &right, 1003);
    assert_eq!(parts(&challenge).2, "stale", "a nonce is for the source that asked for it");
    let answer = authorize("pbx", "secret", &nonce(&challenge), 1, "MD5");
    let elsewhere = decide_from(&registrar, other, &request(&format!("{CONTACT}{answer}")), 1003);
    assert!(matches!(elsewhere, Verdict::Bind { .. }), "others are not harmed: {elsewhere:?}");
    assert!(!registrar.ignores(SOURCE, 61_002));
    assert_eq!(parts(&decide(&registrar, &wrong, 61_002)).0, 401, "the block ends");
}

#[test]
fn nonces_serve_once_for_each_count_and_for_their_time() {
    let registrar = registrar();
    let fresh = nonce(&decide(&registrar, &request(""), 1000));
    let with = |count: u32| request(&format!("{CONTACT}{}", authorize("pbx", "secret", &fresh, count, "SHA-256")));
    assert!(matches!(decide(&registrar, &with(1), 1000), Verdict::Bind { .. }));
    let replayed = decide(&registrar, &with(1), 1000);
    assert_eq!(parts(&replayed).2, "stale");
    assert!(parts(&replayed).1.contains("stale=true"));
    assert!(matches!(decide(&registrar, &with(2), 200_000), Verdict::Bind { .. }), "a refresh needs no new challenge");
    assert_eq!(parts(&decide(&registrar, &with(3), 301_001)).2, "stale");
    let foreign = authorize("pbx", "secret", &"0".repeat(64), 1, "MD5");
    assert_eq!(parts(&decide(&registrar, &request(&foreign), 1000)).2, "stale");
}

/// RFC 2069: what is heard on the way must not serve again for a count that is put beside it.
#[test]
fn a_response_without_a_count_serves_once() {
    let registrar = registrar();
    let fresh = nonce(&decide(&registrar, &request(""), 1000));
    let hash = |text: String| {
        use md5::Digest;
        md5::Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let (ha1, ha2) = (hash("pbx:trunkline:secret".to_owned()), hash("REGISTER:sip:example.net".to_owned()));
    let response = hash(format!("{ha1}:{fresh}:{ha2}"));
    let with = |count: &str| {
        request(&format!(
            "{CONTACT}Authorization: Digest username=\"pbx\", realm=\"trunkline\", nonce=\"{fresh}\", \
             uri=\"sip:example.net\", response=\"{response}\"{count}\r\n"
        ))
    };
    assert!(matches!(decide(&registrar, &with(""), 1000), Verdict::Bind { .. }));
    for count in ["", ", nc=00000001", ", nc=ffffffff"] {
        assert_eq!(parts(&decide(&registrar, &with(count), 1001)).2, "stale", "{count}");
    }
    let another = registrar::Registrar::new(Settings::default(), [5; 16]);
    for (count, bound) in [(", nc=00000001", true), (", nc=00000002", false)] {
        assert_eq!(matches!(decide(&another, &with(count), 1000), Verdict::Bind { .. }), bound, "{count}");
    }
}

#[test]
fn expires_and_contacts_follow_the_rules() {
    let registrar = registrar();
    let mut count = 0;
    let mut ask = |extra: &str| {
        count += 1;
        let fresh = nonce(&decide(&registrar, &request(""), 1000 + count));
        decide(&registrar, &request(&format!("{extra}{}", authorize("pbx", "secret", &fresh, 1, "MD5"))), 1000 + count)
    };
    let trunk: Arc<str> = "trunk-1".into();
    assert_eq!(ask(""), Verdict::Query { trunk: trunk.clone() });
    let brief = ask("Contact: <sip:a@192.0.2.7>;expires=5\r\n");
    assert_eq!(parts(&brief), (423, "Min-Expires: 30\r\n", "brief"));
    for gone in [
        "Contact: *\r\nExpires: 0\r\n",
        "Contact: <sip:a@192.0.2.7>;expires=0\r\n",
        "m: sip:a@192.0.2.7\r\nExpires: 0\r\n",
    ] {
        assert_eq!(ask(gone), Verdict::Unbind { trunk: trunk.clone() }, "{gone}");
    }
    let moved = ask("Contact: <sip:old@192.0.2.7>;expires=0, <sip:new@192.0.2.7>;expires=90\r\n");
    assert!(matches!(moved, Verdict::Bind { contact, expires: 90, .. } if contact == "sip:new@192.0.2.7"));
    for (extra, granted) in [("", 3600), ("Expires: 99999999\r\n", 3600), ("Expires: 60\r\n", 60)] {
        let Verdict::Bind { expires, .. } = ask(&format!("Contact: <sip:a@192.0.2.7>\r\n{extra}")) else { panic!() };
        assert_eq!(expires, granted);
    }
    for bad in [
        "Contact: *\r\n",
        "Contact: <sip:a@192.0.2.7>, <sip:b@192.0.2.7>\r\n",
        "Contact: <tel:+123>\r\n",
        "Contact: <sip:a@192.0.2.7>;expires=soon\r\n",
        "Contact: <sip:a@192.0.2.7>\r\nExpires: soon\r\n",
    ] {
        assert_eq!(parts(&ask(bad)).0, 400, "{bad}");
    }
    let required = parts(&ask("Require: gruu\r\n")).1.to_owned();
    assert_eq!(required, "Unsupported: gruu\r\n");
}

proptest! {
    /// Only the right username and password bind, whatever else is said.
    #[test]
    fn only_the_right_password_is_accepted(user in "pbx|[a-z]{0,4}", password in "secret|[a-z]{0,7}", count in 0u32..3) {
        let registrar = registrar();
        let fresh = nonce(&decide(&registrar, &request(""), 1000));
        let answer = authorize(&user, &password, &fresh, count, "SHA-256");
        let verdict = decide(&registrar, &request(&format!("{CONTACT}{answer}")), 1000);
        let right = user == "pbx" && password == "secret" && count > 0;
        prop_assert_eq!(matches!(verdict, Verdict::Bind { .. }), right);
    }

    #[test]
    fn garbage_is_survived(value in "[ -~]{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let registrar = registrar();
        let fresh = nonce(&decide(&registrar, &request(""), 1000));
        let bytes = String::from_utf8_lossy(&bytes).replace(['\r', '\n'], " ");
        decide(&registrar, &request(&format!("Authorization: Digest realm=\"trunkline\",nonce=\"{fresh}\",{value}\r\nContact: {bytes}\r\nExpires: {value}\r\n")), 1000);
    }
}
