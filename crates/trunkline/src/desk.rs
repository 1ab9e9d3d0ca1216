//! What the engine wants done that takes time: names to resolve, registrations to decide.

use std::sync::Arc;

use control::{Actor, Control, ExecuteError};
use net::{Names, Service, State};
use proxy::{Located, Lookup, Registration};
use registrar::{Credentials, Ha1, Registrar, Verdict, granted};
use registry::{Binding, Command};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Receiver;

use crate::bridge::Work;
use crate::live::Live;

/// Registrations under way at once.
const MOST_REGISTRATIONS: usize = 128;
/// Look-ups under way at once; a further one is answered as if the name led nowhere.
const MOST_LOOKUPS: usize = 1024;

/// Does the work until the engine is gone.
pub async fn run(
    mut work: Receiver<Work>,
    names: Names,
    live: Arc<Live>,
    registrar: Arc<Registrar>,
    control: Arc<Control>,
) {
    let places = Arc::new(Semaphore::new(MOST_REGISTRATIONS));
    let room = Arc::new(Semaphore::new(MOST_LOOKUPS));
    while let Some(work) = work.recv().await {
        match work {
            Work::Register(registration) => {
                // Waiting here makes the queue fill, and what finds no room there is shed.
                let Ok(place) = places.clone().acquire_owned().await else { return };
                let (live, registrar, control) = (live.clone(), registrar.clone(), control.clone());
                tokio::spawn(async move {
                    register(&registration, &live, &registrar, &control).await;
                    drop(place);
                });
            }
            Work::Locate(lookup) => match room.clone().try_acquire_owned() {
                Ok(place) => {
                    let (names, live) = (names.clone(), live.clone());
                    tokio::spawn(async move {
                        locate(lookup, names, live).await;
                        drop(place);
                    });
                }
                Err(_) => {
                    live.counters.shed("lookups");
                    if let Some(engine) = live.engine.get() {
                        engine.located(&lookup, Vec::new());
                    }
                }
            },
        }
    }
}

async fn locate(lookup: Lookup, names: Names, live: Arc<Live>) {
    let service = sip::Uri::parse(&lookup.uri).ok().and_then(|uri| Service::of(&uri, None));
    let places = match service {
        Some(service) => match names.ask(&service).await {
            State::Known { places, .. } => {
                places.iter().map(|place| Located { address: place.address, transport: place.transport }).collect()
            }
            State::Failed(_) | State::Pending => Vec::new(),
        },
        None => Vec::new(),
    };
    if let Some(engine) = live.engine.get() {
        engine.located(&lookup, places);
    }
}

/// Who may register: the trunks that the operator has given a username.
struct Trunks<'a>(&'a Control);

impl Credentials for Trunks<'_> {
    fn find(&self, username: &str) -> Option<(Arc<str>, Ha1)> {
        self.0.read(|registry, _| registry.by_username(username).map(|(id, ha1)| (id.clone(), ha1.clone())))
    }
}

async fn register(registration: &Registration, live: &Live, registrar: &Registrar, control: &Control) {
    let Some(engine) = live.engine.get() else { return };
    let mut index = sip::Index::new();
    if index.parse(&registration.request).is_err() {
        return engine.reply(registration, None);
    }
    let mut random = [0; 8];
    if getrandom::fill(&mut random).is_err() {
        return engine.reply(registration, None);
    }
    let verdict = registrar.decide(
        index.message(&registration.request),
        registration.source.ip(),
        &Trunks(control),
        engine.clock().now().0 / 1000,
        u64::from_be_bytes(random),
    );
    let outcome = match verdict {
        Verdict::Silence => {
            engine.reply(registration, None);
            "ignored"
        }
        Verdict::Answer { status, reason, headers, cause } => {
            engine.reply(registration, Some((status, reason, headers.as_bytes())));
            cause
        }
        Verdict::Bind { trunk, contact, expires, call_id, cseq } => {
            let binding = Binding {
                contact: contact.clone(),
                source: registration.source,
                transport: engine.transport(registration.listener),
                connection: registration.connection.map(|connection| connection.0),
                boot: control.boot(),
                expires_seconds: expires,
                call_id,
                cseq,
            };
            // Over UDP there is no connection whose process would matter.
            let binding = if binding.connection.is_some() { binding } else { Binding { boot: 0, ..binding } };
            let done = control.execute(Command::Bind { id: trunk.to_string(), binding }, &Actor::Sip).await;
            answer(registration, live, done.map(|_| granted(&contact, expires)), "bound")
        }
        Verdict::Unbind { trunk } => {
            let done = control.execute(Command::Unbind { id: trunk.to_string() }, &Actor::Sip).await;
            answer(registration, live, done.map(|_| String::new()), "unbound")
        }
        Verdict::Query { trunk } => {
            let binding = control.read(|registry, now| registry.view(&trunk, now).and_then(|view| view.binding));
            let headers = binding.map(|binding| granted(&binding.contact, binding.expires_seconds)).unwrap_or_default();
            answer(registration, live, Ok(headers), "asked")
        }
    };
    live.counters.registration(outcome);
}

fn answer(
    registration: &Registration,
    live: &Live,
    done: Result<String, ExecuteError>,
    outcome: &'static str,
) -> &'static str {
    let Some(engine) = live.engine.get() else { return "unanswered" };
    match done {
        Ok(headers) => {
            engine.reply(registration, Some((200, "OK", headers.as_bytes())));
            outcome
        }
        Err(ExecuteError::Refused(why)) => {
            engine.reply(registration, Some((400, &why.message, b"")));
            "refused"
        }
        Err(why) => {
            tracing::warn!(error = %why, "a registration could not be written");
            engine.reply(registration, Some((503, "Service Unavailable", b"Retry-After: 5\r\n")));
            "unavailable"
        }
    }
}
