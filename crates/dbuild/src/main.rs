//! The command line: flags, rendering and wiring.
fn main() {}
