//! Flags of `serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::values::{KEYS, sip_address};
use super::{Listen, Settings, SettingsError};

/// Flags of `trunkline serve`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ServeFlags {
    /// Settings file; without it ./trunkline.toml is read if it is there
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the registry is kept
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address of the HTTP interface
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Address of the SIP router, such as udp:127.0.0.1:5060, with tcp: or tls: too; may be repeated
    #[arg(long, value_name = "udp:ADDR", value_parser = sip_address)]
    pub sip: Vec<Listen>,
    /// Filter of log lines: error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

impl ServeFlags {
    pub(super) fn apply(&self, settings: &mut Settings) -> Result<(), SettingsError> {
        if let Some(data) = &self.data {
            settings.data_dir = data.clone();
        }
        if let Some(http) = self.http {
            settings.http.listen = http;
        }
        if !self.sip.is_empty() {
            settings.sip.listen = self.sip.clone();
        }
        if let Some(level) = &self.log_level
            && let Some(key) = KEYS.iter().find(|key| key.table == "log" && key.name == "level")
        {
            (key.set)(settings, &key.parse_text(level))
                .map_err(|expected| SettingsError(format!("--log-level: expected {expected}, found \"{level}\"")))?;
        }
        Ok(())
    }
}
