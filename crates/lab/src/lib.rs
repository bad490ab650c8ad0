//! Replays git histories under cache strategies and eviction policies.
//!
//! [`replay`] walks a history, finds out what each step of each commit gives (by simulation, or by
//! carrying out every distinct step once), and makes the keys under each strategy. What a step
//! gives does not depend on what a cache holds, so this is done once; then virtual caches of every
//! policy and size look the keys up. The model is described in `docs/guide/laboratory.md`.
//!
//! Read `replay.rs` first, then `trace.rs` and `caches.rs`.

mod bound;
mod caches;
mod context;
mod cost;
mod error;
mod execute;
mod git;
mod html;
mod plot;
mod replay;
mod result;
mod simulate;
mod table;
#[cfg(test)]
mod tests;
mod trace;
mod units;
mod world;

pub use cost::Costs;
pub use error::LabError;
pub use execute::{Execute, Stopped};
pub use git::Repository;
pub use html::html;
pub use plot::svg;
pub use replay::{FindBase, Mode, Options, replay};
pub use result::{BELADY, BOUND, Cause, CommitResult, Rebuilt, Replay, Row, UNLIMITED};
