//! A request as routes look at it: indexed only where one asks for a header.

use std::cell::OnceCell;

use routing::Headers;

/// A request, as it came.
pub struct Request<'a> {
    bytes: &'a [u8],
    index: OnceCell<Option<sip::Index>>,
}

impl<'a> Request<'a> {
    /// Of its bytes.
    pub fn new(bytes: &'a [u8]) -> Request<'a> {
        Request { bytes, index: OnceCell::new() }
    }

    /// The Request-URI: what stands between the first two spaces (RFC 3261 §25.1), as the engine has validated.
    pub fn request_uri(&self) -> &'a [u8] {
        self.bytes.split(|byte| *byte == b' ').nth(1).unwrap_or_default()
    }
}

impl Headers for Request<'_> {
    fn any(&self, name: &str, f: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let index = self.index.get_or_init(|| {
            let mut index = sip::Index::new();
            index.parse(self.bytes).ok().map(|()| index)
        });
        index
            .as_ref()
            .is_some_and(|index| index.message(self.bytes).fields_called(name.as_bytes()).any(|field| f(field.value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_by_any_form_of_their_name() {
        let bytes = b"INVITE sip:1@x SIP/2.0\r\nVia: SIP/2.0/UDP a\r\nf: <sip:a@b>;tag=1\r\nX-Tenant: acme\r\nx-tenant: b\r\n\r\n";
        let request = Request::new(bytes);
        assert_eq!(request.request_uri(), b"sip:1@x");
        for (name, value, found) in [
            ("X-Tenant", "acme", true),
            ("x-TENANT", "b", true),
            ("X-Tenant", "c", false),
            ("From", "<sip:a@b>;tag=1", true),
            ("To", "", false),
        ] {
            assert_eq!(request.any(name, &mut |line| line == value.as_bytes()), found, "{name}: {value}");
        }
    }
}
