//! Checks that need only the AST.

use super::lint::Lint;
use super::rules::{self, Rule};
use crate::ast::{Dockerfile, From, Instruction, InstructionKind};
use crate::diagnostics::Diagnostic;
use crate::source::Word;

/// Runs them all.
pub(crate) fn run(ast: &Dockerfile, lint: &mut Lint) {
    instruction_casing(ast, lint);
    stage_names(ast, lint);
    for instruction in &ast.instructions {
        let comments = &instruction.comments;
        if let [first, others @ ..] = instruction.blanks.as_slice() {
            let rule: &'static Rule = &rules::NO_EMPTY_CONTINUATION;
            let message = "this line is blank inside a continued instruction";
            let finding = Diagnostic::check(rule.name, *first, message);
            let finding =
                others.iter().take(3).fold(finding, |finding, blank| finding.also(*blank, "and this one"));
            lint.add(rule, comments, finding);
        }
        match &instruction.kind {
            InstructionKind::From(from) => from_words(instruction, from, lint),
            InstructionKind::Maintainer(_) => lint.report(
                &rules::MAINTAINER_DEPRECATED,
                comments,
                instruction.keyword.span,
                "MAINTAINER is deprecated in favor of a label".to_owned(),
            ),
            InstructionKind::Arg(definitions) => {
                let names: Vec<&str> =
                    definitions.iter().map(|definition| definition.name.text.as_str()).collect();
                description(instruction, "ARG", &names, lint);
            }
            _ => {}
        }
    }
}

fn from_words(instruction: &Instruction, from: &From, lint: &mut Lint) {
    let Some((between, name)) = &from.name else {
        return;
    };
    let comments = &instruction.comments;
    if name.text.to_lowercase() != name.text {
        let message = format!("the stage's name `{}` is not in lower case", name.text);
        lint.report(&rules::STAGE_NAME_CASING, comments, name.span, message);
    }
    let keyword = &instruction.keyword.text;
    let differs = if keyword.to_lowercase() == *keyword {
        between.text.to_lowercase() != between.text
    } else {
        keyword.to_uppercase() == *keyword && between.text.to_uppercase() != between.text
    };
    if differs {
        let message = format!("`{}` and `{keyword}` are not in the same case", between.text);
        lint.report(&rules::FROM_AS_CASING, comments, between.span, message);
    }
    description(instruction, "FROM", &[&name.text.to_lowercase()], lint);
}

/// A comment right above is read as a description, and should begin with the name.
fn description(instruction: &Instruction, keyword: &str, names: &[&str], lint: &mut Lint) {
    let Some(comment) = instruction.comments.last() else {
        return;
    };
    let first = comment.text.split(' ').next().unwrap_or_default();
    if !names.is_empty() && !names.contains(&first) {
        let name = if let [name] = names { name } else { "name" };
        let message = format!("the comment above {keyword} does not begin with `{name}`");
        lint.report(&rules::INVALID_DEFINITION_DESCRIPTION, &instruction.comments, comment.span, message);
    }
}

fn stage_names(ast: &Dockerfile, lint: &mut Lint) {
    let mut seen: Vec<(String, &Word)> = Vec::new();
    for stage in ast.stages() {
        let (Some(name), Some((_, word))) = (stage.name(), &stage.from.name) else {
            continue;
        };
        let comments = &stage.opening.comments;
        if matches!(name.as_str(), "scratch" | "context") {
            let message = format!("`{name}` has a meaning of its own and should not name a stage");
            lint.report(&rules::RESERVED_STAGE_NAME, comments, word.span, message);
        }
        if let Some((_, first)) = seen.iter().find(|(other, _)| *other == name) {
            let rule: &'static Rule = &rules::DUPLICATE_STAGE_NAME;
            let message = format!("two stages are named `{name}`");
            let finding = Diagnostic::check(rule.name, word.span, message).also(first.span, "the first one");
            lint.add(rule, comments, finding);
        }
        seen.push((name, word));
    }
}

/// Keywords should all be written like most of them are. ARG before the first FROM does not count,
/// as in BuildKit.
fn instruction_casing(ast: &Dockerfile, lint: &mut Lint) {
    let counted = || {
        ast.instructions
            .iter()
            .skip_while(|instruction| !matches!(instruction.kind, InstructionKind::From(_)))
    };
    let is_lower = |text: &str| text.to_lowercase() == text;
    let is_upper = |text: &str| text.to_uppercase() == text;
    let lower = counted().filter(|instruction| is_lower(&instruction.keyword.text)).count();
    let upper = counted().filter(|instruction| is_upper(&instruction.keyword.text)).count();
    let mostly_lower = lower > upper;
    for instruction in counted() {
        let keyword = &instruction.keyword;
        let (fits, case) = if mostly_lower {
            (is_lower(&keyword.text), "lower")
        } else {
            (is_upper(&keyword.text), "upper")
        };
        if !fits {
            let message = format!("`{}` is not in {case} case, as most keywords here are", keyword.text);
            lint.report(&rules::CONSISTENT_INSTRUCTION_CASING, &instruction.comments, keyword.span, message);
        }
    }
}
