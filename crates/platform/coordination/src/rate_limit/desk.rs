//! The task that settles with the shared buckets, many keys at a time.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use futures_util::future::join_all;
use redis::Script;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Limit, LimitKey, RateLimiter,
    share::{Account, Answer, Share},
};
use crate::server::{Keys, Operation, Question, Server};

// A lost answer loses a lease, which the bucket gets back with time; asked twice, it would lose two.
const SETTLE: Operation = Operation::once("rate_limit", "settle");

/// How many questions may wait for the task; a key that finds no room asks with its next call.
pub(super) const QUEUE: usize = 4096;
/// How many keys are settled at once, and the shortest time from one such batch to the next.
const BATCH: usize = 256;
const PAUSE: Duration = Duration::from_millis(5);
/// How many keys may wait for their time to ask.
const WAITING: usize = 65_536;
/// The longest that a key waits for it.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// How long a lease is kept without being settled: then what is not needed is given back. The long one is for a
/// bucket that is at least half full.
const LEASE: Duration = Duration::from_secs(1);
const LONG_LEASE: Duration = Duration::from_secs(5);
const SWEEP: Duration = Duration::from_millis(250);
/// For this time a key whose question failed does not ask again; one that nobody calls never does.
const RETRY: Duration = Duration::from_secs(1);
/// How long giving back all leases may take when the process ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// A key that wants to ask.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) key: LimitKey,
    pub(super) limit: Limit,
    /// Not before this time.
    pub(super) at: Option<Instant>,
}

pub(super) struct Desk {
    server: Server,
    limiter: RateLimiter,
    wishes: mpsc::Receiver<Wish>,
    script: Script,
    /// By when they may ask; the number tells equal times apart.
    waiting: BTreeMap<(Instant, u64), Wish>,
    number: u64,
    /// The keys that know their shared bucket, and when their leases end.
    known: HashMap<LimitKey, (Limit, Instant)>,
}

impl Desk {
    pub(super) fn new(server: Server, limiter: RateLimiter, wishes: mpsc::Receiver<Wish>) -> Self {
        Self {
            server,
            limiter,
            wishes,
            script: Script::new(include_str!("settle.lua")),
            waiting: BTreeMap::new(),
            number: 0,
            known: HashMap::new(),
        }
    }

    /// Settles until shutdown; after that every replica that is left counts on itself.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut not_before = Instant::now();
        loop {
            let due = self.waiting.first_key_value().map(|((at, _), _)| (*at).max(not_before));
            let due = async {
                match due {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                wish = self.wishes.recv() => match wish {
                    Some(wish) => self.note(wish),
                    None => return,
                },
                _ = sweep.tick() => self.sweep(),
                () = due => {
                    not_before = Instant::now() + PAUSE;
                    let batch = self.due(Instant::now());
                    self.settle(batch).await;
                }
            }
        }
        self.wishes.close();
        let _ = timeout(FAREWELL, self.give_back()).await;
        self.limiter.forget_shares();
    }

    fn note(&mut self, wish: Wish) {
        if self.waiting.len() >= WAITING {
            self.limiter.with_share(&wish.key, |share| share.set_asked(false));
            return;
        }
        let now = Instant::now();
        let at = wish.at.map_or(now, |at| at.clamp(now, now + LONGEST_WAIT));
        self.number += 1;
        self.waiting.insert((at, self.number), wish);
    }

    /// Plans a question for every key whose lease has ended.
    fn sweep(&mut self) {
        let now = Instant::now();
        let old = self.known.iter().filter(|(_, (_, end))| *end <= now);
        let old: Vec<_> = old.map(|(key, (limit, _))| (key.clone(), *limit)).collect();
        for (key, limit) in old {
            let plan = self.limiter.with_share(&key, |share| {
                let plan = !share.is_asked();
                share.set_asked(true);
                plan
            });
            match plan {
                None => drop(self.known.remove(&key)),
                Some(true) => self.note(Wish { key, limit, at: None }),
                Some(false) => {}
            }
        }
    }

