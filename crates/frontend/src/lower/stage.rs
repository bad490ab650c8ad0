//! One stage: what its instructions do to the file system, the environment and the config.

use std::collections::BTreeSet;
use std::sync::Arc;

use dbuild_oci::{DEFAULT_PATH, HistoryEntry, ImageConfig, Platform};
use dbuild_plan::{StageId, StepId, StepKind, shown_url};
use dbuild_support::edit_distance;

use super::env::Env;
use super::git;
use super::globals;
use super::graph::{Graph, Node, Origin};
use super::paths;
use super::shared::Shared;
use crate::ast::{Instruction, InstructionKind};
use crate::buildkit_args::is_sbom_arg;
use crate::checks::rules;
use crate::diagnostics::Diagnostic;
use crate::expand::{Expansion, Lexer};
use crate::request::{BuildArgs, Resolved, StepSetting};
use crate::source::{Span, Word};

/// What BuildKit writes into each history entry.
const COMMENT: &str = "buildkit.dockerfile.v0";
/// What it writes into those that it adds when it exports.
const EXPORTER_COMMENT: &str = "buildkit.exporter.image.v0";

/// What a lowered stage hands on to those that build on it or copy from it.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    pub(crate) first: StepId,
    pub(crate) last: StepId,
    pub(crate) config: ImageConfig,
    pub(crate) history: Vec<HistoryEntry>,
    env: Env,
    args: Vec<(String, Option<String>)>,
    workdir: String,
    workdir_set: bool,
}

/// A stage while it is lowered.
pub(crate) struct StageLowering<'s> {
    pub(super) graph: &'s Graph<'s>,
    pub(super) build: &'s BuildArgs,
    pub(super) resolved: &'s Resolved,
    pub(super) shared: &'s mut Shared,
    pub(super) done: &'s [Option<Finished>],
    pub(super) node: &'s Node<'s>,
    pub(super) id: StageId,
    first: StepId,
    pub(super) last: StepId,
    pub(super) config: ImageConfig,
    history: Vec<HistoryEntry>,
    /// ENV and ARG, as RUN and expansion see them.
    pub(super) env: Env,
    /// The variables that ARG declared, in order, with the value that it gave.
    pub(super) args: Vec<(String, Option<String>)>,
    /// Where RUN starts and relative destinations begin; empty is `/`.
    pub(super) workdir: String,
    workdir_set: bool,
    /// What holds now, once it was asked for.
    setting: Option<Arc<StepSetting>>,
    cmd_set: Option<Span>,
    entrypoint_set: Option<Span>,
    healthcheck_set: Option<Span>,
}

impl<'s> StageLowering<'s> {
    pub(crate) fn new(
        graph: &'s Graph<'s>,
        build: &'s BuildArgs,
        resolved: &'s Resolved,
        shared: &'s mut Shared,
        done: &'s [Option<Finished>],
        node: &'s Node<'s>,
        id: StageId,
    ) -> Result<Self, Diagnostic> {
        let base = base(resolved, shared, done, node, id)?;
        let Finished { first, last, config, history, env, args, workdir, workdir_set } = base;
        let mut lowering = Self {
            graph,
            build,
            resolved,
            shared,
            done,
            node,
            id,
            first,
            last,
            config,
            history,
            env,
            args,
            workdir,
            workdir_set,
            setting: None,
            cmd_set: None,
            entrypoint_set: None,
            healthcheck_set: None,
        };
        lowering.inherit();
        if !matches!(node.base, Origin::Stage(_)) {
            lowering.settle();
        }
        lowering.check_platform();
        Ok(lowering)
    }

    /// What the config of the base means for the stage.
    fn inherit(&mut self) {
        self.config.on_build.clear();
        if self.config.env_value("PATH").is_none() {
            self.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        for entry in &self.config.env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            self.env.set(name, value);
        }
        if !self.config.working_dir.is_empty() {
            let normalized = paths::workdir(&self.config.working_dir, &self.config.working_dir);
            self.config.working_dir.clone_from(&normalized);
            self.workdir = normalized;
        }
    }

