//! What is seen of a target's parameters while its stages are lowered.

use std::collections::BTreeSet;

use crate::ast::{ArgDefinition, Instruction, described};
use crate::source::Span;

/// Parameters of the target and of the stages that it needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Capture {
    pub(crate) target: usize,
    /// ARG of stages that is more than the name of a global one.
    pub(crate) stage_args: Vec<OutlineArg>,
    /// ARG before the first FROM that something uses.
    pub(crate) global_args: Vec<OutlineArg>,
    /// Names of the global scope that stages ask for.
    pub(crate) asked: BTreeSet<String>,
    pub(crate) secrets: Vec<OutlineMount>,
    pub(crate) ssh: Vec<OutlineMount>,
}

/// A build argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// Its value in this build.
    pub value: Option<String>,
    /// What the comment above it says of it.
    pub description: Option<String>,
    /// The instruction.
    pub span: Span,
}

impl OutlineArg {
    /// From an ARG.
    pub(crate) fn of(instruction: &Instruction, definition: &ArgDefinition, value: Option<String>) -> Self {
        let name = definition.name.text.clone();
        let description = described(&instruction.comments, &name).map(str::to_owned);
        Self { name, value, description, span: instruction.line.span }
    }
}

/// Something that a RUN is handed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineMount {
    /// Its id.
    pub id: String,
    /// The step fails without it.
    pub required: bool,
    /// The instruction.
    pub span: Span,
}
