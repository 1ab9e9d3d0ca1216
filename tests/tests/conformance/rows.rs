//! What the RFCs say of each message, and which fates that leaves to this proxy.

use Fate::{Answered, Dropped, Forwarded};
use Rule::{Allowed, Asked, Policy, Stricter};

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It reached the trunk with every byte but those that a proxy must change, and so did its answer come back.
    Forwarded,
    /// It was answered here.
    Answered(u16),
    /// Nobody heard of it.
    Dropped,
    /// Something else.
    Wrong(String),
}

/// How the expected fate stands to the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The RFC asks for it.
    Asked,
    /// The RFC leaves it to the element.
    Allowed,
    /// The message is well-formed; it asks for what this proxy does not do.
    Policy,
    /// The RFC would be more liberal.
    Stricter,
}

/// One message.
pub struct Row {
    /// RFC and file, without `.sip`.
    pub file: (&'static str, &'static str),
    /// What the RFC says of it.
    pub says: &'static str,
    /// What may become of it.
    pub fates: &'static [Fate],
    pub rule: Rule,
    /// The same once more in another coat, where the first try cannot show that its bytes pass.
    pub again: Option<Again>,
}

/// A message with small changes.
pub struct Again {
    pub how: &'static str,
    pub edits: &'static [(&'static str, &'static str)],
    /// A response: given by the trunk as the answer to a call, instead of sent from outside.
    pub answers: bool,
}

const fn rfc4475(file: &'static str, says: &'static str, fates: &'static [Fate], rule: Rule) -> Row {
    Row { file: ("rfc4475", file), says, fates, rule, again: None }
}

const fn rfc5118(file: &'static str, says: &'static str, fates: &'static [Fate], rule: Rule) -> Row {
    Row { file: ("rfc5118", file), says, fates, rule, again: None }
}

impl Row {
    const fn then_as_message(self) -> Row {
        let edits = &[("REGISTER sip:", "MESSAGE sip:"), (" REGISTER\r\n", " MESSAGE\r\n")];
        self.again("as MESSAGE", edits)
    }

    const fn again(self, how: &'static str, edits: &'static [(&'static str, &'static str)]) -> Row {
        Row { again: Some(Again { how, edits, answers: false }), ..self }
    }

    const fn then_as_answer(self, how: &'static str, edits: &'static [(&'static str, &'static str)]) -> Row {
        Row { again: Some(Again { how, edits, answers: true }), ..self }
    }
}

const FORWARDED: &[Fate] = &[Forwarded];
const BAD: &[Fate] = &[Answered(400)];
const DROPPED: &[Fate] = &[Dropped];
const NO_DIALOG: &[Fate] = &[Answered(481)];
/// A request in a dialog goes along its route set, were it to a name that nobody knows.
const UNKNOWN_NAME: &[Fate] = &[Answered(500), Answered(481)];
/// A registrar may ask for a password, or know no such user.
const REGISTER: &[Fate] = &[Answered(405), Answered(401), Answered(403), Answered(404)];
const BAD_REGISTER: &[Fate] = &[Answered(400), Answered(405), Answered(401), Answered(403), Answered(404)];

