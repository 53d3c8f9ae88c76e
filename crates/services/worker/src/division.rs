//! Dividing the shares among the live workers: who is alive, what this one should hold, what it does hold.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use portico_coordination::{Coordination, CoordinationError, Lease, Leases, TtlMap};
use portico_process::ReadinessCheck;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::metrics::WorkerMetrics;
use crate::shares::{Held, Share, wanted};

/// How often a worker shows that it lives.
pub(crate) const BEAT: Duration = Duration::from_secs(2);
/// After this time without a beat a worker counts as dead: its shares move within this and one beat more.
pub(crate) const TTL: Duration = Duration::from_secs(6);
/// Most workers that share the work; those above it wait.
const SEATS: u8 = 32;
/// How long leaving may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Who holds a share, for those who have something for it.
#[derive(Debug, Clone)]
pub(crate) struct Holders(TtlMap);

impl Holders {
    pub(crate) fn new(coordination: &Coordination) -> Self {
        Self(coordination.ttl_map("worker.holders"))
    }

    /// Finds the worker that holds a share, if one does.
    pub(crate) async fn of(&self, share: Share) -> Result<Option<String>, CoordinationError> {
        Ok(self.0.get(&share.name()).await?.and_then(text))
    }
}

/// One worker's part in it.
#[derive(Debug)]
pub(crate) struct Division {
    own: String,
    seats: TtlMap,
    seat: Option<u8>,
    leases: Leases,
    holders: Holders,
    held: BTreeMap<Share, Lease>,
    told: watch::Sender<Held>,
    metrics: WorkerMetrics,
}

impl Division {
    /// `own` is the name of this worker, which no other one ever had.
    pub(crate) fn new(own: &str, coordination: &Coordination, metrics: WorkerMetrics) -> Self {
        Self {
            own: own.to_owned(),
            seats: coordination.ttl_map("worker.seats"),
            seat: None,
            leases: coordination.leases(),
            holders: Holders::new(coordination),
            held: BTreeMap::new(),
            told: watch::Sender::default(),
            metrics,
        }
    }

    /// What this worker holds, and the bell for changes of it.
    pub(crate) fn held(&self) -> watch::Receiver<Held> {
        self.told.subscribe()
    }

