//! Rebuilt.
