//! Settings of the records of calls.

use std::path::{Path, PathBuf};
use std::time::Duration;

use records::{Address, PostgresSettings, Secret, Token, Url, WebhookSettings};

use super::SettingsError;

/// Records in one statement to PostgreSQL.
const POSTGRES_BATCH: usize = 500;

/// Settings of the records of calls.
#[derive(Clone, Debug, PartialEq)]
pub struct Records {
    /// Whether there are any.
    pub enabled: bool,
    /// Where their files are; none: in the data directory.
    pub directory: Option<PathBuf>,
    /// A file ends before it is larger.
    pub rotate_bytes: u64,
    /// A file ends when it is as old.
    pub rotate_seconds: u64,
    /// Files that are kept; 0: any number.
    pub keep_files: u64,
    /// Bytes that are kept, as far as deliveries have read them.
    pub keep_bytes: u64,
    /// Bytes that are kept at most.
    pub max_bytes: u64,
    /// The PostgreSQL server.
    pub postgres: Option<Address>,
    /// Its table.
    pub postgres_table: String,
    /// Authorities of its certificate (PEM); none: the system's.
    pub postgres_authorities: Option<PathBuf>,
    /// Where batches are posted.
    pub webhook: Option<Url>,
    /// The token that goes with them.
    pub webhook_token: Option<Secret>,
    /// A file with that token.
    pub webhook_token_file: Option<PathBuf>,
    /// Authorities of the receiver's certificate (PEM); none: the system's.
    pub webhook_authorities: Option<PathBuf>,
    /// Records in a request.
    pub webhook_batch: u64,
}

impl Default for Records {
    fn default() -> Records {
        let defaults = records::Settings::new(PathBuf::new());
        Records {
            enabled: true,
            directory: None,
            rotate_bytes: defaults.rotate_bytes,
            rotate_seconds: defaults.rotate_after.as_secs(),
            keep_files: defaults.keep_files as u64,
            keep_bytes: defaults.keep_bytes,
            max_bytes: defaults.max_bytes,
            postgres: None,
            postgres_table: "call_records".into(),
            postgres_authorities: None,
            webhook: None,
            webhook_token: None,
            webhook_token_file: None,
            webhook_authorities: None,
            webhook_batch: 100,
        }
    }
}

impl Records {
    /// What only the whole can tell.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let wrong = |what: &str| Err(SettingsError(what.into()));
        if self.webhook_token.is_some() && self.webhook_token_file.is_some() {
            return wrong("records.webhook.token and records.webhook.token_file: expected one of them");
        }
        if self.webhook.is_none() && (self.webhook_token.is_some() || self.webhook_token_file.is_some()) {
            return wrong("records.webhook: a token needs records.webhook.url");
        }
        if !self.enabled && (self.postgres.is_some() || self.webhook.is_some()) {
            return wrong("records.enabled: deliveries need it true, as they read the files");
        }
        if self.max_bytes < self.keep_bytes || self.max_bytes / 2 < self.rotate_bytes {
            return wrong("records.max_bytes: expected at least records.keep_bytes, and twice records.rotate_bytes");
        }
        Ok(())
    }

    /// What the crate of the records takes; none where there are to be none.
    pub fn settings(&self, data_dir: &Path) -> Option<records::Settings> {
        if !self.enabled {
            return None;
        }
        let given = self.webhook_token.clone().map(Token::Given);
        let token = given.or_else(|| self.webhook_token_file.clone().map(Token::File));
        let postgres = self.postgres.clone().map(|address| PostgresSettings {
            address,
            table: self.postgres_table.clone(),
            authorities: self.postgres_authorities.clone(),
            batch: POSTGRES_BATCH,
        });
        let webhook = self.webhook.clone().map(|url| WebhookSettings {
            url,
            token,
            authorities: self.webhook_authorities.clone(),
            batch: self.webhook_batch as usize,
        });
        Some(records::Settings {
            rotate_bytes: self.rotate_bytes,
            rotate_after: Duration::from_secs(self.rotate_seconds),
            keep_files: self.keep_files as usize,
            keep_bytes: self.keep_bytes,
            max_bytes: self.max_bytes,
            postgres,
            webhook,
            ..records::Settings::new(self.directory.clone().unwrap_or_else(|| data_dir.join("records")))
        })
    }
}
