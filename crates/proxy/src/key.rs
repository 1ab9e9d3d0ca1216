//! Which server transaction a request belongs to (RFC 3261 §17.2.3).

use crate::Keys;

/// Writes the matching key of a request. ACK and CANCEL get the key of their INVITE.
pub(crate) fn write(message: sip::Message<'_>, via: &sip::Via<'_>, out: &mut Vec<u8>) {
    out.clear();
    match via.branch().filter(|branch| branch.len() > 7 && branch[..7].eq_ignore_ascii_case(b"z9hG4bK")) {
        Some(branch) => {
            out.extend_from_slice(branch);
            out.push(0);
            out.extend_from_slice(via.sent_by);
        }
        // A peer of RFC 2543: its branch, if any, is not unique.
        None => {
            out.extend_from_slice(message.request_uri().unwrap_or_default());
            for part in [
                message.from().ok().and_then(|from| from.tag()).unwrap_or_default(),
                message.call_id().unwrap_or_default(),
                &message.cseq().map(|cseq| cseq.number.to_be_bytes()).unwrap_or_default(),
                via.sent_by,
                via.branch().unwrap_or_default(),
            ] {
                out.push(0);
                out.extend_from_slice(part);
            }
        }
    }
    out.push(0);
    match message.method() {
        Some(sip::Method::Invite | sip::Method::Ack | sip::Method::Cancel) | None => out.push(b'I'),
        Some(method) => out.extend_from_slice(method.as_bytes()),
    }
}

pub(crate) fn hash(keys: &Keys, key: &[u8]) -> u64 {
    keys.hash(&[key])
}