    /// Takes part until shutdown. While the backend is away, everybody goes on with what they hold: nobody else can
    /// take it.
    pub(crate) async fn run(
        mut self,
        check: ReadinessCheck,
        shutdown: CancellationToken,
    ) -> Result<(), Infallible> {
        loop {
            match self.beat().await {
                Ok(()) => check.ready(),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the work cannot be divided now"
                    );
                }
            }
            if shutdown.run_until_cancelled(sleep(BEAT)).await.is_none() {
                break;
            }
        }
        if timeout(FAREWELL, self.leave()).await.is_err() {
            tracing::warn!("the shares were not given back in time: they move when their leases end");
        }
        Ok(())
    }

    async fn beat(&mut self) -> Result<(), CoordinationError> {
        self.sit().await?;
        let wanted = wanted(&self.workers().await?, &self.own);
        let given_up: Vec<Share> =
            self.held.keys().filter(|share| !wanted.contains(share)).copied().collect();
        let mut leases = Vec::new();
        for share in given_up {
            leases.extend(self.held.remove(&share).map(|lease| (share, lease)));
        }
        // Nobody may begin before this one has ended.
        self.tell(false);
        self.give_back(leases).await?;
        let lost = self.renew().await?;
        let taken = self.take(&wanted).await?;
        let names = self.held.keys().map(|share| self.holds(*share));
        try_join_all(names).await?;
        if !lost.is_empty() {
            tracing::warn!(worker.shares = lost.len(), "leases ended before they were renewed");
        }
        self.tell(taken);
        Ok(())
    }

    /// Keeps the seat, or takes a free one.
    async fn sit(&mut self) -> Result<(), CoordinationError> {
        let name = || Bytes::from(self.own.clone());
        if let Some(seat) = self.seat {
            let key = seat_name(seat);
            if self.seats.get(&key).await?.and_then(text).as_deref() == Some(&self.own) {
                return self.seats.put(&key, name(), TTL).await;
            }
            self.seat = None;
        }
        for seat in 0..SEATS {
            if self.seats.put_if_absent(&seat_name(seat), name(), TTL).await? {
                self.seat = Some(seat);
                return Ok(());
            }
        }
        tracing::warn!("there are {SEATS} workers already: this one waits for a seat");
        Ok(())
    }

    async fn workers(&self) -> Result<BTreeSet<String>, CoordinationError> {
        let seats = (0..SEATS).map(|seat| async move { self.seats.get(&seat_name(seat)).await });
        Ok(try_join_all(seats).await?.into_iter().flatten().filter_map(text).collect())
    }

    /// Prolongs what is held; answers with what somebody else may have by now.
    async fn renew(&mut self) -> Result<Vec<Share>, CoordinationError> {
        let leases = &self.leases;
        let renewals = self.held.iter().map(|(share, lease)| async move {
            Ok::<_, CoordinationError>((*share, leases.renew(lease, TTL).await?))
        });
        let mut lost = Vec::new();
        for (share, renewed) in try_join_all(renewals).await? {
            if let Some(lease) = renewed {
                self.held.insert(share, lease);
            } else {
                self.held.remove(&share);
                lost.push(share);
            }
        }
        Ok(lost)
    }

    /// Takes what nobody holds of what is wanted, and tells whether there was something.
    async fn take(&mut self, wanted: &BTreeSet<Share>) -> Result<bool, CoordinationError> {
        let (leases, own) = (&self.leases, &self.own);
        let missing = wanted.iter().filter(|share| !self.held.contains_key(share));
        let attempts = missing.map(|share| async move {
            let name = format!("worker.{}", share.name());
            Ok::<_, CoordinationError>((*share, leases.acquire(&name, own, TTL).await?))
        });
        let mut taken = false;
        for (share, lease) in try_join_all(attempts).await? {
            if let Some(lease) = lease {
                self.held.insert(share, lease);
                taken = true;
            }
        }
        Ok(taken)
    }

    async fn holds(&self, share: Share) -> Result<(), CoordinationError> {
        self.holders.0.put(&share.name(), Bytes::from(self.own.clone()), TTL).await
    }

    async fn give_back(&self, leases: Vec<(Share, Lease)>) -> Result<(), CoordinationError> {
        let returns = leases.into_iter().map(|(share, lease)| async move {
            // First the entry: once the lease is free, it is the next holder's.
            self.holders.0.remove(&share.name()).await?;
            self.leases.release(&lease).await
        });
        try_join_all(returns).await.map(drop)
    }

    fn tell(&self, taken: bool) {
        let shares: BTreeSet<Share> = self.held.keys().copied().collect();
        self.metrics.shares(shares.len());
        self.told.send_if_modified(|held| {
            if held.shares == shares && !taken {
                return false;
            }
            held.shares = shares;
            held.taken += u64::from(taken);
            true
        });
    }

    async fn leave(&mut self) {
        let leases = std::mem::take(&mut self.held).into_iter().collect();
        self.tell(false);
        let left = async {
            self.give_back(leases).await?;
            match self.seat {
                Some(seat) => self.seats.remove(&seat_name(seat)).await,
                None => Ok(false),
            }
        };
        if let Err(error) = left.await {
            tracing::debug!(error = &error as &dyn std::error::Error, "the shares were not given back");
        }
    }
}

fn seat_name(seat: u8) -> String {
    seat.to_string()
}

fn text(bytes: Bytes) -> Option<String> {
    String::from_utf8(bytes.into()).ok()
}

#[cfg(test)]
mod tests;
