//! Turns: commands for one record are carried out one after another.
//!
//! The store's compare-and-set is what makes a command safe; turns make it fair. Without them many callers of one record
//! would refuse each other's writes, and an unlucky one could lose every race. Turns only order this process's own
//! commands; between processes the store decides.

use std::hash::{BuildHasher, Hash, RandomState};

use tokio::sync::{Mutex, MutexGuard};

/// Records share a turn by the hash of their kind and id. Enough that commands for different ones seldom wait for each other, and
/// few enough to need no bookkeeping.
const STRIPES: usize = 1024;

pub(crate) struct Turns {
    stripes: Box<[Mutex<()>]>,
    hasher: RandomState,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns { stripes: (0..STRIPES).map(|_| Mutex::new(())).collect(), hasher: RandomState::new() }
    }
}

impl Turns {
    /// Waits until it is this caller's turn for all records at once: nobody changes anything until the guards are gone.
    pub(crate) async fn take_all(&self) -> Vec<MutexGuard<'_, ()>> {
        let mut turns = Vec::with_capacity(STRIPES);
        // In one order, and whoever takes one takes no second, so nobody waits in a circle.
        for stripe in &self.stripes {
            turns.push(stripe.lock().await);
        }
        turns
    }

    /// Waits until it is this caller's turn; callers are served in their order. The turn ends with the guard.
    pub(crate) async fn take(&self, record: impl Hash) -> MutexGuard<'_, ()> {
        let stripe = self.hasher.hash_one(record) as usize % STRIPES;
        self.stripes[stripe].lock().await
    }
}
