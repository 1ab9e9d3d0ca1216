//! A watcher of the embedded engine: live batches while it keeps up, the log when it does not.
//!
//! Correctness rests on revisions without gaps. Whatever arrives live is compared with the last revision delivered: one
//! above is delivered, at or below is a repeat, anything else means that batches were missed and the log has them.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use tokio::sync::broadcast::{self, error::RecvError};

use super::writer::Published;
use super::{Shared, blocking, tables};
use crate::{Change, Changes, Revision, StoreError, WatchError};

/// Batches read from the log at once: bounds what a watcher that lies far behind holds in memory.
const CHUNK: usize = 256;

pub(super) struct Follower {
    /// Weak, so that a forgotten watch does not keep the file locked.
    shared: Weak<Shared>,
    live: broadcast::Receiver<Published>,
    backlog: VecDeque<Vec<Change>>,
    /// Whether the log may hold batches after `last` that will not come live.
    behind: bool,
    last: Revision,
}

impl Follower {
    /// `live` must have been subscribed before `after` was checked, so that nothing falls between log and live.
    pub(super) fn new(shared: &Arc<Shared>, live: broadcast::Receiver<Published>, after: Revision) -> Follower {
        Follower { shared: Arc::downgrade(shared), live, backlog: VecDeque::new(), behind: true, last: after }
    }

    async fn catch_up(&mut self) -> Result<(), WatchError> {
        let shared = self.shared.upgrade().ok_or(WatchError::Closed)?;
        let after = self.last;
        let batches = blocking(move || {
            shared.read(|txn| {
                let oldest = *tables::kept(txn)?.start();
                if after < oldest { Ok(Err(oldest)) } else { tables::logged(txn, after, CHUNK).map(Ok) }
            })
        })
        .await
        .map_err(|error: StoreError| WatchError::Unavailable(error.to_string()))?
        .map_err(|oldest| WatchError::Compacted { oldest })?;
        self.behind = batches.len() == CHUNK;
        self.backlog = batches.into();
        Ok(())
    }
}

#[async_trait]
impl Changes for Follower {
    async fn next(&mut self) -> Result<Vec<Change>, WatchError> {
        loop {
            if let Some(batch) = self.backlog.pop_front() {
                self.last += 1;
                return Ok(batch);
            }
            if self.behind {
                self.catch_up().await?;
                continue;
            }
            match self.live.recv().await {
                Ok(batch) => {
                    let revision = batch.first().map_or(0, |change| change.revision);
                    if revision == self.last + 1 {
                        self.last = revision;
                        return Ok(batch.to_vec());
                    }
                    self.behind = revision > self.last;
                }
                Err(RecvError::Lagged(_)) => self.behind = true,
                Err(RecvError::Closed) => return Err(WatchError::Closed),
            }
        }
    }
}
