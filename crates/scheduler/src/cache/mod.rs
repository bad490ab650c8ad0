//! What a step is keyed by, whether its result is known, and why not.

pub(crate) mod explain;
pub(crate) mod lineage;
pub(crate) mod lookup;
pub(crate) mod step_inputs;
pub(crate) mod traces;
