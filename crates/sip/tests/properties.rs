//! What holds of any message: what was written is read back, and nothing that a peer sends makes a reader panic.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use sip::{Host, Index, Method, Name, NameAddr, Uri, Via};

mod reads;

/// A display name, a URI and a tag, with the value that holds them.
#[derive(Clone, Debug)]
struct Address {
    display: Option<String>,
    uri: String,
    tag: String,
    written: String,
}

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 2 => Just(" "), 1 => Just("\t "), 1 => Just("\r\n "), 1 => Just(" \r\n\t ")]
}

fn gap() -> impl Strategy<Value = &'static str> {
    prop_oneof![3 => Just(" "), 1 => Just(" \t"), 1 => Just("\r\n "), 1 => Just(" \r\n\t")]
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z0-9-]{0,8}(\\.[a-z][a-z0-9]{1,5}){0,2}",
        any::<[u8; 4]>().prop_map(|ip| std::net::Ipv4Addr::from(ip).to_string()),
        any::<u128>().prop_map(|ip| format!("[{}]", std::net::Ipv6Addr::from(ip))),
    ]
}

fn host_port() -> impl Strategy<Value = (String, Option<u16>)> {
    (host(), proptest::option::of(1u16..))
}

fn join((host, port): &(String, Option<u16>)) -> String {
    port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
}

fn uri() -> impl Strategy<Value = String> {
    let user = "(\\+?[0-9a-zA-Z_.!~*'()&=$,;?/-]|%[0-9A-F]{2}){1,10}(:[a-z0-9]{1,4})?";
    let params = "(;[a-z]{1,6}(=[a-z0-9,%]{0}[a-z0-9]{1,5})?){0,3}";
    (prop_oneof![Just("sip"), Just("SIPS"), Just("Sip")], proptest::option::of(user), host_port(), params).prop_map(
        |(scheme, user, place, params)| {
            let user = user.map_or_else(String::new, |user| format!("{user}@"));
            format!("{scheme}:{user}{}{params}", join(&place))
        },
    )
}

/// Quoted strings with escapes, commas, semicolons and angle brackets; or tokens; or nothing.
fn display() -> impl Strategy<Value = Option<String>> {
    let piece = prop_oneof![3 => "[ a-z,;<>@=:é]", 1 => "\\\\[\"\\\\a-z]"];
    prop_oneof![
        vec(piece, 0..12).prop_map(|pieces| Some(format!("\"{}\"", pieces.concat()))),
        "[A-Za-z0-9.!%*_+`'~-]{1,8}( [A-Za-z0-9]{1,8}){0,2}".prop_map(Some),
        Just(None),
    ]
}

prop_compose! {
    fn address()(
        display in display(), uri in uri(), tag in "[a-zA-Z0-9.~-]{1,10}", tag_name in "[tT][aA][gG]",
        other in "(;[a-su-z]{1,5}(=(\"[a-z;,<]{0,6}\"|[a-z0-9]{1,5}))?){0,2}",
        spaces in vec(space(), 4),
    ) -> Address {
        let name = display.as_deref().unwrap_or_default();
        let (s0, s1, s2, s3) = (spaces[0], spaces[1], spaces[2], spaces[3]);
        let written = format!("{name}{s0}<{uri}>{other}{s1};{s2}{tag_name}{s3}={s0}{tag}");
        Address { display, uri, tag, written }
    }
}

