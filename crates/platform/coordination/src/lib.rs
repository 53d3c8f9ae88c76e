//! What replicas share beside the database: an event stream.
//!
//! Nothing here is a source of truth: whatever is lost can be rebuilt from a database, and losing it degrades
//! a deployment without corrupting it. The backend is a closed enum; today there is one, inside the process.
//! Its behaviour is fixed by the contract suite of this crate, which the next backend has to pass unchanged.

mod error;
mod events;

use std::sync::Arc;

use portico_clock::SharedClock;

pub use error::CoordinationError;
pub use events::{Consumer, DeadLetter, Delivery, DeliveryId, EventStream, StreamSettings};

/// Everything that replicas share, over one backend.
#[derive(Clone, Debug)]
pub struct Coordination {
    backend: Backend,
}

#[derive(Clone, Debug)]
enum Backend {
    InProcess(Arc<InProcess>),
}

/// The state of the in-process backend; each capability keeps its own.
#[derive(Debug)]
struct InProcess {
    events: EventStream,
}

impl Coordination {
    /// Makes a backend that lives and dies with this process.
    pub fn in_process(clock: SharedClock) -> Self {
        Self::in_process_with(clock, StreamSettings::default())
    }

    /// Makes an in-process backend whose event streams have other limits than the defaults.
    pub fn in_process_with(_clock: SharedClock, streams: StreamSettings) -> Self {
        Self { backend: Backend::InProcess(Arc::new(InProcess { events: EventStream::in_process(streams) })) }
    }

    /// Returns the event stream.
    #[must_use]
    pub fn events(&self) -> EventStream {
        match &self.backend {
            Backend::InProcess(state) => state.events.clone(),
        }
    }
}
