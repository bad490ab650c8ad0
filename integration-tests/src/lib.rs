//! Helpers that the tests through the binary share.
