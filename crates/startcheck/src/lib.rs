//! Whether an image will start. Its files are followed as the kernel, the dynamic loader, the shell
//! and the interpreter of its command would follow them; nothing is run.
//!
//! What is known to be wrong is reported with the reason. What can only be known by running it is
//! reported as unknown, and never guessed. The files come through [`Files`]: this crate knows
//! neither stores nor directories, and reads only the parts of large files that matter.

mod accounts;
mod analysis;
mod check;
mod elf;
mod image_files;
mod libraries;
mod loader;
mod node;
mod program;
mod python;
mod remedies;
mod script;
mod search_path;
mod shell;
mod strings;
#[cfg(test)]
mod tests;
mod user;
mod verdict;
mod view;
mod wrappers;

pub use check::check;
pub use elf::{Elf, ElfError, Machine};
pub use image_files::{Files, Node, NodeKind};
pub use remedies::{Stage, add_remedies};
pub use verdict::{Finding, Need, Start, Unknown, line, quoted};
