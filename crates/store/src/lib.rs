//! Crash-safe local state: blobs, records, snapshots, the journal, collection.
