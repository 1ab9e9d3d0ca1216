//! Keyed hashes and the two addresses that we write into messages.
//!
//! Our branch names shard, client transaction and generation, so a response finds its transaction
//! without a search; our Record-Route names the call likewise. Both end in a MAC: a forged or late
//! one falls out before it touches any state.

use siphasher::sip::SipHasher13;
use std::hash::Hasher;

use crate::slab::Id;

/// Secrets of a node.
#[derive(Clone)]
pub struct Keys {
    boot: [u8; 16],
    token: [u8; 16],
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(secret)")
    }
}

/// Begins every branch (RFC 3261 §8.1.1.7).
const COOKIE: &[u8] = b"z9hG4bK";
/// Follows the cookie in branches that name a client transaction of ours.
const MARK: u8 = b't';
/// shard 4, slot 8, generation 8, loop hash 8, MAC 12 hexadecimal digits.
const BRANCH_DIGITS: usize = 40;
/// shard 4, slot 8, generation 8, MAC 12 hexadecimal digits.
pub(crate) const TOKEN_DIGITS: usize = 32;
const MAC_BITS: u32 = 48;

/// What our branch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Branch {
    pub shard: u16,
    pub client: Id,
    pub loop_hash: u32,
}

/// What our Record-Route says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub shard: u16,
    pub call: Id,
}

impl Keys {
    /// `boot` must be new in each process; `token` outlives it, so that calls that stand across a
    /// restart still prove themselves.
    pub fn new(boot: [u8; 16], token: [u8; 16]) -> Keys {
        Keys { boot, token }
    }

    /// A hash that peers cannot aim.
    pub(crate) fn hash(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.boot);
        for part in parts {
            hasher.write(part);
            hasher.write_u8(0xff);
        }
        hasher.finish()
    }

    fn mac(&self, key: &[u8; 16], domain: u8, digits: &[u8], bound_to: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(key);
        hasher.write_u8(domain);
        hasher.write(digits);
        hasher.write(bound_to);
        hasher.finish() >> (64 - MAC_BITS)
    }

    pub(crate) fn write_branch(&self, out: &mut Vec<u8>, branch: Branch) {
        out.extend_from_slice(COOKIE);
        out.push(MARK);
        let start = out.len();
        hex(out, u64::from(branch.shard), 4);
        hex(out, u64::from(branch.client.slot), 8);
        hex(out, u64::from(branch.client.generation), 8);
        hex(out, u64::from(branch.loop_hash), 8);
        let mac = self.mac(&self.boot, 1, &out[start..], b"");
        hex(out, mac, 12);
    }

    pub(crate) fn read_branch(&self, branch: &[u8]) -> Option<Branch> {
        let digits = branch.strip_prefix(COOKIE)?.strip_prefix(&[MARK])?;
        let (body, mac) = digits.split_at_checked(BRANCH_DIGITS - 12)?;
        if mac.len() != 12 || unhex(mac)? != self.mac(&self.boot, 1, body, b"") {
            return None;
        }
        Some(Branch {
            shard: unhex(&body[..4])? as u16,
            client: Id { slot: unhex(&body[4..12])? as u32, generation: unhex(&body[12..20])? as u32 },
            loop_hash: unhex(&body[20..28])? as u32,
        })
    }

    /// The branch of an ACK to a 2xx, which has no transaction: the same for the same ACK (§16.11).
    pub(crate) fn write_stateless_branch(&self, out: &mut Vec<u8>, parts: &[&[u8]]) {
        out.extend_from_slice(COOKIE);
        out.push(b'a');
        hex(out, self.hash(parts), 16);
    }

    /// The first branch of ours in the beginning of a datagram that we sent.
    pub(crate) fn find_branch(&self, bytes: &[u8]) -> Option<Branch> {
        let end = bytes.len().min(512);
        let at = bytes[..end].windows(COOKIE.len()).position(|window| window == COOKIE)?;
        self.read_branch(bytes.get(at..at + COOKIE.len() + 1 + BRANCH_DIGITS)?)
    }

    pub(crate) fn write_token(&self, out: &mut Vec<u8>, token: Token, call_id: &[u8]) {
        let start = out.len();
        hex(out, u64::from(token.shard), 4);
        hex(out, u64::from(token.call.slot), 8);
        hex(out, u64::from(token.call.generation), 8);
        let mac = self.mac(&self.token, 2, &out[start..], call_id);
        hex(out, mac, 12);
    }

    pub(crate) fn read_token(&self, digits: &[u8], call_id: &[u8]) -> Option<Token> {
        if digits.len() != TOKEN_DIGITS {
            return None;
        }
        let (body, mac) = digits.split_at(TOKEN_DIGITS - 12);
        if unhex(mac)? != self.mac(&self.token, 2, body, call_id) {
            return None;
        }
        Some(Token {
            shard: unhex(&body[..4])? as u16,
            call: Id { slot: unhex(&body[4..12])? as u32, generation: unhex(&body[12..20])? as u32 },
        })
    }
}

/// The shard that owns a message: for a response the one in our branch, else a keyed hash of
/// Call-ID. None: it is no answer to anything we sent, or has no Call-ID.
pub fn owner(message: sip::Message<'_>, keys: &Keys, shards: usize) -> Option<usize> {
    let owner = if message.is_request() {
        keys.hash(&[message.call_id().ok()?]) as usize % shards
    } else {
        usize::from(keys.read_branch(message.top_via().ok()?.branch()?)?.shard)
    };
    (owner < shards).then_some(owner)
}

/// The shard that holds the calls of a Call-ID.
pub fn owner_of_call(call_id: &str, keys: &Keys, shards: usize) -> usize {
    keys.hash(&[call_id.as_bytes()]) as usize % shards
}

/// The shard that sent this datagram, judged by its beginning.
pub fn owner_of_bytes(bytes: &[u8], keys: &Keys, shards: usize) -> Option<usize> {
    keys.find_branch(bytes).map(|branch| usize::from(branch.shard)).filter(|owner| *owner < shards)
}

pub(crate) fn hex(out: &mut Vec<u8>, value: u64, digits: u32) {
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(value >> (4 * digit)) as usize & 15]);
    }
}

/// Upper case is accepted: branch and URI parameters compare without case (§7.3.1, §19.1.4), and
/// some peers make use of it.
fn unhex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |value, digit| Some(value << 4 | u64::from((*digit as char).to_digit(16)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branch_and_token_come_back_and_forgeries_do_not() {
        let keys = Keys::new([1; 16], [2; 16]);
        let branch = Branch { shard: 7, client: Id { slot: 77, generation: 3 }, loop_hash: 0xdead_beef };
        let mut text = Vec::new();
        keys.write_branch(&mut text, branch);
        assert_eq!(keys.read_branch(&text), Some(branch));
        assert_eq!(keys.find_branch(&[b"INVITE x\r\nVia: y;branch=".as_slice(), &text].concat()), Some(branch));
        for at in 8..text.len() {
            let mut forged = text.clone();
            forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(keys.read_branch(&forged), None, "digit {at}");
        }
        let other = Keys::new([3; 16], [2; 16]);
        assert_eq!(other.read_branch(&text), None, "an earlier process");

        let token = Token { shard: 1, call: Id { slot: 2, generation: 3 } };
        let mut text = Vec::new();
        keys.write_token(&mut text, token, b"call");
        assert_eq!(other.read_token(&text, b"call"), Some(token), "outlives the process");
        assert_eq!(keys.read_token(&text, b"another call"), None);
    }
}
