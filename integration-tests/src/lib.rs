//! What the tests through the binary share: a place of their own for each test, the program itself,
//! a registry with base images, and other people's tools to judge the results with.
//!
//! A test never touches the machine's own stores, configuration or registries. What is costly to
//! make (base images) lies in `target/fixtures` and is made once, by `scripts/bases.sh`.

mod background;
mod browser;
mod outcome;
mod registry;
mod space;
mod terminal;
mod unpacked;
mod web;

pub use background::{Background, free_port, http_get};
pub use browser::Page;
pub use outcome::{Outcome, run};
pub use registry::{Bases, Registry};
pub use space::{Dbuild, TestSpace, binary, workspace};
pub use terminal::{Screen, Terminal};
pub use unpacked::Unpacked;
pub use web::{GitRepository, GitServer, WebFile, WebRequest, WebServer};