    fn due(&mut self, now: Instant) -> Vec<Wish> {
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some(entry) = self.waiting.first_entry()
            && entry.key().0 <= now
        {
            batch.push(entry.remove());
        }
        batch
    }

    /// Asks for all keys at once; the connection sends them together.
    async fn settle(&mut self, batch: Vec<Wish>) {
        let asked = batch.into_iter().filter_map(|wish| {
            let account = self.limiter.with_share(&wish.key, Share::ask)?;
            Some((wish, account))
        });
        let asked: Vec<_> = asked.collect();
        let answers = join_all(asked.iter().map(|(wish, account)| {
            let wanted = wanted(wish.limit, *account);
            self.ask(&wish.key, wish.limit, *account, wanted)
        }));
        let answers = answers.await;
        let now = Instant::now();
        for ((wish, account), answer) in asked.into_iter().zip(answers) {
            let Some(answer) = answer else {
                self.limiter.with_share(&wish.key, |share| share.failed(now + RETRY));
                self.known.remove(&wish.key);
                continue;
            };
            // Nobody called since the last question, so nothing is leased: the key knows nothing again.
            let idle = account.demand == 0;
            self.limiter.with_share(&wish.key, |share| {
                share.answered(answer, now);
                if idle {
                    share.rest();
                }
            });
            if idle {
                self.known.remove(&wish.key);
            } else {
                let plenty = answer.open >= wish.limit.burst / 2;
                let end = now + if plenty { LONG_LEASE } else { LEASE };
                self.known.insert(wish.key, (wish.limit, end));
            }
        }
    }

    async fn ask(&self, key: &LimitKey, limit: Limit, account: Account, wanted: u32) -> Option<Answer> {
        let mut script = self.script.prepare_invoke();
        script.key(bucket(self.server.keys(), key)).arg(limit.per_minute).arg(limit.burst);
        script.arg(account.owed.min(limit.burst)).arg(account.unspent).arg(wanted);
        let (granted, open, wait) = self.server.ask(SETTLE, Question::Script(&script)).await.ok()?;
        Some(Answer { granted, open, wait: Duration::from_micros(wait) })
    }

    /// Gives back what was leased and pays what is owed.
    async fn give_back(&mut self) {
        let known: Vec<_> = self.known.drain().collect();
        for batch in known.chunks(BATCH) {
            let accounts = batch.iter().filter_map(|(key, (limit, _))| {
                let account = self.limiter.with_share(key, Share::ask)?;
                Some(self.ask(key, *limit, account, 0))
            });
            join_all(accounts).await;
        }
    }
}

/// How much to lease: twice what was needed since the last question, so that a steady caller is ahead of its need,
/// and never so much that a few replicas hold all of a bucket.
fn wanted(limit: Limit, account: Account) -> u32 {
    account.demand.saturating_mul(2).min((limit.burst / 4).max(1))
}

fn bucket(keys: &Keys, key: &LimitKey) -> String {
    keys.name("rate", &[key.as_str()])
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::{Backend, contract::in_redis::Replica};

    #[tokio::test]
    async fn s0_14_while_redis_is_down_a_key_that_nobody_calls_does_not_ask_again() {
        let replica = Replica::strict("redis://127.0.0.1:1", "d");
        let Backend::Redis(state) = &replica.coordination.backend else { panic!("this is over Redis") };
        let (desk, wishes) = mpsc::channel(QUEUE);
        let limiter = RateLimiter::with_capacity(1, Some(desk));
        let mut desk = Desk::new(state.server.clone(), limiter.clone(), wishes);
        let (key, limit) = (LimitKey::new("principal", "p"), Limit { per_minute: 60, burst: 3 });
        let call = || limiter.try_acquire(&key, limit, DateTime::UNIX_EPOCH).unwrap();

        call();
        let wish = desk.wishes.try_recv().unwrap();
        let began = Instant::now();
        desk.settle(vec![wish]).await;
        assert!(desk.waiting.is_empty() && desk.known.is_empty());

        call();
        let wish = desk.wishes.try_recv().unwrap();
        assert!(wish.at.is_some_and(|at| at >= began + RETRY), "one that is called asks after a pause");
    }
}
