//! Which stage needs what: names are looked up, nothing is lowered yet.
//!
//! All of BuildKit's rules for names are here. FROM sees the stages before it and does not fold
//! case; `COPY --from` and mounts see all stages and do; of two stages with one name the last that
//! is seen counts. A number is a stage's index for COPY alone. Then come `scratch`, named contexts
//! and images.

use std::collections::BTreeMap;

use dbuild_oci::{Platform, Reference};
use dbuild_support::edit_distance;

use super::env::Env;
use super::globals;
use crate::ast::{Dockerfile, Instruction, InstructionKind, StageView};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::expand::{Expansion, Lexer};
use crate::mount_options;
use crate::parse::parse_trigger;
use crate::request::{BuildArgs, ImageRequest, NamedContext, Resolved};
use crate::source::{Span, Word};

/// Where files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Another stage.
    Stage(usize),
    /// Nothing at all.
    Scratch,
    /// A named context that is a directory, by its name on the command line.
    Directory(String),
    /// A named context that is a git repository.
    Git(String),
    /// A named context that is a file of a server.
    Url(String),
    /// An image.
    Image(ImageRequest),
}

/// A stage and what its words refer to.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub(crate) view: StageView<'a>,
    /// In lower case.
    pub(crate) name: Option<String>,
    /// FROM's image, expanded.
    pub(crate) base_text: String,
    pub(crate) base: Origin,
    /// A named context replaces the stage: none of its instructions counts.
    pub(crate) replaced: bool,
    pub(crate) platform: Platform,
    /// What the base's ONBUILD asks for.
    pub(crate) triggers: Vec<Instruction>,
    /// The expansions of FROM's words, for the checks.
    pub(crate) image_expansion: Expansion,
    pub(crate) platform_expansion: Option<Expansion>,
}

impl Node<'_> {
    /// What people call the stage.
    pub(crate) fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("stage-{}", self.view.index))
    }

    /// The triggers, then the stage's own instructions.
    pub(crate) fn instructions(&self) -> impl Iterator<Item = &Instruction> {
        let own = if self.replaced { &[] } else { self.view.instructions };
        self.triggers.iter().chain(own)
    }
}

/// The stages of a Dockerfile for one target platform.
#[derive(Debug)]
pub(crate) struct Graph<'a> {
    pub(crate) nodes: Vec<Node<'a>>,
    pub(crate) globals: Env,
    pub(crate) target: usize,
    pub(crate) target_platform: Platform,
    /// Whether the target needs the stage.
    pub(crate) reached: Vec<bool>,
    args: &'a BuildArgs,
    escape: char,
}

impl<'a> Graph<'a> {
    /// Looks all names up. What is wrong in a stage that is not needed is harmless where it is so
    /// in BuildKit.
    pub(crate) fn new(
        ast: &'a Dockerfile,
        args: &'a BuildArgs,
        platform: &Platform,
        resolved: &Resolved,
    ) -> Result<Self, Diagnostics> {
        let mut graph = Self {
            nodes: Vec::new(),
            globals: globals::globals(ast, args, platform)?,
            target: 0,
            target_platform: platform.clone(),
            reached: Vec::new(),
            args,
            escape: ast.escape(),
        };
        let mut errors = Vec::new();
        for view in ast.stages() {
            match graph.node(view) {
                Ok(node) => graph.nodes.push(node),
                Err(error) => {
                    errors.push(error);
                    // Its number is taken, so that others are found by theirs.
                    graph.nodes.push(graph.placeholder(view));
                }
            }
        }
        if graph.nodes.is_empty() {
            return Err(Diagnostic::error(Span::default(), "no stage is opened")
                .help("add `FROM image`")
                .into());
        }
        match graph.find_target() {
            Ok(target) => graph.target = target,
            Err(error) => errors.push(error),
        }
        errors.extend(graph.name_errors());
        if !errors.is_empty() {
            return Err(Diagnostics(errors));
        }
        graph.find_reached(resolved)?;
        graph.check_order()?;
        Ok(graph)
    }

    /// The escape character of the file.
    pub(crate) fn escape(&self) -> char {
        self.escape
    }

