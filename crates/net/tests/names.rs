//! Background resolution against a scripted resolver, in virtual time; and the system's own.

#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use net::{Lookup, Names, NamesSettings, ResolveError, Resolved, Resolver, Service, State};
use routing::Place;

#[derive(Clone, Default)]
struct Script(Arc<Mutex<Scene>>);

#[derive(Default)]
struct Scene {
    answers: HashMap<String, (Vec<IpAddr>, u64)>,
    asked: HashMap<String, usize>,
    running: usize,
    most_running: usize,
    takes: Duration,
}

impl Script {
    fn set(&self, name: &str, address: &str, ttl: u64) {
        self.0.lock().unwrap().answers.insert(name.to_owned(), (vec![address.parse().unwrap()], ttl));
    }

    fn forget(&self, name: &str) {
        self.0.lock().unwrap().answers.remove(name);
    }

    fn asked(&self, name: &str) -> usize {
        self.0.lock().unwrap().asked.get(name).copied().unwrap_or(0)
    }
}

impl Lookup for Script {
    async fn lookup(&self, service: &Service) -> Result<Resolved, ResolveError> {
        let host = &*service.host;
        let (outcome, takes) = {
            let mut scene = self.0.lock().unwrap();
            *scene.asked.entry(host.to_owned()).or_default() += 1;
            scene.running += 1;
            scene.most_running = scene.most_running.max(scene.running);
            let answer = scene.answers.get(host).cloned();
            (answer.ok_or(ResolveError(format!("{host} does not exist"))), scene.takes)
        };
        tokio::time::sleep(takes).await;
        self.0.lock().unwrap().running -= 1;
        outcome.map(|(addresses, ttl)| Resolved { places: places(&addresses), ttl: Duration::from_secs(ttl) })
    }
}

fn places(addresses: &[IpAddr]) -> Vec<Place> {
    addresses.iter().map(|address| Place::udp((*address, 5060).into())).collect()
}

fn known(address: &str, stale: bool) -> State {
    State::Known { places: places(&[address.parse().unwrap()]).into(), stale }
}

