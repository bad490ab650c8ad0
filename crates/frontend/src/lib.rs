//! Dockerfile text to spanned AST, diagnostics, checks and plan; pure, no I/O.
//!
//! Four questions, in the order in which a build asks them:
//!
//! 1. [`parse`]: what does the text say? It recovers after errors and finds several.
//! 2. [`needed`]: which images must be found? Asked again with the answers, until there is nothing
//!    more.
//! 3. [`lower`]: what is to be done? A plan, where each of its steps comes from, and what the
//!    checks found.
//! 4. [`render`]: how is a fault shown to people?
//!
//! [`examine`] answers another: what could be better? It is [`lower`] for its warnings, and goes on
//! where that fails. [`targets`] and [`outline`] say what can be built, and what it takes.
//!
//! Nothing here reads a file or a network, and no input makes it panic, loop or take memory without
//! bound.

mod ast;
mod buildkit_args;
mod checks;
mod diagnostics;
mod expand;
mod gotext;
mod heredoc;
mod instructions;
mod lines;
mod lower;
mod mount_options;
mod outline;
mod parse;
mod request;
mod source;
#[cfg(test)]
mod tests;
mod words;

pub use ast::{
    ArgDefinition, CommandLine, Copy, Dockerfile, From, Healthcheck, Instruction, InstructionKind, Pair, Run,
    StageView,
};
pub use buildkit_args::BUILDKIT_ARGS;
pub use checks::check;
pub use checks::rules::{ALL as RULES, Rule};
pub use diagnostics::{Diagnostic, Diagnostics, Label, Severity, render};
pub use heredoc::Heredoc;
pub use lines::{Comment, Directive};
pub use lower::{
    EpochSource, OutlineArg, OutlineMount, examine, fetched_context, git_context, lower, needed,
    percent_decoded, source_date_epoch,
};
pub use outline::{Outline, TargetInfo, outline, targets};
pub use parse::{Parsed, parse};
pub use request::{
    BuildArgs, Findings, Ignored, ImageRequest, Lowered, NamedContext, Resolved, StepSetting, StepSource,
};
pub use source::{Source, Span, Word};
