//! History over a real store: it comes with its changes, outlives a restart, is bounded, and leads back to any state.
#![allow(clippy::unwrap_used)] // Helpers of a test: a panic is its verdict.

use std::sync::Arc;
use std::time::{Duration, Instant};

use control::{Actor, Control, ExecuteError, Keep};
use registry::{Collection, Command, Condition, Document, Edit, Settings};
use store::embedded::{Embedded, Options};
use store::{Store, Write};
use tempfile::TempDir;

async fn open(dir: &TempDir, keep: Keep) -> Arc<Control> {
    let store = Embedded::open(dir.path(), Options::default()).unwrap();
    Control::open_keeping(Arc::new(store), Settings::default(), keep).await.unwrap()
}

/// All records, as documents have them.
fn state(control: &Control) -> Vec<String> {
    control.read(|registry, _| {
        let trunks = registry.trunks().map(|trunk| {
            let ha1 = trunk.register.as_ref().map(|register| register.ha1.to_text());
            format!("trunk {} {} {ha1:?}", trunk.id, String::from_utf8(trunk.to_description()).unwrap())
        });
        let groups = registry.groups().map(|group| format!("group {} {}", group.id, group.to_given()));
        let routes = registry.routes().map(|route| format!("route {} {}", route.id, route.to_given()));
        trunks.chain(groups).chain(routes).collect()
    })
}

/// Draws that are the same at every run.
struct Draws(u64);