fn any_case(name: &'static str) -> impl Strategy<Value = String> {
    vec(any::<bool>(), name.len()).prop_map(move |upper| {
        let turn = |(c, upper): (char, bool)| if upper { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
        name.chars().zip(upper).map(turn).collect()
    })
}

fn name(long: &'static str, compact: Option<&'static str>) -> impl Strategy<Value = String> {
    prop_oneof![any_case(long), any_case(compact.unwrap_or(long))]
}

#[derive(Clone, Debug)]
struct Hop {
    transport: String,
    place: (String, Option<u16>),
    branch: String,
    rport: Option<Option<u16>>,
    written: String,
}

prop_compose! {
    fn hop()(
        transport in "UDP|TCP|TLS|TLS-SCTP|[A-Z]{2,5}", place in host_port(), branch in "z9hG4bK[a-zA-Z0-9.~_-]{1,12}",
        rport in proptest::option::of(proptest::option::of(1u16..)), gap in gap(), s in vec(space(), 5),
    ) -> Hop {
        let (host, port) = &place;
        let port = port.map_or_else(String::new, |port| format!("{}:{}{port}", s[0], s[1]));
        let answered = match rport {
            None => String::new(),
            Some(None) => format!("{};rport", s[2]),
            Some(Some(port)) => format!(";{}rport={port}", s[2]),
        };
        let written = format!("SIP{}/{}2.0{}/{}{transport}{gap}{host}{port}{answered}{};{}branch{}={}{branch}",
            s[3], s[4], s[0], s[1], s[2], s[3], s[4], s[0]);
        Hop { transport, place, branch, rport, written }
    }
}

#[derive(Clone, Debug)]
struct Sent {
    method: String,
    target: String,
    from: Address,
    to: Address,
    contacts: Vec<Address>,
    vias: Vec<Hop>,
    call_id: String,
    number: u32,
    hops: u8,
    body: Vec<u8>,
    others: Vec<String>,
    bytes: Vec<u8>,
}

prop_compose! {
    fn line(long: &'static str, compact: Option<&'static str>)(
        name in name(long, compact), before in "[ \t]{0,2}", after in space(), end in space(),
    ) -> (String, &'static str) {
        // A fold at the end of a value would leave a line of white space; spaces do.
        (format!("{name}{before}:{after}"), if end.contains('\n') { " " } else { end })
    }
}

prop_compose! {
    fn heads()(
        via in line("Via", Some("v")).boxed(), more in line("Via", Some("v")).boxed(), from in line("From", Some("f")).boxed(), to in line("To", Some("t")).boxed(),
        call_id in line("Call-ID", Some("i")).boxed(), cseq in line("CSeq", None).boxed(), hops in line("Max-Forwards", None).boxed(),
        length in line("Content-Length", Some("l")).boxed(), contact in line("Contact", Some("m")).boxed(),
    ) -> [(String, &'static str); 9] {
        [via, more, from, to, call_id, cseq, hops, length, contact]
    }
}

prop_compose! {
    fn sent()(
        method in "INVITE|BYE|OPTIONS|[A-Z!%*_+`'~.-]{1,9}", target in uri().boxed(), from in address().boxed(), to in address().boxed(),
        contacts in vec(address().boxed(), 0..3), vias in vec(hop().boxed(), 1..5), split in 0usize..5,
        call_id in "[a-zA-Z0-9<>:\"/?{}()\\[\\]\\\\.-]{1,16}(@[a-z0-9.]{1,8})?", number in 0u32..1 << 31, hops: u8,
        others in vec("X-[A-Za-z0-9.!%*_+`'~-]{1,8}: [ -~é]{0,20}(\r\n [!-~]{1,8})?", 0..4), body in vec(any::<u8>(), 0..40),
        gap in gap(), comma in (space(), space()), heads in heads().boxed(), order in Just([0usize, 1, 2, 3, 4, 5, 6, 7]).prop_shuffle(),
    ) -> Sent {
        let list = |items: Vec<&str>| items.join(&format!("{},{}", comma.0, comma.1));
        let put = |at: usize, value: String| format!("{}{value}{}\r\n", heads[at].0, heads[at].1);
        let written: Vec<&str> = vias.iter().map(|via| via.written.as_str()).collect();
        let (first, second) = written.split_at(split.min(written.len()));
        let via: String = [(0, first), (1, second)].into_iter().filter(|(_, items)| !items.is_empty())
            .map(|(at, items)| put(at, list(items.to_vec()))).collect();
        let contact = if contacts.is_empty() { String::new() }
            else { put(8, list(contacts.iter().map(|one| one.written.as_str()).collect())) };
        let lines = [
            via, put(2, from.written.clone()), put(3, to.written.clone()), put(4, call_id.clone()),
            put(5, format!("{number}{gap}{method}")), put(6, hops.to_string()), put(7, body.len().to_string()),
            contact + &others.iter().map(|other| format!("{other}\r\n")).collect::<String>(),
        ];
        let mut bytes = format!("{method} {target} SIP/2.0\r\n").into_bytes();
        order.iter().for_each(|at| bytes.extend_from_slice(lines[*at].as_bytes()));
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&body);
        Sent { method, target, from, to, contacts, vias, call_id, number, hops, body, others, bytes }
    }
}

fn same(read: &NameAddr<'_>, written: &Address) {
    assert_eq!(read.display, written.display.as_deref().map(str::as_bytes));
    assert_eq!(read.uri, written.uri.as_bytes());
    assert_eq!(read.tag(), Some(written.tag.as_bytes()));
    Uri::parse(read.uri).unwrap();
}

/// Values by the plainest reading of the rule: one character at a time, what is open at its head.
fn model(text: &[u8]) -> Vec<Vec<u8>> {
    let (mut out, mut quoted, mut escaped, mut angles) = (vec![Vec::new()], false, false, false);
    for byte in text {
        let plain = !quoted && !angles;
        match byte {
            b',' if plain => {
                out.push(Vec::new());
                continue;
            }
            b'"' if !angles && !escaped => quoted = !quoted,
            b'<' if plain => angles = true,
            b'>' if !quoted => angles = false,
            _ => {}
        }
        escaped = quoted && *byte == b'\\' && !escaped;
        out.last_mut().unwrap().push(*byte);
    }
    out.iter().map(|value| value.trim_ascii().to_vec()).collect()
}

proptest! {
    #[test]
    fn what_was_written_is_read(sent in sent().boxed()) {
        let mut index = Index::new();
        index.parse(&sent.bytes).unwrap();
        let message = index.message(&sent.bytes);
        prop_assert_eq!(message.validate(), Ok(()));
        prop_assert_eq!(message.bytes(), &sent.bytes);
        prop_assert_eq!(message.method(), Some(Method::from(sent.method.as_bytes())));
        prop_assert_eq!(message.request_uri(), Some(sent.target.as_bytes()));
        same(&message.from().unwrap(), &sent.from);
        same(&message.to().unwrap(), &sent.to);
        prop_assert_eq!(message.call_id(), Ok(sent.call_id.as_bytes()));
        let cseq = message.cseq().unwrap();
        prop_assert_eq!((cseq.number, cseq.method.as_bytes()), (sent.number, sent.method.as_bytes()));
        prop_assert_eq!(message.max_forwards(), Ok(Some(sent.hops)));
        prop_assert_eq!(message.content_length(), Ok(Some(sent.body.len())));
        prop_assert_eq!(message.body(), &sent.body);
        let contacts: Vec<_> = message.values(Name::Contact).collect();
        prop_assert_eq!(contacts.len(), sent.contacts.len());
        contacts.iter().zip(&sent.contacts).for_each(|(read, one)| same(&NameAddr::parse(read.bytes).unwrap(), one));
        let vias: Vec<_> = message.values(Name::Via).map(|value| Via::parse(value.bytes).unwrap()).collect();
        prop_assert_eq!(vias.len(), sent.vias.len());
        for (read, hop) in vias.iter().zip(&sent.vias) {
            prop_assert_eq!(read.transport, hop.transport.as_bytes());
            prop_assert_eq!(Some(read.host), Host::parse(hop.place.0.as_bytes()));
            prop_assert_eq!(read.port, hop.place.1);
            prop_assert_eq!(read.branch(), Some(hop.branch.as_bytes()));
            prop_assert_eq!(read.rport(), hop.rport);
        }
        let others: Vec<_> = message.fields_named(Name::Other).map(|field| field.value.to_vec()).collect();
        let written = |other: &String| other.split_once(':').unwrap().1.as_bytes().trim_ascii().to_vec();
        prop_assert_eq!(others, sent.others.iter().map(written).collect::<Vec<_>>());
        reads::everything(&sent.bytes);
    }

    #[test]
    fn values_split_as_the_model(
        pieces in vec(prop_oneof!["[ a,;]{1,4}", "\"([a,;<> ]|\\\\[\"\\\\a]){0,6}\"", "<[a,;\" ]{0,5}>"], 0..8),
    ) {
        let text = pieces.concat();
        let bytes = format!("OPTIONS sip:a SIP/2.0\r\nRoute: {text}\r\n\r\n").into_bytes();
        let mut index = Index::new();
        index.parse(&bytes).unwrap();
        let message = index.message(&bytes);
        let read: Vec<Vec<u8>> = message.values(Name::Route).map(|value| value.bytes.to_vec()).collect();
        prop_assert_eq!(&read, &model(text.trim_ascii().as_bytes()));
        prop_assert!(message.values(Name::Route).all(|value| value.alone == (read.len() == 1)));
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..300), text in "[ -~\r\n\t:;,<>\"=@\\[\\]/%]{0,80}") {
        reads::everything(&bytes);
        reads::everything(text.as_bytes());
    }

    #[test]
    fn changed_messages_are_survived(
        sent in sent().boxed(),
        changes in vec((any::<prop::sample::Index>(), 0u8..3, prop_oneof![any::<u8>(), prop::sample::select(&b"\r\n \t:;,<>\"=@[]/\\%0"[..])]), 1..8),
    ) {
        let mut bytes = sent.bytes;
        for (at, what, byte) in changes {
            let at = at.index(bytes.len());
            match what {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => {}
            }
        }
        reads::everything(&bytes);
        let cut = bytes.len() / 2;
        reads::everything(&bytes[..cut]);
    }
}

#[test]
fn unclosed_quotes_are_read_in_linear_time() {
    for piece in ["\\\",", "\\\"", ";\\\""] {
        let bytes = format!("OPTIONS sip:a SIP/2.0\r\nRoute: \"{}\r\n\r\n", piece.repeat(65_000 / piece.len()));
        let mut index = Index::new();
        index.parse(bytes.as_bytes()).unwrap();
        let begun = Instant::now();
        let message = index.message(bytes.as_bytes());
        let count: usize = message.values(Name::Route).map(|value| sip::Params(value.bytes).into_iter().count()).sum();
        assert!(count > 0);
        assert!(begun.elapsed() < Duration::from_millis(500), "{piece:?}: {:?}", begun.elapsed());
    }
}
