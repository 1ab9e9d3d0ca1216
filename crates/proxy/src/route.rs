//! Routes: which Route values are ours, and where a request goes next (RFC 3261 §16.4, §16.6, §16.12).

use crate::Config;
use crate::edits::Edits;
use crate::keys::Token;

/// What the Route headers and the Request-URI of a request say.
#[derive(Debug, Default)]
pub(crate) struct Path<'a> {
    /// The call that the previous hop proved to know, by our Record-Route.
    pub token: Option<Token>,
    /// Leading Route values that are ours.
    own: usize,
    /// The Request-URI was our Record-Route: a strict router sent this (§16.4); the target is the last Route value.
    strict: bool,
    /// The URI of the next Route value after ours.
    pub next_route: Option<&'a [u8]>,
    /// The Request-URI, after repair.
    pub target: &'a [u8],
}

impl<'a> Path<'a> {
    /// Reads a request. At most two leading values are ours: one for each side (RFC 5658).
    pub fn read(message: sip::Message<'a>, config: &Config) -> Path<'a> {
        let call_id = message.call_id().unwrap_or_default();
        let target = message.request_uri().unwrap_or_default();
        let mut path = Path { target, ..Path::default() };
        if message.field(sip::Name::Route).is_none() {
            // A strict router before us may have left us as target with no route behind.
            path.token = token_of(target, config, call_id);
            return path;
        }
        let uris: Vec<&[u8]> = message
            .values(sip::Name::Route)
            .map(|value| sip::NameAddr::parse(value.bytes).map_or(value.bytes, |name_addr| name_addr.uri))
            .collect();
        let mut rest = uris.as_slice();
        if let Some(token) = token_of(target, config, call_id) {
            path.token = Some(token);
            path.strict = true;
            if let Some((last, others)) = uris.split_last() {
                path.target = last;
                rest = others;
            }
        }
        while path.own < 2 {
            let Some(first) = rest.first() else { break };
            let token = token_of(first, config, call_id);
            let ours =
                token.is_some() || sip::Uri::parse(first).is_ok_and(|uri| uri.user.is_none() && config.is_us(&uri));
            if !ours {
                break;
            }
            path.token = path.token.or(token);
            path.own += 1;
            rest = &rest[1..];
        }
        path.next_route = rest.first().copied();
        path
    }

    /// Whether a strict router sent it.
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// Takes our Route values out, and undoes a strict router's rewrite.
    pub fn edit(&self, message: sip::Message<'_>, edits: &mut Edits) {
        if self.own == 0 && !self.strict {
            return;
        }
        let values: Vec<sip::Value<'_>> = message.values(sip::Name::Route).collect();
        let keep_until = if self.strict { values.len() - 1 } else { values.len() };
        let kept = |at: usize| at >= self.own && at < keep_until;
        let mut start = 0;
        while start < values.len() {
            let end = (start..values.len()).find(|at| values[*at].line != values[start].line).unwrap_or(values.len());
            let first_kept = (start..end).find(|at| kept(*at));
            match first_kept {
                None => edits.remove(values[start].line.clone()),
                Some(first) => {
                    if first > start {
                        edits.remove(values[start].span.start..values[first].span.start);
                    }
                    let last = (first..end).rev().find(|at| kept(*at)).unwrap_or(first);
                    if last + 1 < end {
                        edits.remove(values[last].span.end..values[end - 1].span.end);
                    }
                }
            }
            start = end;
        }
    }
}

/// The parameter of our Record-Route that names the call.
pub(crate) const TOKEN_PARAM: &[u8] = b"tl";

fn token_of(uri: &[u8], config: &Config, call_id: &[u8]) -> Option<Token> {
    let uri = sip::Uri::parse(uri).ok()?;
    config.keys.read_token(uri.params.get(TOKEN_PARAM)??, call_id)
}
