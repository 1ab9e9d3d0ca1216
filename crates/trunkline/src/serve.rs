//! `trunkline serve`: starts the rooms of the house in order, and leaves in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::Context;
use control::{Control, Keep};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use crate::recording;
use crate::router::{self, Router};
use crate::settings::Settings;

/// Time for HTTP requests to end once the process leaves.
const HTTP_LEAVE: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT.
pub fn run(settings: Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // SIP connections have a runtime of their own: what floods them must not delay leases or HTTP.
    let streams = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.sip.threads)
        .thread_name("sip-stream")
        .enable_all()
        .build()?;
    let result = runtime.block_on(serve(settings, streams.handle().clone()));
    streams.shutdown_background();
    result
}

async fn serve(settings: Settings, streams: Handle) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let hangup = signal(SignalKind::hangup())?;

    let store = store::embedded::Embedded::open(&settings.data_dir, store::embedded::Options::default())?;
    let http = TcpListener::bind(settings.http.listen)
        .await
        .with_context(|| format!("http.listen: cannot listen on {}", settings.http.listen))?;
    let ports = settings.sip.listen.iter().map(router::bind).collect::<Result<Vec<_>, _>>()?;

    let rules = registry::Settings {
        deregister_after: Duration::from_secs(settings.deregister_after_seconds),
        flap_limit: settings.flap_limit as u32,
        flap_hold: Duration::from_secs(settings.flap_hold_seconds),
        realm: settings.realm.clone(),
        ..registry::Settings::default()
    };
    let keep = Keep { entries: settings.history_keep as usize, ..Keep::default() };
    let control = Control::open_keeping(Arc::new(store), rules, keep).await?;
    let records = recording::start(&settings)?;
    if let Some(records) = &records {
        tokio::spawn(recording::reopen(records.clone(), signal(SignalKind::hangup())?));
    }
    let router = Router::start(&settings, ports, &control, streams, hangup, records.clone()).await?;

    let limits = api::Settings {
        max_body_bytes: settings.http.max_body_bytes,
        max_apply_bytes: settings.http.max_apply_bytes,
        request_timeout: Duration::from_millis(settings.http.request_timeout_ms),
    };
    let handlers = api::router(control.clone(), router.live.clone(), limits);
    let address = http.local_addr()?;
    let (leave, left) = tokio::sync::oneshot::channel::<()>();
    let mut http = tokio::spawn(async move {
        axum::serve(http, handlers.into_make_service_with_connect_info::<SocketAddr>())
            .with_graceful_shutdown(async { drop(left.await) })
            .await
    });
    info!(
        "trunk registry up: HTTP on http://{address}, SIP on {}, {} trunks in {}. Next: curl -X PUT \
         http://{address}/trunks/a -d '{{\"sip_uri\":\"sip:192.0.2.10:5060\"}}'",
        router.addresses().join(", "),
        control.read(|registry, _| registry.len()),
        settings.data_dir.display(),
    );

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut http => ended?.context("the HTTP interface has stopped")?,
    }
    drain(&settings, &router).await;
    // Where nobody listens any more, nothing needs to be told.
    let _ = leave.send(());
    if tokio::time::timeout(HTTP_LEAVE, http).await.is_err() {
        warn!("HTTP requests were still open");
    }
    router.stop();
    if let Some(records) = records {
        recording::stop(records).await;
    }
    control.stop().await;
    info!("left");
    Ok(())
}

/// Takes no new calls, and waits until what is pending is answered, within the bound of the settings.
async fn drain(settings: &Settings, router: &Router) {
    router.proxy.draining.store(true, Relaxed);
    let Some(engine) = router.live.engine.get() else { return };
    info!(pending = engine.undecided(), calls = engine.calls().len(), "leaving: new calls are answered 503");
    let until = Instant::now() + Duration::from_secs(settings.sip.drain_seconds);
    while engine.undecided() > 0 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
