//! What runs beside the commands: the change stream, the lease clock, and the sentinel that watches both and the store.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use store::{Revision, Watch, WatchError, Write};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, error, info, warn};

use crate::{Actor, Core, ExecuteError};

/// How often leases are looked at: bounds how late one lapses.
const TICK: Duration = Duration::from_millis(100);

/// How often the sentinel looks.
const SENTRY: Duration = Duration::from_millis(500);

/// How long to wait before a store that failed is asked again.
const RETRY: Duration = Duration::from_millis(250);

/// Deregistrations under way at once: they share fsyncs, and must not crowd out the commands of callers.
const REAPERS: usize = 64;

/// Deregistrations that wait their turn, at most.
const DUE: usize = 20_000;

/// Applies the change stream for ever, and lists anew whenever it breaks off.
pub(crate) async fn follow(core: Arc<Core>, mut watch: Watch) {
    loop {
        match watch.next().await {
            Ok(changes) => {
                core.mirror.apply(&changes);
                core.health.stream(Ok(()));
            }
            Err(WatchError::Unavailable(why)) => {
                core.health.stream(Err(why));
                sleep(RETRY).await;
            }
            Err(why) => {
                warn!(error = %why, "change stream broke off, listing anew");
                core.health.stream(Err(why.to_string()));
                watch = resume(&core).await;
                core.health.stream(Ok(()));
                info!(revision = core.mirror.applied(), "change stream resumed");
            }
        }
    }
}

async fn resume(core: &Core) -> Watch {
    loop {
        match core.load().await {
            Ok(watch) => return watch,
            Err(why) => core.health.stream(Err(why.to_string())),
        }
        sleep(RETRY).await;
    }
}

/// Looks at the leases for ever, and deregisters what is long gone.
pub(crate) async fn keep_time(core: Arc<Core>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut due = VecDeque::new();
    let mut reapers = JoinSet::new();
    loop {
        // The clock first: a thousand deregistrations must not make a lease late.
        tokio::select! {
            biased;
            _ = ticks.tick() => {
                let orders = core.mirror.tick();
                // What finds no room is ordered again by the registry.
                let room = DUE.saturating_sub(due.len());
                due.extend(orders.into_iter().take(room));
            }
            Some(_) = reapers.join_next() => {}
        }
        while reapers.len() < REAPERS
            && let Some(command) = due.pop_front()
        {
            let core = core.clone();
            reapers.spawn(async move { reap(&core, command).await });
        }
    }
}

async fn reap(core: &Core, command: registry::Command) {
    match core.execute(command, &Actor::LeaseClock).await {
        Ok(_) => {}
        // The trunk came back, or went, while we were about it.
        Err(ExecuteError::Refused(why)) => debug!(reason = %why, "deregistration not needed"),
        Err(why) => warn!(error = %why, "cannot deregister, trying again later"),
    }
}

/// Watches that the mirror keeps up with the store, and whether a store that refused a write takes them again.
pub(crate) async fn stand_sentry(core: Arc<Core>) {
    let mut looks = interval(SENTRY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut owed: Option<(Revision, Instant)> = None;
    loop {
        looks.tick().await;
        owed = lag(&core, owed).await;
        core.health.lag(owed.map(|(_, since)| since.elapsed()).unwrap_or_default());
        if core.health.write_failed() {
            // While we say that we are not ready nobody may send us a write, so nothing else would find out.
            let probe = vec![Write::put("meta/writable", Vec::new())];
            match timeout(Duration::from_secs(5), core.store.commit(probe)).await {
                Ok(Ok(_)) => {
                    info!("store takes writes again");
                    core.health.write(Ok(()));
                }
                Ok(Err(why)) => error!(error = %why, "store takes no writes"),
                Err(_) => error!("store does not answer writes"),
            }
        }
    }
}

/// The revision that the mirror owes, and since when.
async fn lag(core: &Core, owed: Option<(Revision, Instant)>) -> Option<(Revision, Instant)> {
    let applied = core.mirror.applied();
    match owed {
        Some((revision, _)) if applied < revision => owed,
        _ => {
            let revision = timeout(SENTRY, core.store.revision()).await.unwrap_or(applied);
            (revision > applied).then(|| (revision, Instant::now()))
        }
    }
}
