//! Asking all others something, and waiting for what they say.

use std::time::Duration;

use portico_ids::ServerId;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::letter::{Body, Ended, Number};
use super::{Outgoing, Replicas, locked};

/// How long the others have for their answers.
const DEADLINE: Duration = Duration::from_millis(500);
/// Most questions at the same time.
const MAX_ASKED: usize = 1_000;

/// A question to all others, until it is dropped.
pub(super) struct Question<'r> {
    replicas: &'r Replicas,
    pub(super) number: u64,
    answers: mpsc::Receiver<Option<ServerId>>,
    pub(super) until: Instant,
}

impl Question<'_> {
    /// Gives the first of so many answers that names a server; `None` if none does in time.
    pub(super) async fn first_named(mut self, answers: usize) -> Option<ServerId> {
        let named = async {
            for _ in 0..answers {
                if let Some(server) = self.answers.recv().await? {
                    return Some(server);
                }
            }
            None
        };
        timeout_at(self.until, named).await.ok().flatten()
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        locked(&self.replicas.questions).remove(&self.number);
    }
}

impl Replicas {
    /// A question that so many others may answer; `None` while there are too many.
    pub(super) fn question(&self, others: usize) -> Option<Question<'_>> {
        let number = self.random();
        // There is room for one answer of each.
        let (sender, answers) = mpsc::channel(others.max(1));
        let mut questions = locked(&self.questions);
        if questions.len() >= MAX_ASKED {
            return None;
        }
        questions.insert(number, sender);
        Some(Question { replicas: self, number, answers, until: Instant::now() + DEADLINE })
    }

    /// Takes in the answer of another replica.
    pub(super) fn hear(&self, number: u64, server: Option<ServerId>) {
        if let Some(sender) = locked(&self.questions).get(&number) {
            let _ = sender.try_send(server);
        }
    }

    /// Tells a replica that waits for it that a session has ended here.
    pub(super) fn confirm_ended(&self, to: String, number: u64) {
        if number != 0 {
            self.post(Outgoing::To(to.into(), Body::IsEnded(Number { number })));
        }
    }

    /// Has all others end a session and waits until they have, so that an agent that is told of the end finds its session
    /// nowhere. One that does not answer in time learns of it when it asks the shared map.
    pub(crate) async fn end_everywhere(&self, session: &str) {
        let others = self.peers().len();
        let question = self.question(others);
        let number = question.as_ref().map_or(0, |question| question.number);
        // Not sent from here: it has to go out even if the agent does not wait.
        self.post(Outgoing::ToAll(Body::Ended(Ended { session: session.to_owned(), number })));
        if let Some(question) = question {
            question.first_named(others).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replicas::box_of;
    use crate::testing::Bench;

    #[tokio::test]
    async fn a_replica_that_does_not_answer_is_not_waited_for_long() {
        let bench = Bench::with(|_| {}).await;
        bench.meet();
        let replicas = &bench.engine().replicas;
        let _unread = replicas.mailbox.receive(&box_of("silent")).await.unwrap();
        replicas.meet(std::iter::once("silent".to_owned()));
        replicas.end_everywhere("session").await;
        assert!(locked(&replicas.questions).is_empty());
    }

    #[tokio::test]
    async fn a_question_that_nobody_waits_for_any_more_takes_no_room() {
        let bench = Bench::with(|_| {}).await;
        let replicas = &bench.engine().replicas;
        drop(replicas.question(1).unwrap().first_named(1));
        assert!(locked(&replicas.questions).is_empty());
        let all: Vec<_> = (0..MAX_ASKED).map(|_| replicas.question(1).unwrap()).collect();
        assert!(replicas.question(1).is_none());
        drop(all);
        assert!(replicas.question(1).is_some());
    }
}
