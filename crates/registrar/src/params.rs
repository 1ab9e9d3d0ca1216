//! The parameters of an Authorization header (RFC 7235 §2.1, RFC 7616 §3.4).

/// Parameters of one header, at most this many: RFC 7616 has a dozen.
const MOST: usize = 32;

/// Names in lower case and values without their quotes, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads `Digest name=value, name="value", …`; none where it is another scheme or does not follow the grammar.
    pub fn parse(header: &[u8]) -> Option<Params> {
        let text = std::str::from_utf8(header).ok()?;
        let (scheme, mut rest) = text.split_once([' ', '\t', '\r', '\n'])?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        let mut params = Params::default();
        loop {
            rest = rest.trim_start_matches([' ', '\t', '\r', '\n', ',']);
            if rest.is_empty() {
                return Some(params);
            }
            let (name, after) = rest.split_once('=')?;
            let name = name.trim();
            let is_token = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            if !is_token || params.0.len() == MOST {
                return None;
            }
            let (value, after) = value(after.trim_start())?;
            params.0.push((name.to_ascii_lowercase(), value));
            rest = after;
        }
    }

    /// The value of a parameter that is there once.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(other, _)| other == name);
        let first = values.next()?;
        values.next().is_none().then_some(first.1.as_str())
    }
}

fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(',').unwrap_or(text.len());
        return Some((text[..end].trim_end().to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            _ => value.push(char),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quotes_escapes_and_order() {
        let params = Params::parse(b"digest realm=\"a, \\\"b\\\"\" ,  nc=00000001,QOP=auth , x=\"\"").unwrap();
        assert_eq!(params.get("realm"), Some("a, \"b\""));
        assert_eq!((params.get("nc"), params.get("qop"), params.get("x")), (Some("00000001"), Some("auth"), Some("")));
        assert_eq!(Params::parse(b"Digest a=1,a=2").unwrap().get("a"), None, "said twice is not said");
        for bad in ["Basic abc", "Digest", "Digest a", "Digest a=\"x", "Digest =x", "Digest a b=c"] {
            assert_eq!(Params::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(values in prop::collection::vec("[ -~]{0,20}", 0..10)) {
            let quoted = |value: &String| value.replace('\\', "\\\\").replace('"', "\\\"");
            let header: Vec<String> =
                values.iter().enumerate().map(|(n, value)| format!("p{n}=\"{}\"", quoted(value))).collect();
            let params = Params::parse(format!("Digest {}", header.join(",")).as_bytes()).unwrap();
            for (n, value) in values.iter().enumerate() {
                prop_assert_eq!(params.get(&format!("p{n}")), Some(value.as_str()));
            }
        }

        #[test]
        fn garbage_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            Params::parse(&bytes);
            Params::parse(&[b"Digest ".as_slice(), &bytes].concat());
        }
    }
}
