//! Takes renewed certificates, without a restart.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tracing::{error, info};

use crate::live::Live;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// Reads the files again when one has changed, and at SIGHUP. Connections that stand keep what they began with.
pub async fn keep(live: Arc<Live>, mut hangup: Signal) {
    loop {
        let asked = tokio::select! {
            asked = hangup.recv() => asked.is_some(),
            () = tokio::time::sleep(LOOK) => false,
        };
        let Some(tls) = live.engine.get().and_then(|engine| engine.streams()).and_then(|streams| streams.tls()) else {
            continue;
        };
        if !asked && !tls.has_changed() {
            continue;
        }
        match tls.reload() {
            Ok(()) => info!("TLS certificates read again"),
            Err(error) => error!(%error, "TLS certificates cannot be read again, the old ones stay in use"),
        }
    }
}
