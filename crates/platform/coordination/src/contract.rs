//! What every backend has to do, written once and run against each.
//!
//! A suite tells time through a closure: mocked time for the in-process backend, real time for one that has its
//! own clock.

mod events;
pub(crate) mod in_redis;
mod leases;
mod mailbox;
pub(crate) mod own_server;
mod rate_limit;
mod ttl_map;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta};
use portico_clock::MockClock;

use crate::{Coordination, StreamSettings};

/// A backend under test.
struct Suite<P> {
    backend: Coordination,
    streams: StreamSettings,
    /// A time that is long for the backend and short for the reader.
    unit: Duration,
    /// Lets time pass.
    pass: P,
}

fn in_process() -> Suite<impl AsyncFn(Duration)> {
    let clock = MockClock::at(DateTime::from_timestamp_micros(1_800_000_000_123_456).unwrap());
    let streams = StreamSettings { max_attempts: 3, ..StreamSettings::default() };
    let backend = Coordination::in_process_with(Arc::new(clock.clone()), streams.clone());
    let pass = async move |time: Duration| {
        clock.advance(TimeDelta::from_std(time).unwrap());
        tokio::time::advance(time).await;
    };
    Suite { backend, streams, unit: Duration::from_secs(1), pass }
}

/// Waits until something holds, at most ten seconds.
pub(crate) async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let give_up = tokio::time::Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(tokio::time::Instant::now() < give_up, "not within ten seconds: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Names one test for each case of the suite and backend.
macro_rules! run {
    ($($module:ident::$case:ident),* $(,)?) => {
        mod in_process_backend {
            $(#[tokio::test(start_paused = true)]
            async fn $case() {
                super::$module::$case(&super::in_process()).await;
            })*
        }
        mod redis_backend {
            $(#[tokio::test]
            async fn $case() {
                let Some(replica) = super::in_redis::replica() else { return };
                super::$module::$case(&replica.suite()).await;
                replica.assert_every_key_is_bounded().await;
            })*
        }
    };
}

run! {
    events::an_event_reaches_every_group_once_in_order,
    events::the_members_of_a_group_share_its_events,
    events::what_was_published_before_or_between_subscriptions_is_delivered,
    events::an_unacknowledged_event_is_delivered_again_to_another_member,
    events::an_acknowledged_event_is_not_delivered_again,
    events::an_event_that_is_never_acknowledged_becomes_a_dead_letter,
    events::a_waiting_consumer_is_woken,
    events::a_cancelled_wait_loses_nothing,
    events::no_event_is_lost_or_given_to_two_members_under_load,
    ttl_map::values_come_back_until_they_expire,
    ttl_map::touching_prolongs_and_putting_replaces,
    ttl_map::of_racers_to_put_one_wins,
    ttl_map::of_racers_to_take_one_gets_it,
    ttl_map::only_the_expected_value_is_swapped,
    ttl_map::renewing_prolongs_and_gives_the_value,
    ttl_map::namespaces_do_not_meet,
    leases::one_owner_holds_a_lease_at_a_time,
    leases::fences_grow_with_every_lease,
    leases::a_lost_lease_is_neither_renewed_nor_released,
    leases::of_racers_one_gets_the_lease,
    mailbox::messages_arrive_in_order_at_their_owner_only,
    mailbox::a_message_to_nobody_is_refused,
    mailbox::a_new_receiver_takes_over,
    rate_limit::a_full_bucket_holds_the_burst_and_refills_evenly,
    rate_limit::waiting_as_told_is_enough_and_no_shorter_wait_is,
    rate_limit::one_key_takes_nothing_from_another,
    rate_limit::a_clock_that_is_set_back_locks_nobody_out,
    rate_limit::a_limit_of_zero_lets_nothing_pass,
}
