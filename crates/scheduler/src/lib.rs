//! Runs a plan: order, cache policy, single flight, and each kind of step.
