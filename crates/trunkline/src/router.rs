//! The SIP side of the process: its parts, and how they are joined.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use control::Control;
use net::{Bound, Clock, Engine, EngineConfig, Names, NamesSettings, Resolver, StreamSettings, TlsSettings};
use proxy::{Config, Keys, Listener, Shard};
use records::Records;
use registrar::Registrar;
use sip::Transport;
use tokio::runtime::Handle;
use tokio::signal::unix::Signal;
use tokio::task::JoinHandle;

use crate::bridge::{self, Bridge};
use crate::explain::Explainer;
use crate::live::Live;
use crate::merit::{self, Merits};
use crate::metrics::Counters;
use crate::recent::Recent;
use crate::settings::{Listen, Settings};
use crate::watch::Watch;
use crate::{certificates, desk, keeper, prober};

/// Shards for each thread: enough that two threads seldom want the same one.
const SHARDS_PER_THREAD: usize = 8;
/// Server transactions of all shards together.
const MOST_TRANSACTIONS: usize = 2_000_000;

/// The running SIP side.
pub struct Router {
    /// What it sees, for the HTTP interface.
    pub live: Arc<Live>,
    /// Settings of its shards.
    pub proxy: Arc<Config>,
    tasks: Vec<JoinHandle<()>>,
}

impl Router {
    /// Builds the first table, then begins to listen. `streams` is where connections run; `records` takes the records of calls.
    pub async fn start(
        settings: &Settings,
        ports: Vec<Bound>,
        control: &Arc<Control>,
        streams: Handle,
        hangup: Signal,
        records: Option<Arc<Records>>,
    ) -> anyhow::Result<Router> {
        let names = Names::start(Resolver::new(&settings.dns_servers)?, NamesSettings::default());
        let clock = Clock::new();
        let watch = Arc::new(Watch::new(liveness_settings(settings), u64::from_be_bytes(random()?), clock));
        let merits = Arc::new(Merits::new(clock));
        let transports: Vec<Transport> = settings.sip.listen.iter().map(|listen| listen.transport).collect();
        let rules = keeper::Rules {
            allow: settings.sip.allow.clone(),
            trust: settings.sip.trusted.clone(),
            transports: transports.clone(),
        };
        let (table, keeping) = keeper::start(control, &names, &watch, &merits, rules);
        let keeping = tokio::spawn(keeping);

        let counters = Arc::new(Counters::new());
        let registrar = Arc::new(Registrar::new(registrar_settings(settings), random()?));
        let (work, waiting) = tokio::sync::mpsc::channel(bridge::WAITING_WORK);
        let proxy = Arc::new(proxy_config(settings, &ports, control).await?);
        let recent = Arc::new(Recent::new(settings.keep_calls as usize));
        let bridge = Arc::new(Bridge {
            table: table.clone(),
            counters: counters.clone(),
            watch: watch.clone(),
            merits: merits.clone(),
            registrar: registrar.clone(),
            control: control.clone(),
            clock,
            proxy: proxy.clone(),
            work,
            lines: bridge::start_log()?,
            records: records.clone(),
            recent: recent.clone(),
            in_panic: AtomicBool::new(false),
        });
        let explainer = Explainer { control: control.clone(), names: names.clone(), watch: watch.clone(), transports };
        let live = Arc::new(Live {
            table: table.clone(),
            counters,
            watch: watch.clone(),
            merits: merits.clone(),
            records,
            recent,
            explainer,
            engine: OnceLock::new(),
        });
        let engine = start_engine(settings, ports, proxy.clone(), bridge, streams, clock)?;
        // The cell is empty until here.
        let _ = live.engine.set(engine);
        let tasks = vec![
            keeping,
            tokio::spawn(merit::keep(merits, table)),
            tokio::spawn(desk::run(waiting, names, live.clone(), registrar, control.clone())),
            tokio::spawn(prober::run(watch, live.clone(), proxy.clone())),
            tokio::spawn(certificates::keep(live.clone(), hangup)),
        ];
        Ok(Router { live, proxy, tasks })
    }

    /// Where it listens, with the transports.
    pub fn addresses(&self) -> Vec<String> {
        let listeners = self.proxy.listeners.iter();
        listeners.map(|listener| format!("{}:{}", listener.transport, listener.address)).collect()
    }

