//! What the engine wants done that takes time: names to resolve, registrations to decide.

use std::sync::Arc;

use net::{Names, Service, State};
use proxy::{Located, Lookup};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Receiver;

use crate::bridge::Work;
use crate::live::Live;

/// Look-ups under way at once; a further one is answered as if the name led nowhere.
const MOST_LOOKUPS: usize = 1024;

/// Does the work until the engine is gone.
pub async fn run(mut work: Receiver<Work>, names: Names, live: Arc<Live>) {
    let room = Arc::new(Semaphore::new(MOST_LOOKUPS));
    while let Some(work) = work.recv().await {
        match work {
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
