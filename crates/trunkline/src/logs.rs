//! Log lines: to standard error, one for each thing that happened, with its trunk and Call-ID.

use tracing_subscriber::EnvFilter;

use crate::settings::Settings;

/// Starts logging. The settings have checked the filter.
pub fn start(settings: &Settings) {
    let filter = EnvFilter::try_new(&settings.log_level).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    if settings.log_json {
        lines.json().init();
    } else {
        lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init();
    }
}
