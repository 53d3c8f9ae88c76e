//! What a replica knows of the bucket that all replicas share.

use std::time::Duration;

use tokio::time::Instant;

/// A replica's side of one shared bucket. It starts without knowing anything, which is also how it is while Redis is
/// down: the local bucket alone decides then.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    /// The shared bucket has answered.
    known: bool,
    /// A question is on its way or will be.
    asked: bool,
    /// The last question failed, so nothing is noted until the next one.
    alone: bool,
    /// Tokens that were taken out of the shared bucket and not spent yet.
    leased: u32,
    /// When so few are left of a lease, it is time to ask.
    low: u32,
    /// Tokens that the shared bucket held when it answered. Any replica may spend them; it owes what it spends.
    open: u32,
    /// Tokens that were spent without being leased.
    owed: u32,
    /// Tokens that were spent since the last question.
    spent: u32,
    /// Calls that were refused since the last question because the shared bucket was empty.
    refused: u32,
    /// Before this time asking is not worth it: the shared bucket was found empty, or the last question failed.
    ask_at: Option<Instant>,
}

/// What a question says to the shared bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// Spent without a lease: to be paid.
    pub(super) owed: u32,
    /// Leased and not spent: given back, and leased again as far as it is wanted.
    pub(super) unspent: u32,
    /// Calls since the last question.
    pub(super) demand: u32,
}

/// What the shared bucket answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) granted: u32,
    /// What it holds beyond that.
    pub(super) open: u32,
    /// How long it takes until it holds a token, if there is none.
    pub(super) wait: Duration,
}

impl Share {
    /// Spends a token, unless the shared bucket is known to be empty: then it tells until when.
    pub(super) fn spend(&mut self) -> Result<(), Option<Instant>> {
        if self.known && self.leased == 0 && self.open == 0 {
            self.refused = self.refused.saturating_add(1);
            return Err(self.ask_at);
        }
        if self.alone {
            return Ok(());
        }
        self.spent = self.spent.saturating_add(1);
        if self.leased > 0 {
            self.leased -= 1;
        } else {
            self.owed = self.owed.saturating_add(1);
            self.open = self.open.saturating_sub(1);
        }
        Ok(())
    }

    /// Tells whether it is time to ask.
    pub(super) fn wants_to_ask(&self) -> bool {
        !self.asked && (!self.known || self.leased <= self.low)
    }

    /// Returns from when on asking is worth something, if that is not at once.
    pub(super) fn ask_at(&self) -> Option<Instant> {
        self.ask_at
    }

    pub(super) fn is_asked(&self) -> bool {
        self.asked
    }

    pub(super) fn set_asked(&mut self, asked: bool) {
        self.asked = asked;
    }

    /// Begins a question. What is spent until the answer comes is noted for the next one.
    pub(super) fn ask(&mut self) -> Account {
        let account = Account {
            owed: self.owed,
            unspent: self.leased,
            demand: self.spent.saturating_add(self.refused),
        };
        (self.asked, self.alone, self.owed, self.spent, self.refused) = (true, false, 0, 0, 0);
        account
    }

    /// Takes the answer. What was spent while it was on its way comes out of the new lease first.
    pub(super) fn answered(&mut self, answer: Answer, now: Instant) {
        let leased = answer.granted.saturating_sub(self.spent);
        let owed = self.spent.saturating_sub(answer.granted);
        let open = answer.open.saturating_sub(owed);
        *self = Self {
            known: true,
            leased,
            // With more left open than leased, nothing is refused while the next answer is on its way.
            low: if open > leased { 0 } else { leased / 4 },
            open,
            owed,
            spent: self.spent,
            refused: self.refused,
            ask_at: (leased == 0 && open == 0).then(|| now + answer.wait),
            ..Self::default()
        };
    }

    /// Knows nothing again, except what is still owed.
    pub(super) fn rest(&mut self) {
        if self.leased == 0 && self.spent == 0 {
            *self = Self { owed: self.owed, ..Self::default() };
        }
    }

    /// Forgets everything because the question failed. Whoever calls next asks again, though not at once.
    pub(super) fn failed(&mut self, ask_at: Instant) {
        *self = Self { alone: true, ask_at: Some(ask_at), ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(granted: u32, open: u32) -> Answer {
        Answer { granted, open, wait: Duration::from_secs(1) }
    }

    fn spend(share: &mut Share, calls: usize) -> usize {
        (0..calls).filter(|_| share.spend().is_ok()).count()
    }

    #[test]
    fn until_the_first_answer_the_local_bucket_decides_and_what_is_spent_is_owed() {
        let mut share = Share::default();
        assert!(share.wants_to_ask());
        assert_eq!(spend(&mut share, 5), 5);
        assert_eq!(share.ask(), Account { owed: 5, unspent: 0, demand: 5 });
        assert!(!share.wants_to_ask(), "one question at a time");
    }

    #[test]
    fn a_lease_is_spent_first_then_what_is_open_then_nothing() {
        let mut share = Share::default();
        share.ask();
        share.answered(answer(4, 2), Instant::now());
        assert!(!share.wants_to_ask());
        assert_eq!(spend(&mut share, 3), 3);
        assert!(share.wants_to_ask(), "asked before the lease is used up");
        assert_eq!(spend(&mut share, 9), 3);
        assert_eq!(share.ask(), Account { owed: 2, unspent: 0, demand: 12 });
    }

    #[test]
    fn what_is_spent_during_a_question_comes_out_of_its_answer() {
        let mut share = Share::default();
        share.ask();
        share.answered(answer(10, 90), Instant::now());
        assert_eq!(share.ask(), Account { owed: 0, unspent: 10, demand: 0 });
        assert_eq!(spend(&mut share, 12), 12);
        share.answered(answer(8, 50), Instant::now());
        // 12 spent, 8 leased: 4 are owed, and so many fewer are open.
        assert_eq!(share.ask(), Account { owed: 4, unspent: 0, demand: 12 });
    }

    #[test]
    fn an_empty_bucket_refuses_until_it_is_worth_asking() {
        let (mut share, now) = (Share::default(), Instant::now());
        share.ask();
        share.answered(answer(0, 0), now);
        let until = Some(now + Duration::from_secs(1));
        assert_eq!(share.spend(), Err(until));
        assert!(share.wants_to_ask());
        assert_eq!(share.ask_at(), until);
        share.ask();
        share.answered(answer(1, 0), now);
        assert_eq!(spend(&mut share, 3), 1);
    }

    #[test]
    fn after_a_failure_the_local_bucket_decides_and_nothing_is_owed() {
        let (mut share, now) = (Share::default(), Instant::now());
        share.ask();
        share.answered(answer(0, 0), now);
        share.ask();
        let later = now + Duration::from_secs(1);
        share.failed(later);
        assert_eq!(spend(&mut share, 100), 100);
        assert!(share.wants_to_ask());
        assert_eq!(share.ask_at(), Some(later));
        assert_eq!(share.ask(), Account::default());
    }
}
