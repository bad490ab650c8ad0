//! Files that a user names on the command line: where a result goes, and what is read once.
//!
//! Such a path leads to anything: a regular file, a link, a pipe that the shell made (`<(command)`,
//! `>(command)`), a FIFO, a device, one of dbuild's own descriptors (`/dev/stdin`, `/dev/fd/3`).
//! Here is decided, once for all commands, what that means:
//!
//! - a result takes the place of a *regular file* by a rename, goes *through* symbolic links, and
//!   is written *into* anything else; nothing but a regular file is ever replaced ([`output`]);
//! - what is read may come from a pipe, is bounded in size, and a pipe that stays silent is
//!   reported, can be interrupted, and is given up in the end ([`input`], [`Waiting`]).

mod descriptor;
mod input;
mod output;
#[cfg(test)]
mod tests;
mod waiting;

pub use input::{Input, is_pipe, read_input};
pub use output::write_result;
pub(crate) use output::{Place, make_parent, place};
pub use waiting::Waiting;
