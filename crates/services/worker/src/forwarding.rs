//! Events that arrive at one worker and concern the share of another.
//!
//! The event stream gives each event to one worker, whichever is free. It passes those that are not its own on to the
//! holder of their share and acknowledges them then. Nothing is lost on the way: a holder that dies is followed by one
//! that begins with a resync, and an event that could not be passed on is delivered again.
//!
//! Events are passed on as the registry sealed them: a letter that somebody else wrote does not open.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use portico_coordination::{CoordinationError, DeliveryId, Inbox, Mailbox};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::division::Holders;
use crate::health::{doubled, jittered};
use crate::shares::Share;
use crate::watcher::Context;

/// Events that wait to be passed on; the stream delivers again what finds no room.
const WAITING: usize = 1024;
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// An event for another worker.
#[derive(Debug)]
pub(crate) struct Foreign {
    pub(crate) share: Share,
    pub(crate) payload: Bytes,
    pub(crate) delivery: DeliveryId,
}

/// The supervisor's ends: what it hands over, what was passed on, what others passed on to it.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) out: mpsc::Sender<Foreign>,
    pub(crate) passed_on: mpsc::Receiver<DeliveryId>,
    pub(crate) arrived: mpsc::Receiver<Bytes>,
}

/// The other ends, in tasks of their own.
#[derive(Debug)]
pub(crate) struct PostOffice {
    own: String,
    mailbox: Mailbox,
    holders: Holders,
    outgoing: mpsc::Receiver<Foreign>,
    passed_on: mpsc::Sender<DeliveryId>,
    arrived: mpsc::Sender<Bytes>,
}

pub(crate) fn address(worker: &str) -> String {
    format!("worker.{worker}")
}

impl PostOffice {
    pub(crate) fn new(own: &str, mailbox: Mailbox, holders: Holders) -> (Self, Post) {
        let (out, outgoing) = mpsc::channel(WAITING);
        let (passed, passed_on) = mpsc::channel(WAITING);
        let (arrive, arrived) = mpsc::channel(WAITING);
        let own = own.to_owned();
        let office = Self { own, mailbox, holders, outgoing, passed_on: passed, arrived: arrive };
        (office, Post { out, passed_on, arrived })
    }

    /// Carries both ways until shutdown.
    pub(crate) async fn run(
        self,
        context: Arc<Context>,
        shutdown: CancellationToken,
    ) -> Result<(), Infallible> {
        let Self { own, mailbox, holders, mut outgoing, passed_on, arrived } = self;
        let send = async {
            while let Some(event) = outgoing.recv().await {
                let delivery = event.delivery;
                match pass_on(&holders, &mailbox, event).await {
                    Ok(()) => {
                        context.metrics.event("passed_on");
                        if passed_on.send(delivery).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        tracing::info!(
                            error = &error as &dyn std::error::Error,
                            "an event is passed on later"
                        );
                    }
                }
            }
        };
        let receive = async {
            let mut failures = 0;
            loop {
                match mailbox.receive(&address(&own)).await {
                    Ok(inbox) => {
                        failures = 0;
                        if !empty(inbox, &arrived).await {
                            return;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "no mailbox");
                        failures += 1;
                    }
                }
                sleep(jittered(doubled(FIRST_RETRY, failures, LONGEST_RETRY), &*context.rng)).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = async { tokio::join!(send, receive); } => {}
        }
        Ok(())
    }
}

async fn pass_on(holders: &Holders, mailbox: &Mailbox, event: Foreign) -> Result<(), CoordinationError> {
    match holders.of(event.share).await? {
        Some(holder) => mailbox.send(&address(&holder), event.payload).await,
        // Whoever takes the share begins with a list that is younger than this event.
        None => Ok(()),
    }
}

/// Hands everything on until the box ends; false if nobody wants it any more.
async fn empty(mut inbox: Inbox, arrived: &mpsc::Sender<Bytes>) -> bool {
    while let Some(message) = inbox.next().await {
        if arrived.send(message).await.is_err() {
            return false;
        }
    }
    true
}
