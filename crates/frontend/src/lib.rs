//! Dockerfile text to spanned AST, diagnostics, checks and plan; pure, no I/O.

mod ast;
mod diagnostics;
mod expand;
mod gotext;
mod heredoc;
mod instructions;
mod lines;
mod mount_options;
mod parse;
mod source;
mod suggest;
mod words;
