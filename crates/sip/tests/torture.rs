//! The torture messages of RFC 4475: what the parser and the checks of a proxy make of each.
//!
//! A proxy looks only at what routing relies on, so what is wrong elsewhere passes as it came.
//! Each file has the fault or the oddity of its section; what does not matter there (identifiers, the order
//! of headers, bodies, the signature of `mpart01`) need not be the bytes of the RFC.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use sip::{Index, ParseError};

mod reads;

/// What must become of a message.
#[derive(Debug, PartialEq)]
enum Fate {
    /// Forwarded as it is.
    Accepted,
    /// No message: dropped.
    Unparsed(ParseError),
    /// Answered with this status code; a response is dropped instead.
    Refused(u16),
}
use Fate::{Accepted, Refused, Unparsed};

/// Section of the RFC, file, fate.
const TABLE: &[(&str, &str, Fate)] = &[
    // Valid: every element must take them.
    ("3.1.1.1", "valid/wsinv", Accepted),
    ("3.1.1.2", "valid/intmeth", Accepted),
    ("3.1.1.3", "valid/esc01", Accepted),
    ("3.1.1.4", "valid/escnull", Accepted),
    ("3.1.1.5", "valid/esc02", Accepted),
    ("3.1.1.6", "valid/lwsdisp", Accepted),
    ("3.1.1.7", "valid/longreq", Accepted),
    ("3.1.1.8", "valid/dblreq", Accepted),
    ("3.1.1.9", "valid/semiuri", Accepted),
    ("3.1.1.10", "valid/transports", Accepted),
    ("3.1.1.11", "valid/mpart01", Accepted),
    ("3.1.1.12", "valid/unreason", Accepted),
    ("3.1.1.13", "valid/noreason", Accepted),
    // Invalid in what a proxy reads.
    ("3.1.2.1", "invalid/badinv01", Refused(400)),
    ("3.1.2.2", "invalid/clerr", Unparsed(ParseError::ContentLength)),
    ("3.1.2.3", "invalid/ncl", Unparsed(ParseError::ContentLength)),
    ("3.1.2.4", "invalid/scalar02", Refused(400)),
    ("3.1.2.5", "invalid/scalarlg", Refused(400)),
    ("3.1.2.6", "invalid/quotbal", Refused(400)),
    ("3.1.2.7", "invalid/ltgtruri", Refused(400)),
    ("3.1.2.8", "invalid/lwsruri", Refused(400)),
    ("3.1.2.9", "invalid/lwsstart", Refused(400)),
    ("3.1.2.11", "invalid/escruri", Refused(400)),
    ("3.1.2.14", "invalid/badaspec", Refused(400)),
    ("3.1.2.16", "invalid/badvers", Refused(505)),
    ("3.1.2.17", "invalid/mismatch01", Refused(400)),
    ("3.1.2.18", "invalid/mismatch02", Refused(400)),
    ("3.1.2.19", "invalid/bigcode", Unparsed(ParseError::StartLine)),
    // Invalid, but an element may be liberal, or a proxy need not look.
    ("3.1.2.10", "invalid/trws", Accepted),
    ("3.1.2.12", "invalid/baddate", Accepted),
    ("3.1.2.13", "invalid/regbadct", Accepted),
    ("3.1.2.15", "invalid/baddn", Accepted),
    // For the transaction layer.
    ("3.2.1", "application/badbranch", Accepted),
    // For the application: a proxy refuses these.
    ("3.3.1", "application/insuf", Refused(400)),
    ("3.3.2", "application/unkscm", Refused(416)),
    ("3.3.3", "application/novelsc", Refused(416)),
    ("3.3.8", "application/multi01", Refused(400)),
    ("3.3.9", "application/mcl01", Refused(400)),
    // The grammar of these holds; what they ask for is not decided here.
    ("3.3.4", "application/unksm2", Accepted),
    ("3.3.5", "application/bext01", Accepted),
    ("3.3.6", "application/invut", Accepted),
    ("3.3.7", "application/regaut01", Accepted),
    ("3.3.10", "application/bcast", Accepted),
    ("3.3.11", "application/zeromf", Accepted),
    ("3.3.12", "application/cparam01", Accepted),
    ("3.3.13", "application/cparam02", Accepted),
    ("3.3.14", "application/regescrt", Accepted),
    ("3.3.15", "application/sdp01", Accepted),
    ("3.3.16", "application/inv2543", Accepted),
];

fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/torture"))
}

fn bytes_of(name: &str) -> Vec<u8> {
    std::fs::read(directory().join(name).with_extension("sip")).unwrap()
}

fn fate(bytes: &[u8]) -> Fate {
    let mut index = Index::new();
    match index.parse(bytes) {
        Err(error) => Unparsed(error),
        Ok(()) => index.message(bytes).validate().map_or_else(|wrong| Refused(wrong.status), |()| Accepted),
    }
}

#[test]
fn meet_their_fate() {
    let wrong: Vec<String> = TABLE
        .iter()
        .filter_map(|(section, name, expected)| {
            let found = fate(&bytes_of(name));
            (found != *expected).then(|| format!("{section} {name}: expected {expected:?}, found {found:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn keep_their_bytes() {
    for (_, name, _) in TABLE {
        let bytes = bytes_of(name);
        reads::everything(&bytes);
        let mut index = Index::new();
        if fate(&bytes) == Accepted && *name != "valid/dblreq" {
            index.parse(&bytes).unwrap();
            assert_eq!(index.message(&bytes).bytes(), bytes, "{name}");
        }
    }
}

#[test]
fn are_all_in_the_table() {
    let mut count = 0;
    for kind in ["valid", "invalid", "application"] {
        for entry in std::fs::read_dir(directory().join(kind)).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            let name = format!("{kind}/{}", file.trim_end_matches(".sip"));
            assert!(TABLE.iter().any(|(_, known, _)| *known == name), "{name}");
            count += 1;
        }
    }
    assert_eq!(count, TABLE.len());
}

#[test]
fn are_read_as_meant() {
    let bytes = bytes_of("valid/wsinv");
    let mut index = Index::new();
    index.parse(&bytes).unwrap();
    let message = index.message(&bytes);
    assert_eq!(message.from().unwrap().tag(), Some(&b"98asjd8"[..]));
    assert_eq!(message.to().unwrap().tag(), Some(&b"1918181833n"[..]));
    assert_eq!(message.max_forwards(), Ok(Some(68)));
    assert_eq!(message.cseq().unwrap().number, 9);
    let vias: Vec<_> = message.values(sip::Name::Via).map(|value| sip::Via::parse(value.bytes).unwrap()).collect();
    let branches: Vec<_> = vias.iter().map(|via| via.branch().unwrap()).collect();
    assert_eq!(branches, [&b"390skdjuw"[..], b"z9hG4bK9ikj8", b"z9hG4bK30239"]);
    assert_eq!(vias.iter().map(|via| via.transport).collect::<Vec<_>>(), [&b"UDP"[..], b"TCP", b"UDP"]);
    assert_eq!(message.contact().unwrap().unwrap().uri, b"sip:jdrosen@example.com");

    let bytes = bytes_of("valid/dblreq");
    index.parse(&bytes).unwrap();
    assert!(index.message(&bytes).bytes().ends_with(b"Content-Length: 0\r\n\r\n"));

    let bytes = bytes_of("valid/semiuri");
    index.parse(&bytes).unwrap();
    let uri = sip::Uri::parse(index.message(&bytes).request_uri().unwrap()).unwrap();
    assert_eq!((uri.user, uri.host_bytes), (Some(&b"user;par=u%40example.net"[..]), &b"example.com"[..]));
    assert_eq!(uri.params.into_iter().count(), 0);
}
