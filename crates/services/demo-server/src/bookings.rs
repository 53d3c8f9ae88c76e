//! The tables that were booked: the one thing here that changes, so that subscriptions have something to tell.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

/// Bookings kept; the oldest makes room.
const MAX_BOOKINGS: usize = 50;

/// A booked table. It holds no name: everybody may read the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Booking {
    pub(crate) reference: String,
    pub(crate) day: String,
    pub(crate) time: String,
    pub(crate) people: u8,
    pub(crate) window_seat: bool,
}

#[derive(Debug)]
pub(crate) struct Bookings {
    list: Mutex<VecDeque<Booking>>,
    changes: watch::Sender<u64>,
}

impl Bookings {
    pub(crate) fn new() -> Self {
        Self { list: Mutex::default(), changes: watch::Sender::new(0) }
    }

    /// Books; a reference that is known already changes nothing, so a repeated request books one table.
    pub(crate) fn add(&self, booking: Booking) -> bool {
        {
            let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
            if list.iter().any(|known| known.reference == booking.reference) {
                return false;
            }
            if list.len() == MAX_BOOKINGS {
                list.pop_front();
            }
            list.push_back(booking);
        }
        self.changes.send_modify(|change| *change += 1);
        true
    }

    pub(crate) fn list(&self) -> Vec<Booking> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Changes with every new booking.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
