//! Following and serving watch streams: snapshot, deltas, last copy on disk.