fn host(name: &str) -> Service {
    Service { host: name.into(), port: None, transport: None, secure: false }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_refreshed_at_its_ttl_and_changes_are_told() {
    let script = Script::default();
    script.set("a", "192.0.2.1", 30);
    let names = Names::start(script.clone(), NamesSettings::default());
    let mut changes = names.changes();
    assert_eq!(names.get(&host("a")), State::Pending);
    names.watch(&host("a"));
    changes.changed().await.unwrap();
    assert_eq!(names.get(&host("a")), known("192.0.2.1", false));
    pass(29).await;
    assert_eq!(script.asked("a"), 1);
    pass(2).await;
    assert_eq!(script.asked("a"), 2);
    assert!(!changes.has_changed().unwrap(), "the same answer is no change");
    script.set("a", "192.0.2.2", 0);
    pass(30).await;
    assert!(changes.has_changed().unwrap());
    assert_eq!(names.get(&host("a")), known("192.0.2.2", false));
    let asked = script.asked("a");
    pass(50).await;
    assert!((9..=11).contains(&(script.asked("a") - asked)), "not before five seconds, whatever the TTL");
}

#[tokio::test(start_paused = true)]
async fn failures_back_off_and_a_known_name_goes_stale_first() {
    let script = Script::default();
    let names = Names::start(script.clone(), NamesSettings::default());
    names.watch(&host("a"));
    pass(64).await;
    assert_eq!(names.get(&host("a")), State::Failed("a does not exist".to_owned()));
    assert_eq!(script.asked("a"), 7, "after 1, 3, 7, 15, 31, 63 s");
    script.set("a", "192.0.2.1", 60);
    pass(61).await;
    assert_eq!(names.get(&host("a")), known("192.0.2.1", false));
    script.forget("a");
    pass(61).await;
    assert_eq!(names.get(&host("a")), known("192.0.2.1", true));
    pass(3500).await;
    assert_eq!(names.get(&host("a")), known("192.0.2.1", true), "kept for an hour");
    pass(200).await;
    assert_eq!(names.get(&host("a")), State::Failed("a does not exist".to_owned()));
    script.set("a", "192.0.2.1", 60);
    pass(61).await;
    assert_eq!(names.get(&host("a")), known("192.0.2.1", false), "it comes back");
}

#[tokio::test(start_paused = true)]
async fn a_name_is_asked_as_long_as_somebody_wants_it() {
    let script = Script::default();
    script.set("a", "192.0.2.1", 10);
    let names = Names::start(script.clone(), NamesSettings::default());
    names.watch(&host("a"));
    names.watch(&host("a"));
    names.want(&HashSet::from([host("a"), host("b")]));
    pass(1).await;
    assert_eq!(names.len(), 2);
    names.unwatch(&host("a"));
    names.want(&HashSet::new());
    assert_eq!(names.len(), 1, "one watch stands");
    pass(100).await;
    let asked = script.asked("a");
    assert!(asked >= 9, "{asked}");
    names.unwatch(&host("a"));
    names.unwatch(&host("a"));
    assert!(names.is_empty());
    assert_eq!(names.get(&host("a")), State::Pending);
    pass(100).await;
    assert_eq!(script.asked("a"), asked);
    names.watch(&host("a"));
    pass(1).await;
    assert_eq!((names.get(&host("a")), script.asked("a")), (known("192.0.2.1", false), asked + 1));
}

#[tokio::test(start_paused = true)]
async fn many_names_are_asked_a_few_at_a_time_and_churn_leaves_nothing() {
    let script = Script::default();
    script.0.lock().unwrap().takes = Duration::from_millis(100);
    let all: HashSet<String> = (0..2000).map(|n| format!("host-{n}")).collect();
    for name in &all {
        script.set(name, "192.0.2.1", 3600);
    }
    let names = Names::start(script.clone(), NamesSettings { parallel: 8, ..NamesSettings::default() });
    names.want(&all.iter().map(|name| host(name)).collect());
    pass(20).await;
    assert!(all.iter().any(|name| names.get(&host(name)) == State::Pending), "eight at a time need 25 s");
    pass(10).await;
    assert!(all.iter().all(|name| names.get(&host(name)) == known("192.0.2.1", false)));
    assert_eq!(script.0.lock().unwrap().most_running, 8);
    for _ in 0..5000 {
        names.watch(&host("churn"));
        names.unwatch(&host("churn"));
    }
    assert_eq!(names.len(), 2000);
    pass(1).await;
    assert_eq!(script.asked("churn"), 0, "nobody wants it any more");
}

#[tokio::test(start_paused = true)]
async fn the_work_ends_with_the_last_handle() {
    let script = Script::default();
    let names = Names::start(script.clone(), NamesSettings::default());
    let changes = names.changes();
    names.watch(&host("a"));
    pass(1).await;
    drop(names);
    pass(1).await;
    assert_eq!(Arc::strong_count(&script.0), 1, "the task has gone");
    assert!(changes.has_changed().is_err());
}

#[tokio::test]
async fn the_system_resolves_localhost() {
    let resolver = Resolver::new(&[]).unwrap();
    let localhost = resolver.lookup(&Service { port: Some(5070), ..host("localhost") }).await.unwrap();
    assert!(localhost.places.iter().all(|place| place.address.ip().is_loopback()), "{localhost:?}");
    assert!(localhost.places.iter().all(|place| place.address.port() == 5070), "{localhost:?}");
    assert!(!localhost.ttl.is_zero());
    for broken in ["", "..", "a name with spaces", &"x".repeat(300)] {
        assert!(resolver.lookup(&host(broken)).await.is_err(), "{broken:?}");
    }
}