    fn check_platform(&mut self) {
        let Origin::Image(request) = &self.node.base else {
            return;
        };
        let Some(image) = self.resolved.get(&request.reference, &request.platform) else {
            return;
        };
        let (wanted, found): (&Platform, &Platform) = (&request.platform, &image.platform);
        if wanted.os != found.os || wanted.architecture != found.architecture {
            let message =
                format!("the image `{}` is for {found}, but {wanted} was requested", request.written);
            let comments = &self.node.view.opening.comments;
            self.shared.lint.report(&rules::INVALID_BASE_IMAGE_PLATFORM, comments, request.span, message);
        }
    }

    /// Lowers all instructions.
    pub(crate) fn run(mut self, is_target: bool) -> Result<Finished, Diagnostic> {
        let node = self.node;
        let shown = |text: &str| text.chars().take(200).collect::<String>();
        for (index, instruction) in node.instructions().enumerate() {
            self.instruction(instruction).map_err(|error| {
                if index < node.triggers.len() {
                    error.note(format!("this is a trigger of ONBUILD: `{}`", shown(&instruction.line.text)))
                } else {
                    error
                }
            })?;
        }
        if matches!(self.node.base, Origin::Directory(_) | Origin::Git(_)) {
            self.record_files();
        }
        if is_target {
            self.config.labels.extend(self.build.labels.iter().cloned());
        }
        Ok(Finished {
            first: self.first,
            last: self.last,
            config: self.config,
            history: self.history,
            env: self.env,
            args: self.args,
            workdir: self.workdir,
            workdir_set: self.workdir_set,
        })
    }

