//! Commands, leases, restarts and feeds over a real store in a temporary directory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use registry::{Condition, Edit, Event, EventKind, Settings, TrunkEvent};
use store::embedded::{Embedded, Options};
use store::{Change, Changes, Entry, Listing};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::time::sleep;

use registry::{Collection, Command};
use store::CommitError;
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

async fn open(dir: &TempDir) -> Arc<Control> {
    let store = Embedded::open(dir.path(), Options::default()).unwrap();
    Control::open(Arc::new(store), Settings::default()).await.unwrap()
}

/// Closes for good, so that the directory can be opened again.
async fn close(control: Arc<Control>) {
    control.stop().await;
    assert_eq!(Arc::strong_count(&control), 1, "nobody else may hold the registry");
}

fn register(id: &str, members: &str) -> Command {
    let body = format!(r#"{{"sip_uri":"sip:192.0.2.1"{members}}}"#).into_bytes();
    Command::Register { id: id.into(), body, condition: Condition::default() }
}

fn deregister(id: &str) -> Command {
    Command::Deregister { id: id.into(), condition: Condition::default() }
}

fn weight(control: &Control, id: &str) -> Option<u32> {
    control.read(|registry, now| registry.view(id, now).map(|view| view.trunk.weight))
}

fn is_up(control: &Control, id: &str) -> Option<bool> {
    control.read(|registry, now| registry.view(id, now).map(|view| view.up))
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn trunk(event: &Event) -> &TrunkEvent {
    event.trunk().expect("an event of a trunk")
}

fn edit(of: Collection, id: &str, edit: Edit) -> Command {
    Command::Edit { of, id: id.into(), edit, condition: Condition::default() }
}

async fn events(feed: &mut Feed) -> Vec<(EventId, Arc<Event>)> {
    timeout(PATIENCE, feed.next()).await.expect("events come").expect("the feed keeps up")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_visible_when_it_is_answered() {
    let dir = TempDir::new().unwrap();
    let control = open(&dir).await;
    let caller = |w: u32| {
        let control = control.clone();
        async move {
            let id = format!("t{w}");
            for n in 1..=40 {
                control.execute(register(&id, &format!(r#","weight":{n}"#)), &Actor::Unknown).await.unwrap();
                assert_eq!(weight(&control, &id), Some(n), "a caller reads its own write");
            }
            control.execute(deregister(&id), &Actor::Unknown).await.unwrap();
            assert_eq!(weight(&control, &id), None, "a caller reads its own deletion");
        }
    };
    let callers: Vec<_> = (0..16).map(|w| tokio::spawn(caller(w))).collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(control.revision(), 16 * 41);
}

#[tokio::test(flavor = "multi_thread")]
async fn contended_commands_are_decided_anew() {
    let dir = TempDir::new().unwrap();
    let control = open(&dir).await;
    let callers: Vec<_> = (1..=8)
        .map(|w| {
            let control = control.clone();
            tokio::spawn(async move {
                for n in 0..20 {
                    control
                        .execute(register("same", &format!(r#","weight":{}"#, w * 100 + n)), &Actor::Unknown)
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(weight(&control, "same").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_every_trunk_and_its_lease() {
    let dir = TempDir::new().unwrap();
    let control = open(&dir).await;
    for n in 0..50 {
        control
            .execute(register(&format!("t{n:02}"), &format!(r#","weight":{},"note":"kept""#, n + 1)), &Actor::Unknown)
            .await
            .unwrap();
    }
    control.execute(deregister("t07"), &Actor::Unknown).await.unwrap();
    let revision = control.revision();
    close(control).await;

    let control = open(&dir).await;
    assert_eq!(control.revision(), revision);
    assert_eq!(control.read(|registry, _| registry.len()), 49);
    for n in (0..50).filter(|n| *n != 7) {
        assert_eq!(weight(&control, &format!("t{n:02}")), Some(n + 1));
        assert_eq!(is_up(&control, &format!("t{n:02}")), Some(true), "a restart expires nothing");
    }
    assert_eq!(weight(&control, "t07"), None, "nothing deleted is back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_made_once() {
    let dir = TempDir::new().unwrap();
    let control = open(&dir).await;
    let first = control.secret("key", || b"first".to_vec()).await.unwrap();
    assert_eq!(&first[..], b"first");
    assert_eq!(&control.secret("key", || b"second".to_vec()).await.unwrap()[..], b"first");
    close(control).await;
    let control = open(&dir).await;
    assert_eq!(&control.secret("key", || b"third".to_vec()).await.unwrap()[..], b"first", "it survives a restart");
    assert_eq!(&control.secret("other", || b"other".to_vec()).await.unwrap()[..], b"other");
    assert_eq!(control.read(|registry, _| registry.len()), 0, "a secret is no trunk");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_resumes_where_it_was_left() {
    let dir = TempDir::new().unwrap();
    let control = open(&dir).await;
    let (count, mut feed) = control.read_and_follow(|registry, _| registry.len());
    assert_eq!(count, 0);
    assert!(!feed.resumed());
    control.execute(register("a", ""), &Actor::Unknown).await.unwrap();
    control.execute(register("b", ""), &Actor::Unknown).await.unwrap();

    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(events(&mut feed).await);
    }
    let ids: Vec<String> = seen.iter().map(|(_, event)| trunk(event).id.to_string()).collect();
    assert_eq!(ids, ["a", "b"]);
    assert!(seen.iter().all(|(_, event)| trunk(event).kind == EventKind::Registered));
    assert_eq!(feed.position(), seen[1].0);
    assert_eq!(seen[1].0.to_string().parse(), Ok(seen[1].0), "an id survives being written down");

    let mut again = control.events_after(Some(seen[0].0));
    assert!(again.resumed());
    assert_eq!(events(&mut again).await[0].0, seen[1].0, "exactly the event after the one named");
    let mut current = control.events_after(Some(seen[1].0));
    assert!(current.resumed());
    let quiet = timeout(Duration::from_millis(20), current.next()).await;
    assert!(quiet.is_err(), "nothing happened since: {quiet:?}");
    control.execute(deregister("a"), &Actor::Unknown).await.unwrap();
    assert_eq!(trunk(&events(&mut current).await[0].1).kind, EventKind::Deregistered);

    let future = EventId { seq: 1_000_000, ..seen[1].0 };
    let elsewhere = EventId { boot: seen[1].0.boot - 1, ..seen[1].0 };
    for id in [None, Some(future), Some(elsewhere)] {
        let feed = control.events_after(id);
        assert!(!feed.resumed(), "{id:?} cannot be resumed from");
        assert_eq!(feed.position(), control.position(), "so the feed starts from now");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_fell_off_the_ring_is_told() {
    let view = |n: usize| {
        Event::Trunk(Box::new(TrunkEvent { kind: EventKind::Updated, id: n.to_string().into(), view: None }))
    };
    let ring = crate::feed::Ring::new(1);
    let mut slow = ring.after(None);
    let mut kept = ring.after(None);
    ring.push((1..=EVENTS_KEPT).map(view).collect());
    assert_eq!(events(&mut kept).await[0].0, EventId { boot: 1, seq: 1 }, "all of the ring can be read");
    ring.push(vec![view(EVENTS_KEPT + 1)]);
    assert_eq!(slow.next().await.unwrap_err(), Lost);
    assert!(!ring.after(Some(EventId { boot: 1, seq: 0 })).resumed(), "what has fallen off cannot be resumed from");

    let mut oldest = ring.after(Some(EventId { boot: 1, seq: 1 }));
    assert!(oldest.resumed());
    let mut seen = Vec::new();
    while seen.len() < EVENTS_KEPT {
        seen.extend(events(&mut oldest).await);
    }
    for (n, (id, event)) in (2..).zip(&seen) {
        assert_eq!((id.seq, &*trunk(event).id), (n, &*n.to_string()), "in order, without a gap");
    }
    assert_eq!(oldest.position(), ring.last());
}

#[test]
fn what_is_no_event_id_is_refused() {
    for text in ["", "-", "1", "1-", "-1", "a-1", "1-2-3", "1--2", "99999999999999999999999-1"] {
        assert_eq!(text.parse::<EventId>(), Err(InvalidEventId), "{text:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_generation_moves_with_every_change_and_no_heartbeat() {
    let dir = TempDir::new().unwrap();
    let control = open(&dir).await;
    let mut generation = control.generation();
    generation.mark_unchanged();
    control.execute(register("a", ""), &Actor::Unknown).await.unwrap();
    assert!(generation.has_changed().unwrap());
    generation.mark_unchanged();
    let before = control.revision();
    assert_eq!(control.heartbeat("a"), Beat::Renewed);
    assert_eq!(control.heartbeat("unknown"), Beat::Unknown);
    assert!(!generation.has_changed().unwrap(), "a heartbeat rebuilds no table");
    assert_eq!(control.revision(), before, "a heartbeat writes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_record_that_is_the_same_is_not_written() {
    let dir = TempDir::new().unwrap();
    let control = open(&dir).await;
    control.execute(register("a", ""), &Actor::Unknown).await.unwrap();
    let before = control.revision();
    control.execute(register("a", ""), &Actor::Unknown).await.unwrap();
    assert_eq!(control.revision(), before);
}

/// A store that can be told to refuse writes, and whose watches can be told to break off.
struct Moody {
    store: Embedded,
    refuses: Arc<AtomicBool>,
    breaks: Arc<Notify>,
}

/// A watch that says it was compacted when told to.
struct Breaking(Watch, Arc<Notify>);

#[async_trait]
impl Changes for Breaking {
    async fn next(&mut self) -> Result<Vec<Change>, WatchError> {
        tokio::select! {
            biased;
            () = self.1.notified() => Err(WatchError::Compacted { oldest: 0 }),
            changes = self.0.next() => changes,
        }
    }
}

fn moody(dir: &TempDir) -> Arc<Moody> {
    let store = Embedded::open(dir.path(), Options::default()).unwrap();
    Arc::new(Moody { store, refuses: Arc::default(), breaks: Arc::default() })
}

#[async_trait]
impl Store for Moody {
    async fn commit(&self, batch: Vec<Write>) -> Result<Revision, CommitError> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(CommitError::Unavailable("moody".into()));
        }
        self.store.commit(batch).await
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.store.list(prefix).await
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.store.get(key).await
    }

    async fn watch(&self, after: Revision) -> Result<Watch, WatchError> {
        let watch = self.store.watch(after).await?;
        Ok(Watch::new(Breaking(watch, self.breaks.clone())))
    }

    async fn revision(&self) -> Revision {
        self.store.revision().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_off_is_resumed_by_listing_anew() {
    let dir = TempDir::new().unwrap();
    let store = moody(&dir);
    let control = Control::open(store.clone(), Settings::default()).await.unwrap();
    for n in 0..30 {
        let id = format!("t{n}");
        control.execute(register(&id, ""), &Actor::Unknown).await.unwrap();
        store.breaks.notify_one();
        control.execute(register(&id, r#","weight":7"#), &Actor::Unknown).await.unwrap();
        assert_eq!(weight(&control, &id), Some(7), "a caller reads its own write, stream or no stream");
        if n % 2 == 0 {
            store.breaks.notify_one();
            control.execute(deregister(&id), &Actor::Unknown).await.unwrap();
            assert_eq!(weight(&control, &id), None, "what is gone from the listing is gone");
        }
    }
    assert_eq!(control.read(|registry, _| registry.len()), 15);
    until("ready", || control.ready() == Ok(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_writes_makes_us_unready_until_it_takes_them() {
    let dir = TempDir::new().unwrap();
    let store = moody(&dir);
    let refuses = store.refuses.clone();
    let control = Control::open(store, Settings::default()).await.unwrap();
    control.execute(register("a", ""), &Actor::Unknown).await.unwrap();
    assert_eq!(control.ready(), Ok(()));

    refuses.store(true, Ordering::SeqCst);
    let refused = control.execute(register("b", ""), &Actor::Unknown).await;
    assert!(matches!(refused, Err(ExecuteError::Unavailable(_))), "{refused:?}");
    assert_eq!(control.ready(), Err("store: moody".into()));
    assert_eq!(weight(&control, "a"), Some(100), "what is known stays readable");
    assert_eq!(weight(&control, "b"), None);
    assert_eq!(control.heartbeat("a"), Beat::Renewed, "and heartbeats go on");

    refuses.store(false, Ordering::SeqCst);
    until("ready again without anybody's write", || control.ready() == Ok(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_and_groups_are_told_with_the_trunks_and_outlive_a_restart() {
    let dir = TempDir::new().unwrap();
    let control = open(&dir).await;
    let (_, mut feed) = control.read_and_follow(|_, _| ());
    let route = |body: &str| edit(Collection::Routes, "r", Edit::Put(body.into()));
    control.execute(register("a", ""), &Actor::Unknown).await.unwrap();
    control.execute(route(r#"{"targets":[{"trunk":"a"}]}"#), &Actor::Unknown).await.unwrap();
    control
        .execute(edit(Collection::Groups, "g", Edit::Put(br#"{"policy":"hash"}"#.to_vec())), &Actor::Unknown)
        .await
        .unwrap();
    control.execute(route(r#"{"targets":[{"group":"g"}],"comment":"c"}"#), &Actor::Unknown).await.unwrap();
    let before = control.revision();
    control.execute(route(r#"{"targets":[{"group":"g"}],"comment":"c"}"#), &Actor::Unknown).await.unwrap();
    assert_eq!(control.revision(), before, "what is the same is not written");
    control.execute(edit(Collection::Groups, "g", Edit::Delete), &Actor::Unknown).await.unwrap();

    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.extend(feed.next_all().await.unwrap().into_iter().map(|(_, event)| match &*event {
            Event::Trunk(event) => format!("trunk {} {}", event.id, event.kind.as_str()),
            Event::Route { id, route } => format!("route {id} {:?}", route.as_ref().map(|r| r.targets.len())),
            Event::Group { id, group } => format!("group {id} {:?}", group.as_ref().map(|g| g.policy)),
        }));
    }
    assert_eq!(
        seen,
        ["trunk a registered", "route r Some(1)", "group g Some(Hash)", "route r Some(1)", "group g None"]
    );
    close(control).await;
    let control = open(&dir).await;
    let (comment, groups) = control.read(|registry, _| {
        (registry.route("r").and_then(|kept| kept.record.comment.clone()), registry.groups().len())
    });
    assert_eq!((comment.as_deref(), groups), (Some("c"), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_there_is_taken_at_once() {
    let event = |n: usize| Event::Route { id: n.to_string().into(), route: None };
    let ring = crate::feed::Ring::new(1);
    let mut feed = ring.after(None);
    ring.push((0..4096).map(event).collect());
    ring.push((4096..4100).map(event).collect());
    assert_eq!(timeout(PATIENCE, feed.next_all()).await.unwrap().unwrap().len(), 4100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_clock_that_stands_still_makes_us_unready() {
    let dir = TempDir::new().unwrap();
    let control = Control::open(moody(&dir), Settings::default()).await.unwrap();
    control.execute(register("a", r#","heartbeat_seconds":5"#), &Actor::Unknown).await.unwrap();
    until("ready", || control.ready() == Ok(())).await;
    // The task of the lease clock ends, as it would by a defect; everything else goes on.
    control.tasks.lock()[1].abort();
    until("unready", || control.ready().is_err_and(|why| why.starts_with("lease clock: stalled for "))).await;
    assert!(control.clock_age() > Duration::from_secs(2));
    assert_eq!(control.heartbeat("a"), Beat::Renewed);
    assert_eq!(is_up(&control, "a"), Some(true), "a lease does not run out by a fault of ours");
}
