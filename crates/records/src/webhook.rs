//! A webhook: batches of records by HTTP POST, as JSON lines.

use std::path::PathBuf;
use std::time::Duration;

use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::authorities;
use crate::deliver::{Failure, Sink};
use crate::spool::Line;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Where the token of a webhook is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// Here.
    Given(Secret),
    /// In a file, read for each batch, so that it may be renewed.
    File(PathBuf),
}

/// Settings of the delivery by HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookSettings {
    /// Where batches are sent.
    pub url: Url,
    /// What we prove ourselves by (RFC 6750); none: nothing.
    pub token: Option<Token>,
    /// Authorities of the server's certificate (PEM); none: the system's.
    pub authorities: Option<PathBuf>,
    /// Records in a request at most.
    pub batch: usize,
}

/// An address by `http` or `https`. Of what it is shown, path and query are left out: they may hold a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(Uri);

impl Secret {
    /// A token: visible ASCII characters, at least one; else none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Secret> {
        let fits = !text.is_empty() && text.len() <= 8192 && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Secret(text.to_owned()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Url {
    /// Reads an address; none where it is no absolute one of `http` or `https`, or holds a user or a password.
    #[must_use]
    pub fn parse(text: &str) -> Option<Url> {
        let uri: Uri = text.parse().ok()?;
        let plain =
            uri.authority().is_some_and(|authority| !authority.as_str().contains('@') && !authority.host().is_empty());
        (plain && matches!(uri.scheme_str(), Some("http" | "https"))).then_some(Url(uri))
    }

    /// Whether whoever is on the way can read what is sent there.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        let host = self.0.host().unwrap_or_default().trim_matches(['[', ']']);
        let near = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        !near && self.0.scheme_str() == Some("http")
    }
}

impl std::fmt::Debug for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        write!(f, "{}://{authority}/…", self.0.scheme_str().unwrap_or_default())
    }
}

/// The delivery.
pub struct Webhook {
    settings: WebhookSettings,
    agent: Agent,
}

impl Webhook {
    /// Connects when there is something to deliver.
    ///
    /// # Errors
    /// Where the authorities cannot be read.
    pub fn new(settings: WebhookSettings, timeout: Duration) -> Result<Webhook, String> {
        let roots = match settings.url.0.scheme_str() {
            Some("https") => authorities::load(settings.authorities.as_deref())?,
            _ => Vec::new(),
        };
        let roots: Vec<Certificate<'static>> =
            roots.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(authorities::provider())
            .root_certs(RootCerts::new_with_certs(&roots))
            .build();
        // A redirection would take the token elsewhere: it is an answer like others.
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_global(Some(timeout))
            .max_response_header_size(16 << 10)
            .user_agent(concat!("trunkline/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build();
        Ok(Webhook { settings, agent: config.into() })
    }

    fn token(&self) -> Result<Option<Secret>, String> {
        let file = match &self.settings.token {
            None => return Ok(None),
            Some(Token::Given(secret)) => return Ok(Some(secret.clone())),
            Some(Token::File(file)) => file,
        };
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let secret = Secret::parse(text.trim());
        secret.map(Some).ok_or_else(|| format!("{}: expected a token of visible ASCII characters", file.display()))
    }
}

impl Sink for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn send(&mut self, lines: &[Line]) -> Result<(), Failure> {
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else { return Ok(()) };
        let mut body = String::with_capacity(lines.iter().map(|line| line.text.len() + 1).sum());
        for line in lines {
            body.push_str(&line.text);
            body.push('\n');
        }
        // The same lines have the same key, so a receiver whose answer was lost knows them again.
        let key = if lines.len() == 1 { format!("\"{}\"", first.id) } else { format!("\"{}/{}\"", first.id, last.id) };
        let mut request = self
            .agent
            .post(&self.settings.url.0)
            .header("Content-Type", "application/x-ndjson")
            .header("Idempotency-Key", key);
        if let Some(Secret(token)) = self.token().map_err(Failure::Away)? {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut answer = request.send(body).map_err(|error| Failure::Away(error.to_string()))?;
        let status = answer.status().as_u16();
        // Read, so that the connection can serve again; a long one is not worth it.
        let _ = answer.body_mut().with_config().limit(16 << 10).read_to_vec();
        match status {
            200..=299 => Ok(()),
            400 | 413 | 422 => Err(Failure::Refused(format!("answered {status}"))),
            _ => Err(Failure::Away(format!("answered {status}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        let url = Url::parse("https://hooks.example.net:8443/secret?key=secret").unwrap();
        assert_eq!(format!("{url:?}"), "https://hooks.example.net:8443/…");
        for bad in ["", "/x", "ftp://a/", "https://u:p@a/", "https://", "a.example"] {
            assert_eq!(Url::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_exposed_is_known() {
        let exposed = |text: &str| Url::parse(text).unwrap().is_exposed();
        assert!(exposed("http://192.0.2.1/x"));
        assert!(exposed("http://hooks.example.net/"));
        for safe in ["https://hooks.example.net/", "http://127.0.0.1:8000/", "http://[::1]/", "http://localhost/"] {
            assert!(!exposed(safe), "{safe}");
        }
    }

    #[test]
    fn a_token_is_one_visible_word() {
        assert_eq!(format!("{:?}", Secret::parse("abc")), "Some(Secret(…))");
        for bad in ["", "a b", "a\n", "ä"] {
            assert_eq!(Secret::parse(bad), None, "{bad:?}");
        }
    }
}
