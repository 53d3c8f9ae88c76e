use std::sync::Arc;

use portico_mcp_types::Id;
use tokio_util::sync::CancellationToken;

use crate::relay::SessionStream;
use crate::session::Session;

/// A request whose answer is still to come; known before its server is asked, so that it can be cancelled at any time.
#[derive(Debug)]
pub(crate) struct Pending {
    session: Arc<Session>,
    stream: u32,
    cancelled: CancellationToken,
    handed_on: bool,
}

impl Pending {
    pub(crate) fn begin(session: &Arc<Session>, request: Id<'_>) -> Self {
        let stream = session.streams.open(Some(request.as_json()));
        let cancelled = session.streams.cancellation(stream);
        Self { session: Arc::clone(session), stream, cancelled, handed_on: false }
    }

    /// `None` if the request is cancelled first, which drops what was done for it.
    pub(crate) async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.cancelled.run_until_cancelled(work).await
    }

    pub(crate) fn cancellation(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// The stream on which the answer comes.
    pub(crate) fn into_stream(mut self) -> SessionStream {
        self.handed_on = true;
        SessionStream::new(Arc::clone(&self.session), self.stream, 0)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.handed_on {
            self.session.streams.end(self.stream);
        }
    }
}
