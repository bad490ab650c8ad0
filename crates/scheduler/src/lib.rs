//! Runs a plan: order, cache policy, single flight, and the execution of each kind of step.

mod cancel;
mod schedule;

pub use cancel::{Cancel, Canceller};
