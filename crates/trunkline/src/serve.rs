//! `trunkline serve`: starts the rooms of the house in order, and leaves in order.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use control::Control;
use net::{BoundSocket, Clock, Engine, EngineConfig, Names, NamesSettings, Resolver};
use proxy::{Config, Keys, Listener, Shard};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use crate::bridge::Bridge;
use crate::keeper;
use crate::live::Live;
use crate::metrics::Counters;
use crate::settings::Settings;

/// Shards for each thread: enough that two threads seldom want the same one.
const SHARDS_PER_THREAD: usize = 8;
/// Server transactions of all shards together.
const MOST_TRANSACTIONS: usize = 2_000_000;
/// Time for HTTP requests to end once the process leaves.
const HTTP_LEAVE: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT.
pub fn run(settings: Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let store = store::embedded::Embedded::open(&settings.data_dir, store::embedded::Options::default())?;
    let http = TcpListener::bind(settings.http.listen)
        .await
        .with_context(|| format!("http.listen: cannot listen on {}", settings.http.listen))?;
    let sockets = settings.sip.listen.iter().map(|address| net::bind(*address)).collect::<Result<Vec<_>, _>>()?;

    let rules = registry::Settings {
        deregister_after: Duration::from_secs(settings.deregister_after_seconds),
        ..registry::Settings::default()
    };
    let control = Control::open(Arc::new(store), rules).await?;
    let names = Names::start(Resolver::new()?, NamesSettings::default());
    let (table, keeping) = keeper::start(&control, &names, settings.sip.allow.clone());
    let keeping = tokio::spawn(keeping);

    let counters = Arc::new(Counters::new());
    let bridge = Bridge::start(table.clone(), counters.clone())?;
    let proxy = Arc::new(proxy_config(&settings, &sockets, &control).await?);
    let live = Arc::new(Live { table, counters, engine: OnceLock::new() });
    let engine = start_engine(&settings, sockets, proxy.clone(), bridge)?;
    let addresses: Vec<String> = engine.local_addresses().iter().map(|address| format!("udp:{address}")).collect();
    // The cell is empty until here.
    let _ = live.engine.set(engine);

    let limits = api::Settings {
        max_body_bytes: settings.http.max_body_bytes,
        request_timeout: Duration::from_millis(settings.http.request_timeout_ms),
    };
    let router = api::router(control.clone(), live.clone(), limits);
    let address = http.local_addr()?;
    let (leave, left) = tokio::sync::oneshot::channel::<()>();
    let mut http =
        tokio::spawn(async move { axum::serve(http, router).with_graceful_shutdown(async { drop(left.await) }).await });
    info!(
        "trunk registry up: HTTP on http://{address}, SIP on {}, {} trunks in {}. Next: curl -X PUT \
         http://{address}/trunks/a -d '{{\"sip_uri\":\"sip:192.0.2.10:5060\"}}'",
        addresses.join(", "),
        control.read(|registry, _| registry.len()),
        settings.data_dir.display(),
    );

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut http => ended?.context("the HTTP interface has stopped")?,
    }
    drain(&settings, &proxy, &live).await;
    // Where nobody listens any more, nothing needs to be told.
    let _ = leave.send(());
    if tokio::time::timeout(HTTP_LEAVE, http).await.is_err() {
        warn!("HTTP requests were still open");
    }
    if let Some(engine) = live.engine.get() {
        engine.stop();
    }
    keeping.abort();
    control.stop().await;
    info!("left");
    Ok(())
}

async fn proxy_config(settings: &Settings, sockets: &[BoundSocket], control: &Control) -> anyhow::Result<Config> {
    let mut boot = [0; 16];
    getrandom::fill(&mut boot)?;
    let mut fresh = [0; 16];
    getrandom::fill(&mut fresh)?;
    // Outlives the process, so that calls that stand across a restart still prove themselves.
    let token = control.secret("sip-token-key", || fresh.to_vec()).await?;
    let token = <[u8; 16]>::try_from(&token[..]).context("the stored SIP key is damaged")?;
    let listeners = sockets.iter().map(|socket| {
        let address = socket.local_addr();
        let advertised = settings.sip.advertise.clone().unwrap_or_else(|| address.to_string());
        Listener { address, advertised }
    });
    let threads = settings.sip.threads * sockets.len();
    let mut config = Config::new(listeners.collect(), Keys::new(boot, token));
    config.setup_timeout = settings.sip.setup_timeout_ms;
    config.ring_timeout = settings.sip.ring_timeout_ms;
    config.timer_c = settings.sip.ring_timeout_ms.max(180_000) + 5000;
    config.max_call = settings.sip.max_call_seconds * 1000;
    config.reroute_after_ringing = settings.sip.reroute_after_ringing;
    config.max_transactions = MOST_TRANSACTIONS / (threads * SHARDS_PER_THREAD);
    Ok(config)
}

fn start_engine(
    settings: &Settings,
    sockets: Vec<BoundSocket>,
    proxy: Arc<Config>,
    bridge: Arc<Bridge>,
) -> anyhow::Result<Engine> {
    let count = settings.sip.threads * sockets.len() * SHARDS_PER_THREAD;
    let mut shards = Vec::with_capacity(count);
    for index in 0..count {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed)?;
        shards.push(Shard::new(index as u16, proxy.clone(), u64::from_be_bytes(seed)));
    }
    let threads = settings.sip.threads;
    Ok(Engine::start(EngineConfig { sockets, threads, proxy, shards, router: bridge, clock: Clock::new() })?)
}

/// Takes no new calls, and waits until what is pending is answered, within the bound of the settings.
async fn drain(settings: &Settings, proxy: &Config, live: &Live) {
    proxy.draining.store(true, Relaxed);
    let Some(engine) = live.engine.get() else { return };
    info!(pending = engine.undecided(), calls = engine.calls().len(), "leaving: new calls are answered 503");
    let until = Instant::now() + Duration::from_secs(settings.sip.drain_seconds);
    while engine.undecided() > 0 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