pub const ROWS: &[Row] = &[
    rfc4475("3.1.1.1-wsinv", "well-formed: folds, odd spaces and cases, leading zeros", UNKNOWN_NAME, Policy).again(
        "without Route and To tag",
        &[
            ("Route:\r\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\r\n", ""),
            (" ;   tag    = 1918181833n", ""),
        ],
    ),
    rfc4475("3.1.1.2-intmeth", "well-formed: all characters that tokens and words may have", FORWARDED, Asked),
    rfc4475("3.1.1.3-esc01", "well-formed: escapes in URIs; the user is not a sips URI", FORWARDED, Asked),
    rfc4475("3.1.1.4-escnull", "well-formed: %00 does not end a string", REGISTER, Policy).then_as_message(),
    rfc4475("3.1.1.5-esc02", "well-formed: % escapes nothing in a method or a name", FORWARDED, Asked),
    rfc4475("3.1.1.6-lwsdisp", "well-formed: no space before <", FORWARDED, Asked),
    rfc4475("3.1.1.7-longreq", "well-formed: long values, 34 Vias", FORWARDED, Asked),
    rfc4475("3.1.1.8-dblreq", "well-formed: what follows the first request is ignored", REGISTER, Policy)
        .then_as_message(),
    rfc4475("3.1.1.9-semiuri", "well-formed: a semicolon in the user is no parameter", FORWARDED, Asked),
    rfc4475("3.1.1.10-transports", "well-formed: known and unknown transports in Via", FORWARDED, Asked),
    rfc4475("3.1.1.11-mpart01", "well-formed: a body with all octets", &[Answered(403)], Policy)
        .again("without Route", &[("Route: <sip:127.0.0.1:5080>\r\n", "")]),
    rfc4475("3.1.1.12-unreason", "well-formed: a reason phrase in UTF-8", DROPPED, Asked)
        .then_as_answer("as the answer to a call", &[]),
    rfc4475("3.1.1.13-noreason", "well-formed: an empty reason phrase", DROPPED, Asked)
        .then_as_answer("with 180, as the answer to a call", &[("SIP/2.0 100 ", "SIP/2.0 180 ")]),
    rfc4475("3.1.2.1-badinv01", "400; empty parameters in Via and Contact", BAD, Asked),
    rfc4475("3.1.2.2-clerr", "400 over UDP; Content-Length exceeds the datagram", BAD, Asked),
    rfc4475("3.1.2.3-ncl", "400; a negative Content-Length", BAD, Asked),
    rfc4475("3.1.2.4-scalar02", "400; numbers out of range in a request", BAD, Asked),
    rfc4475("3.1.2.5-scalarlg", "discarded; numbers out of range in a response", DROPPED, Asked),
    rfc4475("3.1.2.6-quotbal", "400; a quote without an end", BAD, Asked),
    rfc4475("3.1.2.7-ltgtruri", "400; the Request-URI in angle brackets", BAD, Asked),
    rfc4475("3.1.2.8-lwsruri", "400; a space in the Request-URI", BAD, Asked),
    rfc4475("3.1.2.9-lwsstart", "400, or read as single spaces; two in the request line", BAD, Asked),
    rfc4475("3.1.2.10-trws", "400, or ignored; spaces end the request line", FORWARDED, Allowed),
    rfc4475("3.1.2.11-escruri", "400, or headers ignored; the Request-URI has headers", BAD, Asked),
    rfc4475("3.1.2.12-baddate", "400, or the Date ignored; a zone that is not GMT", FORWARDED, Allowed),
    rfc4475("3.1.2.13-regbadct", "400 of a registrar; a ? in Contact without brackets", BAD_REGISTER, Policy)
        .then_as_message(),
    rfc4475("3.1.2.14-badaspec", "400, or the spaces ignored; spaces inside the angle brackets", BAD, Asked),
    rfc4475("3.1.2.15-baddn", "400, or quotes inferred; a comma in a display name", FORWARDED, Allowed),
    rfc4475("3.1.2.16-badvers", "505; SIP/7.0", &[Answered(505)], Asked),
    rfc4475("3.1.2.17-mismatch01", "400; CSeq has another method", BAD, Asked),
    rfc4475("3.1.2.18-mismatch02", "400 or 501; CSeq has another method, the request's is unknown", BAD, Asked),
    rfc4475("3.1.2.19-bigcode", "discarded; a status code beyond 32 bits", DROPPED, Asked),
    rfc4475("3.2.1-badbranch", "forwarded, as if it had no branch; nothing follows the cookie", FORWARDED, Allowed),
    rfc4475("3.3.1-insuf", "400; neither Call-ID nor From nor To", BAD, Asked),
    rfc4475("3.3.2-unkscm", "416; an unknown scheme", &[Answered(416)], Asked),
    rfc4475("3.3.3-novelsc", "416; a scheme that is known, but not to SIP", &[Answered(416)], Asked),
    rfc4475("3.3.4-unksm2", "well-formed; unknown schemes in To, From and Contact", REGISTER, Policy).then_as_message(),
    rfc4475("3.3.5-bext01", "420 of a proxy, for what Proxy-Require names", &[Answered(420)], Asked),
    rfc4475("3.3.6-invut", "forwarded; a body of unknown type", FORWARDED, Asked),
    rfc4475("3.3.7-regaut01", "well-formed; an unknown scheme of authorization", REGISTER, Policy).then_as_message(),
    rfc4475("3.3.8-multi01", "400; headers twice that may be there once", BAD, Asked),
    rfc4475("3.3.9-mcl01", "400; two Content-Lengths", BAD, Asked),
    rfc4475("3.3.10-bcast", "discarded; the top Via is another's", DROPPED, Asked),
    rfc4475("3.3.11-zeromf", "483 of a proxy; Max-Forwards is 0", &[Answered(483)], Asked),
    rfc4475("3.3.12-cparam01", "well-formed; a parameter of the Contact header", REGISTER, Policy).then_as_message(),
    rfc4475("3.3.13-cparam02", "well-formed; a parameter of the Contact's URI", REGISTER, Policy).then_as_message(),
    rfc4475("3.3.14-regescrt", "well-formed; a Contact URI with headers", REGISTER, Policy).then_as_message(),
    rfc4475("3.3.15-sdp01", "forwarded; whether Accept can be met is the callee's question", FORWARDED, Asked),
    rfc4475("3.3.16-inv2543", "well-formed, by RFC 2543", FORWARDED, Asked),
    rfc5118("4.1-ipv6-good", "well-formed: IPv6 references", REGISTER, Policy).then_as_message(),
    rfc5118("4.2-ipv6-bad", "400; an address without brackets", BAD, Asked),
    rfc5118("4.3-port-ambiguous", "well-formed: what looks like a port is of the address", REGISTER, Policy)
        .then_as_message(),
    rfc5118("4.4-port-unambiguous", "well-formed: a port after the brackets", REGISTER, Policy).then_as_message(),
    rfc5118("4.5-via-received-param-with-delim", "to be read although received has brackets", NO_DIALOG, Policy).again(
        "as OPTIONS without To tag",
        &[("BYE sip:", "OPTIONS sip:"), (" BYE\r\n", " OPTIONS\r\n"), (";tag=bd76ya", "")],
    ),
    rfc5118("4.5-via-received-param-no-delim", "well-formed: received without brackets", FORWARDED, Asked),
    rfc5118("4.6-ipv6-in-sdp", "well-formed: IPv6 in SDP", FORWARDED, Asked),
    rfc5118("4.7-mult-ip-in-header", "well-formed: IPv4 and IPv6 among the Vias", UNKNOWN_NAME, Policy).again(
        "as OPTIONS without To tag",
        &[("BYE sip:", "OPTIONS sip:"), (" BYE\r\n", " OPTIONS\r\n"), (";tag=9817--94", "")],
    ),
    rfc5118("4.8-mult-ip-in-sdp", "well-formed: IPv4 and IPv6 in SDP", FORWARDED, Asked),
    rfc5118("4.9-ipv4-mapped-ipv6", "well-formed: IPv4 mapped to IPv6", FORWARDED, Asked),
    rfc5118("4.10-ipv6-bug-abnf-3-colons", "to be read although it has three colons", BAD, Stricter),
    rfc5118("4.10-ipv6-correct-abnf-2-colons", "well-formed: two colons before the IPv4 part", FORWARDED, Asked),
];