    fn placeholder(&self, view: StageView<'a>) -> Node<'a> {
        Node {
            view,
            name: view.name(),
            base_text: view.from.image.text.clone(),
            base: Origin::Scratch,
            replaced: false,
            platform: self.target_platform.clone(),
            triggers: Vec::new(),
            image_expansion: Expansion::default(),
            platform_expansion: None,
        }
    }

    fn node(&self, view: StageView<'a>) -> Result<Node<'a>, Diagnostic> {
        let lexer = Lexer::new(self.escape);
        let image = &view.from.image;
        let image_expansion = globals::expand(lexer, image, &self.globals)?;
        let base_text = image_expansion.text.clone();
        if base_text.is_empty() {
            let error = Diagnostic::error(image.span, "the name of the base image is empty");
            return Err(error.label("after expansion").help("give the ARG a default, or use `--build-arg`"));
        }
        let platform_expansion = view
            .from
            .platform
            .as_ref()
            .map(|word| globals::expand(lexer, word, &self.globals))
            .transpose()?;
        let explicit = match (&platform_expansion, &view.from.platform) {
            (Some(expansion), Some(word)) => Some(self.platform(&expansion.text, word)?),
            _ => None,
        };
        let name = view.name();
        let wanted = explicit.as_ref().unwrap_or(&self.target_platform).clone();
        let context = name.as_deref().and_then(|name| self.context_for_stage(name, &wanted));
        let replaced = context.is_some();
        let earlier = self.nodes.iter().rposition(|node| node.name.as_deref() == Some(&base_text));
        let base = match (context, earlier) {
            (Some(context), _) => {
                let written = name.as_deref().unwrap_or(&base_text);
                self.origin_of_context(context, written, &wanted, image.span)?
            }
            (None, Some(earlier)) => Origin::Stage(earlier),
            (None, None) => self.outside(&base_text, &wanted, image.span).map_err(|error| {
                if base_text == image.text {
                    error
                } else {
                    error.label(format!("expanded from `{}`", image.text))
                }
            })?,
        };
        let platform = match &base {
            Origin::Stage(earlier) => self.nodes[*earlier].platform.clone(),
            Origin::Scratch => self.target_platform.clone(),
            _ => wanted,
        };
        Ok(Node {
            view,
            name,
            base_text,
            base,
            replaced,
            platform,
            triggers: Vec::new(),
            image_expansion,
            platform_expansion,
        })
    }

    fn platform(&self, text: &str, word: &Word) -> Result<Platform, Diagnostic> {
        if text.is_empty() {
            let error = Diagnostic::error(word.span, "the platform is empty").label("after expansion");
            let name = word.text.trim_matches(['$', '{', '}']);
            let near = edit_distance::nearest(name, self.globals.names());
            return Err(error.maybe_help(near.map(|near| format!("did you mean `${near}`?"))));
        }
        text.parse()
            .map_err(|error: dbuild_oci::PlatformError| Diagnostic::error(word.span, error.to_string()))
    }

    /// What is no stage: `scratch`, a named context or an image.
    fn outside(&self, name: &str, platform: &Platform, span: Span) -> Result<Origin, Diagnostic> {
        if name == "scratch" {
            return Ok(Origin::Scratch);
        }
        let reference: Reference = name.parse().map_err(|error: dbuild_oci::ReferenceError| {
            let error_text = error.to_string();
            let stages = self.nodes.iter().filter_map(|node| node.name.as_deref());
            let help = match &error.suggestion {
                Some(right) => Some(format!("did you mean `{right}`?")),
                None => edit_distance::nearest(name, stages)
                    .map(|near| format!("did you mean the stage `{near}`?")),
            };
            Diagnostic::error(span, error_text).maybe_help(help)
        })?;
        let familiar = reference.familiar();
        let familiar = familiar.strip_suffix(":latest").unwrap_or(&familiar);
        if let Some(context) = self.named_context(familiar, platform) {
            return self.origin_of_context(context, name, platform, span);
        }
        let stages = self.nodes.iter().filter_map(|node| node.name.as_deref());
        Ok(Origin::Image(ImageRequest {
            written: name.to_owned(),
            reference: reference.to_string(),
            platform: platform.clone(),
            span,
            near: edit_distance::nearest(name, stages).map(str::to_owned),
        }))
    }

    /// A named context takes a stage's place, but for the two names that mean something else.
    fn context_for_stage(&self, name: &str, platform: &Platform) -> Option<(&'a String, &'a NamedContext)> {
        if matches!(name, "scratch" | "context") { None } else { self.named_context(name, platform) }
    }

    /// A context under the name alone, or before that one that is for a platform: `NAME::PLATFORM`.
    fn named_context(&self, familiar: &str, platform: &Platform) -> Option<(&'a String, &'a NamedContext)> {
        let contexts: &'a BTreeMap<String, NamedContext> = &self.args.contexts;
        let is_called = |name: &str| {
            let given = name.parse::<Reference>().map(|reference| reference.familiar());
            let given = given.as_deref().unwrap_or(name);
            given.strip_suffix(":latest").unwrap_or(given) == familiar
        };
        let is_for = |text: &str| text.parse::<Platform>().is_ok_and(|of| of == *platform);
        let for_platform = contexts.iter().find(|(name, _)| {
            name.split_once("::").is_some_and(|(name, text)| is_called(name) && is_for(text))
        });
        for_platform.or_else(|| contexts.iter().find(|(name, _)| is_called(name)))
    }

    fn origin_of_context(
        &self,
        (name, context): (&String, &NamedContext),
        written: &str,
        platform: &Platform,
        span: Span,
    ) -> Result<Origin, Diagnostic> {
        let request = |reference: String| {
            let (written, platform) = (written.to_owned(), platform.clone());
            Origin::Image(ImageRequest { written, reference, platform, span, near: None })
        };
        match context {
            NamedContext::Directory => Ok(Origin::Directory(name.clone())),
            NamedContext::Git(remote) => Ok(Origin::Git(remote.clone())),
            NamedContext::Url(url) => Ok(Origin::Url(url.clone())),
            NamedContext::Image(image) if image == "scratch" => Ok(Origin::Scratch),
            NamedContext::Image(image) if image.starts_with("oci-layout:") => Ok(request(image.clone())),
            NamedContext::Image(image) => {
                let reference: Reference = image.parse().map_err(|error: dbuild_oci::ReferenceError| {
                    Diagnostic::error(span, format!("the context `{name}` is not an image: {error}"))
                })?;
                Ok(request(reference.to_string()))
            }
        }
    }

    fn find_target(&self) -> Result<usize, Diagnostic> {
        let Some(target) = &self.args.target else {
            return Ok(self.nodes.len() - 1);
        };
        self.find_stage(target).ok_or_else(|| {
            let names: Vec<&str> = self.nodes.iter().filter_map(|node| node.name.as_deref()).collect();
            let error = Diagnostic::placeless(format!("there is no stage `{target}` to build"));
            match edit_distance::nearest(&target.to_lowercase(), names.iter().copied()) {
                Some(near) => error.help(format!("did you mean `{near}`?")),
                None if names.is_empty() => error.help("name the stage: `FROM image AS name`"),
                None => error.help(format!("the stages are `{}`", names.join("`, `"))),
            }
        })
    }

    /// A stage by name, case folded; the last of one name.
    fn find_stage(&self, name: &str) -> Option<usize> {
        let name = name.to_lowercase();
        self.nodes.iter().rposition(|node| node.name.as_deref() == Some(&name))
    }

    /// What `COPY --from` names.
    pub(crate) fn copy_origin(&self, from: &Word, stage: usize) -> Result<Origin, Diagnostic> {
        let name = self.text_of_from(from, stage)?;
        match name.parse::<i64>() {
            Ok(index) => match usize::try_from(index).ok().filter(|index| *index < self.nodes.len()) {
                Some(index) => Ok(Origin::Stage(index)),
                None => {
                    let last = self.nodes.len() - 1;
                    let error = Diagnostic::error(from.span, format!("there is no stage number {name}"));
                    Err(error.help(format!("stages are counted from 0; the last one here is {last}")))
                }
            },
            Err(_) => self.origin_by_name(&name, from.span),
        }
    }

    /// What `from=` of a mount names.
    pub(crate) fn mount_origin(&self, from: &Word) -> Result<Origin, Diagnostic> {
        self.origin_by_name(&from.text, from.span)
    }

    fn origin_by_name(&self, name: &str, span: Span) -> Result<Origin, Diagnostic> {
        match self.find_stage(name) {
            Some(stage) => Ok(Origin::Stage(stage)),
            None => self.outside(name, &self.target_platform, span),
        }
    }

    /// `--from` may hold variables where it is sure what they are before any stage is lowered:
    /// those of the global scope which the stage does not set itself. (BuildKit refuses all.)
    fn text_of_from(&self, from: &Word, stage: usize) -> Result<String, Diagnostic> {
        if !from.text.contains('$') {
            return Ok(from.text.clone());
        }
        let expansion = globals::expand(Lexer::new(self.escape), from, &self.globals)?;
        let node = self.nodes.get(stage);
        for used in &expansion.used {
            let redefined = node.is_some_and(|node| node.instructions().any(|other| sets(other, &used.name)));
            if !used.set || redefined {
                let error =
                    Diagnostic::error(from.part(used.range.clone()), "what `--from` names is not sure here");
                return Err(error.label("this is not a variable of the global scope").help(
                    "use an ARG before the first FROM, or name a stage: `FROM $IMAGE AS tools` and `--from=tools`",
                ));
            }
        }
        Ok(expansion.text)
    }

    /// Everything that the instruction takes files from.
    fn origins(&self, instruction: &Instruction, stage: usize) -> Vec<(Result<Origin, Diagnostic>, Span)> {
        match &instruction.kind {
            InstructionKind::Copy(copy) => {
                copy.from.iter().map(|from| (self.copy_origin(from, stage), from.span)).collect()
            }
            InstructionKind::Run(run) => {
                let froms = run.mounts.iter().filter_map(mount_options::from_of);
                froms.map(|from| (self.mount_origin(&from), from.span)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Names that cannot be right in any stage, needed or not.
    fn name_errors(&self) -> Vec<Diagnostic> {
        let own = self.nodes.iter().flat_map(|node| {
            node.view.instructions.iter().flat_map(|instruction| self.origins(instruction, node.view.index))
        });
        own.filter_map(|(origin, _)| origin.err()).collect()
    }

    /// Follows bases and sources from the target, and reads the triggers of what is reached.
    fn find_reached(&mut self, resolved: &Resolved) -> Result<(), Diagnostic> {
        self.reached = vec![false; self.nodes.len()];
        let mut queue =
            if self.args.all_stages { (0..self.nodes.len()).rev().collect() } else { vec![self.target] };
        while let Some(stage) = queue.pop() {
            if std::mem::replace(&mut self.reached[stage], true) {
                continue;
            }
            let node = &self.nodes[stage];
            let span = node.view.from.platform.as_ref().map_or(node.view.from.image.span, |word| word.span);
            super::windows::refuse(&node.platform, span)?;
            self.nodes[stage].triggers = self.triggers(stage, resolved)?;
            if let Origin::Stage(base) = self.nodes[stage].base {
                queue.push(base);
            }
            for instruction in self.nodes[stage].instructions() {
                for (origin, _) in self.origins(instruction, stage) {
                    if let Origin::Stage(source) = origin? {
                        queue.push(source);
                    }
                }
            }
        }
        Ok(())
    }

    /// What the base asks for by ONBUILD. Triggers are not handed on to stages on top of this one.
    fn triggers(&self, stage: usize, resolved: &Resolved) -> Result<Vec<Instruction>, Diagnostic> {
        let node = &self.nodes[stage];
        let span = node.view.from.image.span;
        match &node.base {
            Origin::Stage(base) => {
                let instructions = self.nodes[*base].view.instructions.iter();
                let texts = instructions.filter_map(trigger_text);
                texts.map(|text| parse_trigger(&text, span)).collect()
            }
            Origin::Image(request) if !node.replaced => {
                let image = resolved.get(&request.reference, &request.platform);
                let texts = image.into_iter().flat_map(|image| &image.config.on_build);
                texts.map(|text| parse_trigger(text, span)).collect()
            }
            _ => Ok(Vec::new()),
        }
    }

    /// A stage can only take from stages before it. A cycle is distinguished from a stage that
    /// merely comes too late.
    fn check_order(&self) -> Result<(), Diagnostics> {
        let mut errors = Vec::new();
        for node in &self.nodes {
            let stage = node.view.index;
            for instruction in node.instructions() {
                for (origin, span) in self.origins(instruction, stage) {
                    let Ok(Origin::Stage(source)) = origin else {
                        continue;
                    };
                    // In a stage that is not needed BuildKit looks only for cycles, and only of
                    // sources.
                    let counts =
                        || self.reached[stage] || stage == source || self.way(source, stage, false).is_some();
                    if source >= stage && counts() {
                        errors.push(self.order_error(stage, source, span));
                    }
                }
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(Diagnostics(errors)) }
    }

    fn order_error(&self, stage: usize, source: usize, span: Span) -> Diagnostic {
        let (own, other) = (&self.nodes[stage], &self.nodes[source]);
        let (name, other_name) = (own.label(), other.label());
        let opening = |node: &Node<'_>| node.view.opening.line.span;
        if stage == source {
            return Diagnostic::error(span, format!("the stage `{name}` takes from itself"))
                .also(opening(own), "the stage begins here")
                .help("name an earlier stage, or split this one");
        }
        if let Some(back) = self.way(source, stage, true) {
            return Diagnostic::error(
                span,
                format!("the stages `{name}` and `{other_name}` need each other"),
            )
            .label(format!("`{name}` needs `{other_name}`"))
            .also(back, format!("`{other_name}` needs `{name}`"))
            .help("move what both need into a stage of its own, before them");
        }
        Diagnostic::error(span, format!("the stage `{other_name}` comes after `{name}`, which takes from it"))
            .also(opening(other), format!("`{other_name}` begins here"))
            .help(format!("move `{other_name}` before `{name}`"))
    }

    /// Where the first need on a way from one stage to another stands.
    fn way(&self, from: usize, to: usize, along_bases: bool) -> Option<Span> {
        let mut seen = vec![false; self.nodes.len()];
        let mut queue: Vec<(usize, Option<Span>)> = vec![(from, None)];
        while let Some((stage, first)) = queue.pop() {
            if std::mem::replace(&mut seen[stage], true) {
                continue;
            }
            let node = &self.nodes[stage];
            let base = along_bases.then(|| (Ok(node.base.clone()), node.view.from.image.span));
            let sources = node.instructions().flat_map(|instruction| self.origins(instruction, stage));
            for (origin, span) in base.into_iter().chain(sources) {
                if let Ok(Origin::Stage(next)) = origin {
                    let first = first.unwrap_or(span);
                    if next == to {
                        return Some(first);
                    }
                    queue.push((next, Some(first)));
                }
            }
        }
        None
    }

    /// The names of the build's arguments: what ARG declares, in all stages and triggers, and what
    /// every build has.
    pub(crate) fn declared(&self) -> impl Iterator<Item = String> {
        let of_stages = self.nodes.iter().flat_map(|node| node.triggers.iter().chain(node.view.instructions));
        let declared = of_stages.flat_map(|instruction| match &instruction.kind {
            InstructionKind::Arg(definitions) => definitions.as_slice(),
            _ => &[],
        });
        declared.map(|definition| definition.name.text.clone()).chain(self.globals.names().map(str::to_owned))
    }

    /// The images that are needed, each once.
    pub(crate) fn images(&self) -> Vec<ImageRequest> {
        let mut found: Vec<ImageRequest> = Vec::new();
        let mut add = |origin: Origin| {
            if let Origin::Image(request) = origin
                && !found
                    .iter()
                    .any(|old| old.reference == request.reference && old.platform == request.platform)
            {
                found.push(request);
            }
        };
        for node in self.nodes.iter().filter(|node| self.reached[node.view.index]) {
            add(node.base.clone());
            for instruction in node.instructions() {
                let origins = self.origins(instruction, node.view.index);
                origins.into_iter().filter_map(|(origin, _)| origin.ok()).for_each(&mut add);
            }
        }
        found
    }
}

/// The text of a trigger, here-documents included.
pub(crate) fn trigger_text(instruction: &Instruction) -> Option<String> {
    let InstructionKind::Onbuild(word) = &instruction.kind else {
        return None;
    };
    let mut text = word.text.clone();
    for document in &instruction.heredocs {
        text.push_str(&format!("\n{}{}", document.content, document.name));
    }
    Some(text)
}

/// Whether an instruction gives a variable a value of its own.
fn sets(instruction: &Instruction, name: &str) -> bool {
    match &instruction.kind {
        InstructionKind::Env(pairs) => {
            pairs.iter().any(|pair| pair.key.text == name || pair.key.text.contains('$'))
        }
        InstructionKind::Arg(definitions) => {
            definitions.iter().any(|definition| definition.name.text == name && definition.value.is_some())
        }
        _ => false,
    }
}
