//! The execution of each kind of step.

pub(crate) mod copy;
pub(crate) mod copy_not_found;
pub(crate) mod image;
pub(crate) mod remote;
pub(crate) mod run;