    /// Ends it; calls stand, unattended.
    pub fn stop(&self) {
        if let Some(engine) = self.live.engine.get() {
            engine.stop();
        }
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn proxy_config(settings: &Settings, ports: &[Bound], control: &Control) -> anyhow::Result<Config> {
    let (boot, fresh): ([u8; 16], [u8; 16]) = (random()?, random()?);
    // Outlives the process, so that calls that stand across a restart still prove themselves.
    let token = control.secret("sip-token-key", || fresh.to_vec()).await?;
    let token = <[u8; 16]>::try_from(&token[..]).context("the stored SIP key is damaged")?;
    let listeners = ports.iter().zip(&settings.sip.listen).map(|(port, Listen { transport, .. })| {
        let (address, transport) = (port.local_addr(), *transport);
        let advertised = match &settings.sip.advertise {
            Some(advertise) => advertised(advertise, address.port(), transport),
            None => address.to_string(),
        };
        Listener { address, transport, advertised }
    });
    let threads = settings.sip.threads * settings.sip.udp_listeners().max(1);
    let mut config = Config::new(listeners.collect(), Keys::new(boot, token));
    config.setup_timeout = settings.sip.setup_timeout_ms;
    config.ring_timeout = settings.sip.ring_timeout_ms;
    config.timer_c = settings.sip.ring_timeout_ms.max(180_000) + 5000;
    config.max_call = settings.sip.max_call_seconds * 1000;
    // Sources spread over the shards by their Call-IDs, not quite evenly.
    config.max_of_source = (settings.sip.max_calls_per_source / (threads * SHARDS_PER_THREAD)).max(8) * 5 / 4;
    config.registers.store(true, Relaxed);
    config.session_expires = settings.sip.session_expires_seconds as u32;
    config.reroute_after_ringing = settings.sip.reroute_after_ringing;
    config.max_transactions = MOST_TRANSACTIONS / (threads * SHARDS_PER_THREAD);
    Ok(config)
}

/// Binds a listener.
///
/// # Errors
/// Names the address that cannot be listened on.
pub fn bind(listen: &Listen) -> Result<Bound, net::BindError> {
    match listen.transport {
        Transport::Udp => net::bind(listen.address).map(Bound::Udp),
        Transport::Tcp | Transport::Tls => net::bind_stream(listen.address).map(Bound::Stream),
    }
}

/// What a listener calls itself: a port that the setting names is that of UDP and TCP; else each has its own.
fn advertised(setting: &str, port: u16, transport: Transport) -> String {
    let named = sip::Uri::parse(format!("sip:{setting}").as_bytes()).is_ok_and(|uri| uri.port.is_some());
    match (named, transport) {
        (true, Transport::Tls) => {
            let host = setting.rsplit_once(':').map_or(setting, |(host, _)| host);
            advertised(host, port, transport)
        }
        (true, _) => setting.to_owned(),
        (false, _) if port == transport.default_port() => setting.to_owned(),
        (false, _) => format!("{setting}:{port}"),
    }
}

fn start_engine(
    settings: &Settings,
    ports: Vec<Bound>,
    proxy: Arc<Config>,
    bridge: Arc<Bridge>,
    runtime: Handle,
    clock: Clock,
) -> anyhow::Result<Engine> {
    let count = settings.sip.threads * settings.sip.udp_listeners().max(1) * SHARDS_PER_THREAD;
    let mut shards = Vec::with_capacity(count);
    for index in 0..count {
        shards.push(Shard::new(index as u16, proxy.clone(), u64::from_be_bytes(random()?)));
    }
    let streams = StreamSettings {
        total: settings.sip.max_connections,
        per_source: settings.sip.max_connections_per_source,
        ..StreamSettings::default()
    };
    let tls = settings.tls.certificate.is_some().then(|| net::Tls::load(tls_settings(settings))).transpose()?;
    let threads = settings.sip.threads;
    Ok(Engine::start(EngineConfig { ports, threads, streams, tls, runtime, proxy, shards, router: bridge, clock })?)
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

fn liveness_settings(settings: &Settings) -> liveness::Settings {
    liveness::Settings {
        call_fall: settings.call_fall as u32,
        rest: settings.rest_seconds * 1000,
        probe_timeout: settings.sip.setup_timeout_ms,
    }
}

fn registrar_settings(settings: &Settings) -> registrar::Settings {
    registrar::Settings {
        realm: settings.realm.clone(),
        algorithms: settings.algorithms.clone(),
        min_expires: settings.min_expires_seconds as u32,
        max_expires: settings.max_expires_seconds as u32,
        ..registrar::Settings::default()
    }
}

fn tls_settings(settings: &Settings) -> TlsSettings {
    let tls = settings.tls.clone();
    TlsSettings {
        certificate: tls.certificate,
        key: tls.key,
        authorities: tls.authorities,
        client_authorities: tls.client_authorities,
        require_client: tls.require_client,
        directory: tls.directory,
    }
}
