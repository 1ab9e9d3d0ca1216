//! Nothing acknowledged is lost, and nothing deleted comes back, however the process ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use peers::{Server, wait_until};

/// Kills of the crash test.
const KILLS: u32 = 50;
/// Writers at once.
const WRITERS: usize = 4;

#[test]
fn every_acknowledged_trunk_is_back_after_sigkill() {
    let mut s = Server::start();
    for n in 0..40 {
        s.register(&format!("t{n}"), 7001, &format!(",\"priority\":{n},\"note\":\"n{n}\""));
    }
    s.request("DELETE", "/trunks/t7", "", &[]);
    s.request("PATCH", "/trunks/t8", r#"{"weight":88}"#, &[]);
    let before = s.request("GET", "/trunks", "", &[]).json();
    s.kill_and_restart();
    let after = s.request("GET", "/trunks", "", &[]).json();
    let strip = |list: &serde_json::Value| {
        let mut trunks = list["trunks"].as_array().unwrap().clone();
        for trunk in &mut trunks {
            for of_the_process in ["lease_expires_at", "last_heartbeat_at", "targets"] {
                trunk.as_object_mut().unwrap().remove(of_the_process);
            }
        }
        trunks
    };
    assert_eq!(strip(&before), strip(&after));
    assert_eq!(strip(&after).len(), 39);
}

/// What a writer knows of one id.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    Registered(u64),
    Deleted,
    /// A request was under way when the process died: before or after are both right.
    Either {
        before: Option<u64>,
        after: Option<u64>,
    },
}

/// Registers and deletes the ids of one writer until the process is gone; says how many were acknowledged.
fn write(s: &Server, writer: usize, known: &mut BTreeMap<String, Known>, step: &mut u64, stop: &AtomicBool) -> u64 {
    let mut acknowledged = 0;
    while !stop.load(Ordering::Relaxed) {
        *step += 1;
        let id = format!("w{writer}-{}", *step % 7);
        let before = match known.get(&id) {
            Some(Known::Registered(value)) => Some(*value),
            _ => None,
        };
        let delete = step.is_multiple_of(3);
        let path = format!("/trunks/{id}");
        let answer = if delete {
            s.try_request("DELETE", &path, "", &[])
        } else {
            s.try_request("PUT", &path, &format!("{{\"sip_uri\":\"sip:192.0.2.1\",\"priority\":{step}}}"), &[])
        };
        let after = (!delete).then_some(*step);
        let Some(answer) = answer else {
            known.insert(id, Known::Either { before, after });
            break;
        };
        // No other answer is right, however near the end is.
        assert!(matches!(answer.status, 200 | 201 | 204), "{path}: {answer:?}");
        known.insert(id, after.map_or(Known::Deleted, Known::Registered));
        acknowledged += 1;
    }
    acknowledged
}

#[test]
fn fifty_kills_lose_nothing_and_bring_nothing_back() {
    let mut s = Server::start();
    let mut known: Vec<BTreeMap<String, Known>> = vec![BTreeMap::new(); WRITERS];
    let mut steps = [0u64; WRITERS];
    let mut acknowledged = 0u64;
    for kill in 0..KILLS {
        let stop = AtomicBool::new(false);
        acknowledged += std::thread::scope(|scope| {
            let writers = known.iter_mut().zip(&mut steps).enumerate().map(|(writer, (known, step))| {
                let (s, stop) = (&s, &stop);
                scope.spawn(move || write(s, writer, known, step, stop))
            });
            let writers: Vec<_> = writers.collect();
            // A moment that differs from kill to kill, while the writers are at it.
            std::thread::sleep(Duration::from_micros(20_000 + u64::from(kill * 7919 % 60_000)));
            s.signal("KILL");
            stop.store(true, Ordering::Relaxed);
            writers.into_iter().map(|writer| writer.join().unwrap()).sum::<u64>()
        });
        s.kill_and_restart();
        for known in known.iter_mut().flat_map(BTreeMap::iter_mut) {
            let answer = s.request("GET", &format!("/trunks/{}", known.0), "", &[]);
            let found = (answer.status == 200).then(|| answer.json()["priority"].as_u64().unwrap());
            let right = match *known.1 {
                Known::Registered(value) => found == Some(value),
                Known::Deleted => found.is_none(),
                Known::Either { before, after } => found == before || found == after,
            };
            assert!(right, "kill {kill}: {known:?}, found {found:?}");
            *known.1 = found.map_or(Known::Deleted, Known::Registered);
        }
    }
    println!("{KILLS} kills over {acknowledged} acknowledged writes, nothing lost");
    assert!(acknowledged > u64::from(KILLS), "the writers hardly wrote");
}

#[test]
fn an_acknowledged_document_is_whole_after_sigkill_and_so_is_its_history() {
    let mut s = Server::start();
    let mut last = 0;
    for round in 1..=5 {
        let (acknowledged, stop) = (AtomicU64::new(last), AtomicBool::new(false));
        let asked = std::thread::scope(|scope| {
            let (s, acknowledged, stop) = (&s, &acknowledged, &stop);
            let writer = scope.spawn(move || apply(s, last, acknowledged, stop));
            // Somewhere amid the next one.
            wait_until("documents are applied", Duration::from_secs(60), || {
                acknowledged.load(Ordering::Relaxed) > last + 3
            });
            s.signal("KILL");
            stop.store(true, Ordering::Relaxed);
            writer.join().unwrap()
        });
        s.kill_and_restart();
        let acknowledged = acknowledged.load(Ordering::Relaxed);
        let routes = s.request("GET", "/routes", "", &[]).json()["routes"].as_array().unwrap().clone();
        let found: BTreeSet<u64> = routes.iter().map(|route| route["precedence"].as_u64().unwrap()).collect();
        assert_eq!((routes.len(), found.len()), (200, 1), "all of a document or nothing, in round {round}: {found:?}");
        let found = found.into_iter().next().unwrap();
        assert!((acknowledged..=asked).contains(&found), "{acknowledged} was acknowledged, {found} is there");
        let newest = s.request("GET", "/history?limit=1", "", &[]).json()["history"][0].clone();
        let line = newest["difference"][0].as_str().unwrap();
        let told = if found == 1 { "added".to_owned() } else { format!("→ {found}") };
        assert!(line.ends_with(&told), "its history is there with it: {line}");
        last = found;
    }
}

/// Applies document after document, of 200 routes each, until the process is gone; says which was asked for last.
fn apply(s: &Server, last: u64, acknowledged: &AtomicU64, stop: &AtomicBool) -> u64 {
    let mut asked = last;
    while !stop.load(Ordering::Relaxed) {
        asked += 1;
        let route = |n| format!(r#""r{n}":{{"targets":[{{"trunk":"a"}}],"precedence":{asked}}}"#);
        let document = format!(r#"{{"routes":{{{}}}}}"#, (0..200).map(route).collect::<Vec<_>>().join(","));
        match s.try_request("POST", "/apply", &document, &[]) {
            Some(answer) => assert_eq!(answer.status, 200, "{answer:?}"),
            None => break,
        }
        acknowledged.store(asked, Ordering::Relaxed);
    }
    asked
}
