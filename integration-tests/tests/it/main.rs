//! Everything in one test binary: it links once.

mod house;
