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

/// Section of the RFC, name, fate; the file is named after both.
const TABLE: &[(&str, &str, Fate)] = &[
    // Valid: every element must take them.
    ("3.1.1.1", "wsinv", Accepted),
    ("3.1.1.2", "intmeth", Accepted),
    ("3.1.1.3", "esc01", Accepted),
    ("3.1.1.4", "escnull", Accepted),
    ("3.1.1.5", "esc02", Accepted),
    ("3.1.1.6", "lwsdisp", Accepted),
    ("3.1.1.7", "longreq", Accepted),
    ("3.1.1.8", "dblreq", Accepted),
    ("3.1.1.9", "semiuri", Accepted),
    ("3.1.1.10", "transports", Accepted),
    ("3.1.1.11", "mpart01", Accepted),
    ("3.1.1.12", "unreason", Accepted),
    ("3.1.1.13", "noreason", Accepted),
    // Invalid in what a proxy reads.
    ("3.1.2.1", "badinv01", Refused(400)),
    ("3.1.2.2", "clerr", Refused(400)),
    ("3.1.2.3", "ncl", Refused(400)),
    ("3.1.2.4", "scalar02", Refused(400)),
    ("3.1.2.5", "scalarlg", Refused(400)),
    ("3.1.2.6", "quotbal", Refused(400)),
    ("3.1.2.7", "ltgtruri", Refused(400)),
    ("3.1.2.8", "lwsruri", Refused(400)),
    ("3.1.2.9", "lwsstart", Refused(400)),
    ("3.1.2.11", "escruri", Refused(400)),
    ("3.1.2.14", "badaspec", Refused(400)),
    ("3.1.2.16", "badvers", Refused(505)),
    ("3.1.2.17", "mismatch01", Refused(400)),
    ("3.1.2.18", "mismatch02", Refused(400)),
    ("3.1.2.19", "bigcode", Unparsed(ParseError::StartLine)),
    // Invalid, but an element may be liberal, or a proxy need not look.
    ("3.1.2.10", "trws", Accepted),
    ("3.1.2.12", "baddate", Accepted),
    ("3.1.2.13", "regbadct", Accepted),
    ("3.1.2.15", "baddn", Accepted),
    // For the transaction layer.
    ("3.2.1", "badbranch", Accepted),
    // For the application: a proxy refuses these.
    ("3.3.1", "insuf", Refused(400)),
    ("3.3.2", "unkscm", Refused(416)),
    ("3.3.3", "novelsc", Refused(416)),
    ("3.3.8", "multi01", Refused(400)),
    ("3.3.9", "mcl01", Refused(400)),
    // The grammar of these holds; what they ask for is not decided here.
    ("3.3.4", "unksm2", Accepted),
    ("3.3.5", "bext01", Accepted),
    ("3.3.6", "invut", Accepted),
    ("3.3.7", "regaut01", Accepted),
    ("3.3.10", "bcast", Accepted),
    ("3.3.11", "zeromf", Accepted),
    ("3.3.12", "cparam01", Accepted),
    ("3.3.13", "cparam02", Accepted),
    ("3.3.14", "regescrt", Accepted),
    ("3.3.15", "sdp01", Accepted),
    ("3.3.16", "inv2543", Accepted),
];

fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/messages/rfc4475"))
}

fn bytes_of(name: &str) -> Vec<u8> {
    let (section, ..) = TABLE.iter().find(|(_, known, _)| *known == name).unwrap();
    std::fs::read(directory().join(format!("{section}-{name}.sip"))).unwrap()
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
        if fate(&bytes) == Accepted && *name != "dblreq" {
            index.parse(&bytes).unwrap();
            assert_eq!(index.message(&bytes).bytes(), bytes, "{name}");
        }
    }
}

#[test]
fn are_all_in_the_table() {
    let mut count = 0;
    for entry in std::fs::read_dir(directory()).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        assert!(TABLE.iter().any(|(section, name, _)| format!("{section}-{name}.sip") == file), "{file}");
        count += 1;
    }
    assert_eq!(count, TABLE.len());
}

#[test]
fn are_read_as_meant() {
    let bytes = bytes_of("wsinv");
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

    let bytes = bytes_of("dblreq");
    index.parse(&bytes).unwrap();
    assert!(index.message(&bytes).bytes().ends_with(b"Content-Length: 0\r\n\r\n"));

    let bytes = bytes_of("semiuri");
    index.parse(&bytes).unwrap();
    let uri = sip::Uri::parse(index.message(&bytes).request_uri().unwrap()).unwrap();
    assert_eq!((uri.user, uri.host_bytes), (Some(&b"user;par=u%40example.net"[..]), &b"example.com"[..]));
    assert_eq!(uri.params.into_iter().count(), 0);
}

#[test]
fn a_length_that_does_not_fit_is_answered_in_a_request_and_discarded_in_a_response() {
    for length in ["9999", "-999", "five", ""] {
        let request = format!("OPTIONS sip:a SIP/2.0\r\nContent-Length: {length}\r\n\r\nbody");
        assert_eq!(fate(request.as_bytes()), Refused(400), "{length}");
        let response = format!("SIP/2.0 200 OK\r\nContent-Length: {length}\r\n\r\nbody");
        assert_eq!(fate(response.as_bytes()), Unparsed(ParseError::ContentLength), "{length}");
    }
}

#[test]
fn a_request_of_another_version_can_be_answered() {
    let bytes = bytes_of("badvers");
    let mut index = Index::new();
    index.parse(&bytes).unwrap();
    assert_eq!(index.message(&bytes).top_via().unwrap().branch(), Some(&b"z9hG4bKkdjuw"[..]));
    for bad in [&b"SIP//UDP a"[..], b"SIP/2 0/UDP a", b"HTTP/2.0/UDP a"] {
        assert!(sip::Via::parse(bad).is_err());
    }
}
