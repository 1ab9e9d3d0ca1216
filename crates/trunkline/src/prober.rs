//! Sends the probes that are due, where a call would go.

use std::sync::Arc;
use std::time::Duration;

use liveness::Order;
use proxy::{Config, Hop, Probe};
use tokio::time::{MissedTickBehavior, interval};

use crate::live::Live;
use crate::watch::{Watch, key};

/// How often due probes are looked for.
const TICK: Duration = Duration::from_millis(20);
/// Probes sent in one tick at most; 100,000 a second, more than any machine sends.
const AT_ONCE: usize = 2000;

/// Probes for ever.
pub async fn run(watch: Arc<Watch>, live: Arc<Live>, config: Arc<Config>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(engine) = live.engine.get() else { continue };
        let orders = watch.tick(AT_ONCE);
        if orders.is_empty() {
            continue;
        }
        let probes: Vec<Probe> = orders.iter().filter_map(|order| probe(order, &live, &config)).collect();
        engine.probe(&probes);
    }
}

/// An OPTIONS as an order wants it; none where its trunk has gone meanwhile, or no listener leads there.
fn probe(order: &Order, live: &Live, config: &Config) -> Option<Probe> {
    let table = live.table.load();
    let trunk = table.trunk(&order.id)?;
    let place = &trunk.targets.iter().find(|target| key(&target.place) == order.key)?.place;
    let listener = config.listener_towards(place.address, place.transport, 0)?;
    let hop = Hop::to_place(listener, place);
    let scheme = if trunk.is_secure() { "sips" } else { "sip" };
    let host = match &trunk.facts.probe_host {
        Some(host) => host.clone(),
        None => String::from_utf8_lossy(&trunk.host_port).into_owned(),
    };
    let params = String::from_utf8_lossy(&trunk.uri_params).into_owned();
    let request_uri = format!("{scheme}:{host}{params}").into();
    let from = trunk.facts.probe_from.clone().map(Into::into);
    Some(Probe { token: order.token, hop, request_uri, from, timeout: order.timeout })
}
