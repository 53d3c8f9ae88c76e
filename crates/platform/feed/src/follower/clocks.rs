//! How far the clocks of server and follower differ.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};

/// Heartbeats that are compared.
const SAMPLES: usize = 3;

/// The newest comparisons of one stream.
#[derive(Debug, Default)]
pub(super) struct Clocks(VecDeque<TimeDelta>);

impl Clocks {
    /// Takes in what a heartbeat says and tells how far the server's clock is ahead.
    ///
    /// The way of a heartbeat only ever makes the server look behind, by as long as this process slept over it for
    /// example: of several the one that was fastest is right.
    pub(super) fn compare(&mut self, sent_at: DateTime<Utc>, received_at: DateTime<Utc>) -> TimeDelta {
        let ahead = sent_at - received_at;
        self.0.truncate(SAMPLES - 1);
        self.0.push_front(ahead);
        self.0.iter().copied().max().unwrap_or(ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn rs_23_a_heartbeat_that_was_slow_says_nothing_about_the_clocks() {
        let mut clocks = Clocks::default();
        assert_eq!(clocks.compare(at(0), at(0)), TimeDelta::zero());
        assert_eq!(clocks.compare(at(5), at(65)), TimeDelta::zero(), "this process slept for a minute");
        assert_eq!(clocks.compare(at(60), at(65)), TimeDelta::zero());
        assert_eq!(clocks.compare(at(65), at(65)), TimeDelta::zero());
    }

    #[test]
    fn rs_23_a_clock_that_differs_is_noticed_at_once_if_it_is_ahead_and_after_three_heartbeats_if_behind() {
        let mut clocks = Clocks::default();
        clocks.compare(at(0), at(0));
        assert_eq!(clocks.compare(at(125), at(5)), TimeDelta::seconds(120));
        for second in [10, 15] {
            assert_eq!(clocks.compare(at(second - 120), at(second)), TimeDelta::seconds(120));
        }
        assert_eq!(clocks.compare(at(20 - 120), at(20)), TimeDelta::seconds(-120));
    }
}
