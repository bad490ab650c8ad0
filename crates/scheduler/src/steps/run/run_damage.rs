//! Damage to the files that a command stood on, looked for when it has failed: the kernel mounts a
//! snapshot as it is, so a truncated `/bin/sh` looks like any other failure.

use std::collections::HashSet;
use std::io::Read as _;

use dbuild_layer::{LayerError, Stack, StackEntry, TreePath};
use dbuild_plan::RunStep;

use crate::cache::step_inputs::StepInputs;
use crate::error::StepError;
use crate::layers::flatten::directories;
use crate::steps::step_context::StepContext;

/// Maximum number of words of a command that are looked up as programs.
const MOST_WORDS: usize = 200;
/// Maximum length of a chain of interpreters.
const MOST_INTERPRETERS: usize = 4;
/// Bytes that are read of a program to find its interpreter.
const HEAD: u64 = 4096;

/// The damage that may be why a command failed: to its root file system or to what it had mounted.
pub(crate) fn damage_under(
    context: &StepContext,
    error: &StepError,
    run: &RunStep,
    inputs: &StepInputs<'_>,
    lower: &Stack,
) -> Option<LayerError> {
    if !matches!(error, StepError::Command { .. } | StepError::Sandbox(_)) {
        return None;
    }
    let executed = executed(run, lower);
    let merged = directories(context.store(), lower).unwrap_or_default();
    context.store().damage_below(lower, &merged, &executed).or_else(|| {
        let mounted = inputs.mounted().into_iter().filter_map(|from| inputs.stack_of(from).ok());
        mounted.into_iter().find_map(|stack| context.store().damage_below(&stack, &[], &HashSet::new()))
    })
}

/// The programs that a command has executed, as far as its words tell, with their interpreters.
fn executed(run: &RunStep, stack: &Stack) -> HashSet<TreePath> {
    let mut found = HashSet::new();
    let path = run.env.iter().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value);
    let in_script = run.argv.iter().skip(1).flat_map(|text| text.split(|c: char| !is_of_word(c)));
    for word in run.argv.first().map(String::as_str).into_iter().chain(in_script).take(MOST_WORDS) {
        let candidates: Vec<String> = match word {
            "" => continue,
            word if word.starts_with('/') => vec![word.to_owned()],
            word if word.contains('/') => vec![format!("{}/{word}", run.workdir)],
            word => path.split(':').map(|dir| format!("{dir}/{word}")).collect(),
        };
        if let Some(program) = candidates.iter().find(|path| file_at(stack, path).is_some()) {
            add(stack, program, MOST_INTERPRETERS, &mut found);
        }
    }
    found
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+')
}

fn file_at<'a>(stack: &'a Stack, path: &str) -> Option<StackEntry<'a>> {
    stack.resolve(path, true).ok()?.found.filter(|found| found.file().is_some())
}

/// Adds a program and what runs it.
fn add(stack: &Stack, path: &str, depth: usize, executed: &mut HashSet<TreePath>) {
    let Some(found) = file_at(stack, path).filter(|_| depth > 0) else { return };
    let Some(file) = found.file() else { return };
    if !executed.insert(file.entry.path.clone()) {
        return;
    }
    let mut head = Vec::new();
    let read = stack.open(&found).map(|file| file.take(HEAD).read_to_end(&mut head));
    if matches!(read, Ok(Ok(_))) {
        interpreters(&head).iter().for_each(|path| add(stack, path, depth - 1, executed));
    }
}

/// What a program's first bytes say of its interpreter: the words of a `#!` line, or the loader of
/// an ELF file, which is among the first absolute paths in it.
fn interpreters(head: &[u8]) -> Vec<String> {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        return line.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect();
    }
    if !head.starts_with(b"\x7fELF") {
        return Vec::new();
    }
    let texts = head.split(|byte| *byte == 0).filter(|text| text.starts_with(b"/") && text.len() > 4);
    texts.filter_map(|text| String::from_utf8(text.to_vec()).ok()).take(2).collect()
}

#[cfg(test)]
mod tests {
    use super::interpreters;

    #[test]
    fn interpreters_stand_at_the_beginning() {
        assert_eq!(interpreters(b"#!/usr/bin/env -S /bin/sh x\n/no"), ["/usr/bin/env", "/bin/sh"]);
        assert_eq!(interpreters(b"\x7fELF\x02\0\0/lib64/ld-linux.so.2\0more"), ["/lib64/ld-linux.so.2"]);
        assert_eq!(interpreters(b"text"), [""; 0]);
    }
}