impl Draws {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }

    fn command(&mut self) -> Command {
        let id = ["a", "b", "c"][self.below(3) as usize].to_owned();
        let (condition, n) = (Condition::default(), self.below(4));
        let targets = format!(r#"{{"targets":[{{"trunk":"{id}"}}],"precedence":{n}}}"#).into_bytes();
        match self.below(9) {
            0 => Command::Deregister { id, condition },
            1 => {
                let password = format!(r#"{{"username":"{id}","password":"{n}"}}"#);
                let body = format!(r#"{{"sip_uri":"sip:{id}","register":{password}}}"#).into_bytes();
                Command::Register { id, body, condition }
            }
            2 | 3 => {
                let body = format!(r#"{{"sip_uri":"sip:{id}","weight":{}}}"#, n + 1).into_bytes();
                Command::Register { id, body, condition }
            }
            4 => Command::Edit { of: Collection::Routes, id, edit: Edit::Delete, condition },
            5 | 6 => Command::Edit { of: Collection::Routes, id, edit: Edit::Put(targets), condition },
            7 => Command::Edit { of: Collection::Groups, id, edit: Edit::Delete, condition },
            _ => {
                let body = format!(r#"{{"comment":"{n}"}}"#).into_bytes();
                Command::Edit { of: Collection::Groups, id, edit: Edit::Put(body), condition }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_leads_to_any_state_that_was() {
    let dir = TempDir::new().unwrap();
    let mut control = open(&dir, Keep::default()).await;
    let mut draws = Draws(7);
    let mut states = vec![(0, state(&control))];
    for round in 0..6 {
        for _ in 0..20 {
            control.execute(draws.command(), &Actor::Unknown).await.unwrap();
            if states.last().map(|(revision, _)| *revision) != Some(control.revision()) {
                states.push((control.revision(), state(&control)));
            }
        }
        if round == 3 {
            control.stop().await;
            control = {
                drop(control);
                open(&dir, Keep::default()).await
            };
            assert_eq!(Some(state(&control)), states.last().map(|(_, state)| state.clone()));
        }
        let (revision, then) = states[draws.below(states.len() as u64) as usize].clone();
        let dry = control.rollback(revision, true, &Actor::Unknown).await.unwrap();
        let done = control.rollback(revision, false, &Actor::Unknown).await.unwrap();
        assert_eq!(dry.difference, done.difference);
        assert_eq!(state(&control), then, "as it was at revision {revision}");
        states.push((control.revision(), then));
    }
    for (revision, then) in states.iter().rev() {
        control.rollback(*revision, false, &Actor::Unknown).await.unwrap();
        assert_eq!(state(&control), *then, "as it was at revision {revision}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_bounded_and_how_far_it_reaches_is_told() {
    let dir = TempDir::new().unwrap();
    let keep = Keep { entries: 10, bytes: 1 << 20 };
    let control = open(&dir, keep).await;
    for weight in 1..=50 {
        let body = format!(r#"{{"sip_uri":"sip:a","weight":{weight}}}"#).into_bytes();
        let command = Command::Register { id: "a".into(), body, condition: Condition::default() };
        control.execute(command, &Actor::Unknown).await.unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while control.history(u64::MAX, 1000, None).await.unwrap().len() > 10 {
        assert!(Instant::now() < deadline, "it is trimmed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let kept = control.history(u64::MAX, 1000, None).await.unwrap();
    assert_eq!(kept.iter().map(|recorded| recorded.revision).collect::<Vec<_>>(), (41..=50).rev().collect::<Vec<_>>());
    assert_eq!(kept[0].entry.difference(), ["trunk a: weight 49 → 50"]);
    let refused = control.rollback(39, true, &Actor::Unknown).await.unwrap_err();
    assert!(matches!(&refused, ExecuteError::Gone(why) if why == "history reaches back to revision 40 only"));
    let back = control.rollback(40, true, &Actor::Unknown).await.unwrap();
    assert_eq!(back.difference, ["trunk a: weight 50 → 40"]);
    control.stop().await;
    drop(control);
    let control = open(&dir, keep).await;
    assert_eq!(control.history(u64::MAX, 1000, None).await.unwrap().len(), 10, "a restart finds them again");
}

#[tokio::test(flavor = "multi_thread")]
async fn history_begins_after_records_that_were_there_before_it() {
    let dir = TempDir::new().unwrap();
    {
        let store = Embedded::open(dir.path(), Options::default()).unwrap();
        let trunk = r#"{"registered_at":"2026-11-01T00:00:00Z","record":{"sip_uri":"sip:a"}}"#;
        for id in ["a", "b"] {
            store.commit(vec![Write::put(format!("trunk/{id}"), trunk)]).await.unwrap();
        }
    }
    for _ in 0..2 {
        let control = open(&dir, Keep::default()).await;
        let command = Command::Edit {
            of: Collection::Routes,
            id: "r".into(),
            edit: Edit::Put(br#"{"targets":[{"trunk":"a"}]}"#.to_vec()),
            condition: Condition::default(),
        };
        control.execute(command, &Actor::Unknown).await.unwrap();
        let refused = control.rollback(1, true, &Actor::Unknown).await.unwrap_err();
        assert_eq!(refused.to_string(), "history reaches back to revision 2 only");
        assert_eq!(control.rollback(2, true, &Actor::Unknown).await.unwrap().difference, ["route r: removed"]);
        control.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_outlives_a_restart_and_a_deletion() {
    let dir = TempDir::new().unwrap();
    let control = open(&dir, Keep::default()).await;
    let put = |id: &str| Command::Register {
        id: id.into(),
        body: br#"{"sip_uri":"sip:a"}"#.to_vec(),
        condition: Condition::default(),
    };
    control.execute(put("a"), &Actor::Unknown).await.unwrap();
    control.execute(put("b"), &Actor::Unknown).await.unwrap();
    let delete = Command::Deregister { id: "b".into(), condition: Condition::default() };
    control.execute(delete, &Actor::Unknown).await.unwrap();
    let admin = Command::SetAdmin { id: "a".into(), body: br#"{"state":"draining"}"#.to_vec() };
    control.execute(admin, &Actor::Unknown).await.unwrap();
    control.stop().await;
    drop(control);
    let control = open(&dir, Keep::default()).await;
    let document = |base: u64| {
        let text = format!(r#"{{"base_revision":{base},"dry_run":true,"groups":{{}}}}"#);
        Document::parse(text.as_bytes(), "trunkline").unwrap()
    };
    let refused = control.apply(&document(2), &Actor::Unknown).await.unwrap_err();
    let expected = "records have changed since revision 2, last in revision 3: trunk b: removed (revision 3)";
    assert_eq!(refused.to_string(), expected);
    assert_eq!(control.apply(&document(3), &Actor::Unknown).await.unwrap().revision, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_and_commands_at_once_leave_nothing_half_done() {
    let dir = TempDir::new().unwrap();
    let control = open(&dir, Keep::default()).await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let control = control.clone();
            tokio::spawn(async move {
                for n in 0..10u32 {
                    if writer == 0 {
                        let routes: Vec<String> = (0..40)
                            .map(|id| format!(r#""r{id}":{{"targets":[{{"trunk":"a"}}],"precedence":{n}}}"#))
                            .collect();
                        let text = format!(r#"{{"routes":{{{}}}}}"#, routes.join(","));
                        let document = Document::parse(text.as_bytes(), "trunkline").unwrap();
                        control.apply(&document, &Actor::Unknown).await.unwrap();
                    } else {
                        let body = format!(r#"{{"targets":[{{"trunk":"a"}}],"precedence":{}}}"#, 100 + n).into_bytes();
                        let (id, edit) = (format!("r{}", (n * 7 + writer) % 40), Edit::Put(body));
                        let of = Collection::Routes;
                        let command = Command::Edit { of, id, edit, condition: Condition::default() };
                        control.execute(command, &Actor::Unknown).await.unwrap();
                    }
                }
            })
        })
        .collect();
    // Whoever reads sees all of a document or nothing of it.
    let (_, mut feed) = control.read_and_follow(|_, _| ());
    for writer in writers {
        writer.await.unwrap();
    }
    let mut told = 0;
    while feed.position() != control.position() {
        told += feed.next_all().await.unwrap().len();
    }
    let revision = control.revision();
    let last = control.history(u64::MAX, 1000, None).await.unwrap();
    assert_eq!(last.len() as u64, revision, "each change has its entry");
    assert_eq!(told, last.iter().map(|recorded| recorded.entry.changes.len()).sum::<usize>());
}