    /// Notes what holds at the last step.
    fn settle(&mut self) {
        let now = || StepSetting {
            env: self.env.pairs(),
            user: self.config.user.clone(),
            workdir: paths::entered(&self.workdir),
            shell: self.config.shell.clone().unwrap_or_default(),
        };
        let setting = self.setting.take().unwrap_or_else(|| Arc::new(now()));
        self.shared.settle(self.last, Arc::clone(&setting));
        self.setting = Some(setting);
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<(), Diagnostic> {
        if !matches!(
            instruction.kind,
            InstructionKind::Add(_) | InstructionKind::Copy(_) | InstructionKind::Run(_)
        ) {
            self.setting = None;
        }
        match &instruction.kind {
            InstructionKind::Add(copy) => self.copy(instruction, copy, true),
            InstructionKind::Arg(definitions) => self.arg(instruction, definitions),
            InstructionKind::Cmd(command) => {
                let previous = self.cmd_set.replace(instruction.line.span);
                self.used_once(instruction, previous, "CMD");
                self.cmd(instruction, command)
            }
            InstructionKind::Copy(copy) => self.copy(instruction, copy, false),
            InstructionKind::Entrypoint(command) => {
                let previous = self.entrypoint_set.replace(instruction.line.span);
                self.used_once(instruction, previous, "ENTRYPOINT");
                self.entrypoint(instruction, command, self.cmd_set.is_some())
            }
            InstructionKind::Env(pairs) => self.set_env(instruction, pairs),
            InstructionKind::Expose(ports) => self.expose(instruction, ports),
            // A trigger is never FROM, and the view of a stage ends before the next one.
            InstructionKind::From(_) => Ok(()),
            InstructionKind::Healthcheck(check) => {
                let previous = self.healthcheck_set.replace(instruction.line.span);
                self.used_once(instruction, previous, "HEALTHCHECK");
                self.healthcheck(check)
            }
            InstructionKind::Label(pairs) => self.label(instruction, pairs),
            InstructionKind::Maintainer(author) => self.maintainer(author),
            InstructionKind::Onbuild(_) => {
                self.config.on_build.extend(super::graph::trigger_text(instruction));
                Ok(())
            }
            InstructionKind::Run(run) => self.run_command(instruction, run),
            InstructionKind::Shell(words) => self.shell(words),
            InstructionKind::StopSignal(signal) => self.stop_signal(instruction, signal),
            InstructionKind::User(user) => self.user(instruction, user),
            InstructionKind::Volume(volumes) => self.volume(instruction, volumes),
            InstructionKind::Workdir(path) => self.set_workdir(instruction, path),
        }
    }

    fn used_once(&mut self, instruction: &Instruction, previous: Option<Span>, keyword: &str) {
        if let Some(previous) = previous {
            let message = format!("this {keyword} has no effect: a later one in the stage replaces it");
            let rule = &rules::MULTIPLE_INSTRUCTIONS_DISALLOWED;
            let finding = Diagnostic::check(rule.name, previous, message);
            let finding = finding.also(instruction.line.span, "the later one");
            self.shared.lint.add(rule, &instruction.comments, finding);
        }
    }

    /// Sets the working directory, and tells whether it is the first time in this Dockerfile.
    pub(super) fn change_workdir(&mut self, path: &str) -> bool {
        let new = paths::workdir(&self.config.working_dir, path);
        self.config.working_dir.clone_from(&new);
        self.workdir = new;
        !std::mem::replace(&mut self.workdir_set, true)
    }

    /// Adds a step that extends the stage's file system.
    pub(super) fn extend(&mut self, instruction: &Instruction, kind: StepKind) {
        let mut text = instruction.summary();
        if matches!(kind, StepKind::Copy(_)) && text.contains("://") {
            // A URL may hold a password, and the text goes into logs and the journal.
            text = text.split(' ').map(shown_url).collect::<Vec<_>>().join(" ");
        }
        self.last = self.shared.add(self.id, instruction.span, text, kind);
        self.settle();
    }

    pub(super) fn record(&mut self, created_by: String, made_layer: bool) {
        self.history.push(HistoryEntry {
            created: None,
            created_by: Some(created_by),
            author: None,
            comment: Some(COMMENT.to_owned()),
            empty_layer: !made_layer,
        });
    }

    /// The layer of files that are no image has no instruction. BuildKit gives the entry that is
    /// missing the name of the last step, and so do we.
    fn record_files(&mut self) {
        let made = |instruction: &&Instruction| {
            matches!(
                instruction.kind,
                InstructionKind::Add(_)
                    | InstructionKind::Copy(_)
                    | InstructionKind::Run(_)
                    | InstructionKind::Workdir(_)
            )
        };
        let steps: Vec<&Instruction> = self.node.instructions().filter(made).collect();
        let prefix =
            if self.graph.nodes.len() > 1 { format!("{} ", self.node.label()) } else { String::new() };
        let text = match steps.last() {
            Some(last) => format!("[{prefix}{}/{}] {}", steps.len(), steps.len() + 1, last.summary()),
            None => format!("local source for {}", self.node.base_text),
        };
        self.record(text, true);
        if let Some(entry) = self.history.last_mut() {
            entry.comment = Some(EXPORTER_COMMENT.to_owned());
        }
    }

    /// Expands a word with the variables of the stage; one that is not set is a finding.
    pub(super) fn expand(&mut self, instruction: &Instruction, word: &Word) -> Result<String, Diagnostic> {
        let lexer = Lexer::new(self.graph.escape());
        let expansion = globals::expand(lexer, word, &self.env)?;
        self.check_variables(instruction, word, &expansion);
        Ok(expansion.text)
    }

    /// Expands each of several words.
    pub(super) fn expand_all(
        &mut self,
        instruction: &Instruction,
        words: &[Word],
    ) -> Result<Vec<String>, Diagnostic> {
        words.iter().map(|word| self.expand(instruction, word)).collect()
    }

    pub(super) fn check_variables(&mut self, instruction: &Instruction, word: &Word, expansion: &Expansion) {
        let mut reported = BTreeSet::new();
        for used in expansion.used.iter().filter(|used| !used.set && reported.insert(used.name.as_str())) {
            let declared = self.args.iter().any(|(name, _)| *name == used.name);
            if declared || is_sbom_arg(&used.name) {
                continue;
            }
            let rule = &rules::UNDEFINED_VAR;
            let message = format!("the variable `${}` is not defined", used.name);
            let near = edit_distance::nearest(&used.name, self.env.names());
            let finding = Diagnostic::check(rule.name, word.part(used.range.clone()), message)
                .maybe_help(near.map(|near| format!("did you mean `${near}`?")));
            self.shared.lint.add(rule, &instruction.comments, finding);
        }
    }

    /// The step whose output an origin is.
    pub(super) fn step_of(&mut self, origin: &Origin, path: &str, span: Span) -> Result<StepId, Diagnostic> {
        match origin {
            Origin::Stage(stage) => match self.done.get(*stage).and_then(Option::as_ref) {
                Some(finished) => Ok(finished.last),
                None => Err(Diagnostic::error(span, "this stage is not complete here")),
            },
            Origin::Scratch => Ok(self.shared.add(self.id, span, "scratch".to_owned(), StepKind::Scratch)),
            Origin::Directory(name) => Ok(self.shared.context(Some(name), path, self.id, span)),
            Origin::Git(remote) => {
                let step = git::parse(remote).and_then(Result::ok).unwrap_or_else(|| git::plain(remote));
                Ok(self.shared.checkout(step, self.id, span))
            }
            Origin::Url(url) => Ok(self.shared.fetch(git::fetched_context(url), self.id, span)),
            Origin::Image(request) => self.shared.image(request, self.resolved, self.id, span, false),
        }
    }
}

/// The file system and config that FROM gives.
fn base(
    resolved: &Resolved,
    shared: &mut Shared,
    done: &[Option<Finished>],
    node: &Node<'_>,
    id: StageId,
) -> Result<Finished, Diagnostic> {
    let span = node.view.opening.line.span;
    let empty = |step: StepId| Finished {
        first: step,
        last: step,
        config: ImageConfig { working_dir: "/".to_owned(), ..ImageConfig::default() },
        history: Vec::new(),
        env: Env::default(),
        args: Vec::new(),
        workdir: String::new(),
        workdir_set: false,
    };
    match &node.base {
        Origin::Stage(stage) => {
            let finished = done.get(*stage).and_then(Option::as_ref).cloned();
            let finished =
                finished.ok_or_else(|| Diagnostic::error(span, "the base stage is not complete here"))?;
            Ok(Finished { first: finished.last, ..finished })
        }
        Origin::Scratch => Ok(empty(shared.add(id, span, "FROM scratch".to_owned(), StepKind::Scratch))),
        Origin::Directory(name) => {
            let from = shared.context(Some(name), "", id, span);
            Ok(empty(shared.all_of(from, &node.base_text, id, span)))
        }
        Origin::Git(remote) => {
            let step = git::parse(remote).and_then(Result::ok).unwrap_or_else(|| git::plain(remote));
            let from = shared.checkout(step, id, span);
            Ok(empty(shared.all_of(from, &node.base_text, id, span)))
        }
        Origin::Url(url) => Ok(empty(shared.fetch(git::fetched_context(url), id, span))),
        Origin::Image(request) => {
            let step = shared.image(request, resolved, id, span, true)?;
            let image = resolved.get(&request.reference, &request.platform);
            let config = image.map(|image| image.config.clone()).unwrap_or_default();
            let history =
                image.map(|image| whole_history(&image.history, image.layers.len())).unwrap_or_default();
            Ok(Finished { config, history, ..empty(step) })
        }
    }
}

/// A base's history with as many entries of layers as it has layers: not every tool writes them
/// all.
fn whole_history(history: &[HistoryEntry], layers: usize) -> Vec<HistoryEntry> {
    let mut history = history.to_vec();
    let described = history.iter().filter(|entry| !entry.empty_layer).count();
    for _ in described..layers {
        history.push(HistoryEntry::default());
    }
    let surplus = history.iter_mut().rev().filter(|entry| !entry.empty_layer);
    for entry in surplus.take(described.saturating_sub(layers)) {
        entry.empty_layer = true;
    }
    history
}
