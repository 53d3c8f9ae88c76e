//! Following and serving watch streams: snapshot, deltas, last copy on disk.
//!
//! A stream is `Begin, Put*, End(revision)` for a snapshot and for every later change, with heartbeats in between.
//! The server ([`serve`]) keeps one revision per watcher and no queue: whatever changed since then is read when the
//! watcher is ready for it, so the newest value wins. The client ([`Follower`]) applies whole batches only, resumes
//! from its last revision, and keeps its last copy on disk, so that it starts while the server is away.

mod backoff;
mod disk;
mod follower;
mod frame;
mod publisher;
mod status;

pub use disk::DiskCopy;
pub use follower::{Batch, Follower};
pub use frame::{Frame, FrameCodec, moment, timestamp};
pub use publisher::{Changes, FeedSource, FeedStream, Watch, serve};
pub use status::FeedStatus;
