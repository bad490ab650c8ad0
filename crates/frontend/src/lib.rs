//! Dockerfile text to spanned AST, diagnostics, checks and plan; pure, no I/O.
