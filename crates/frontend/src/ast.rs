//! A Dockerfile as it is written: instructions with their words, not yet expanded.

use std::borrow::Cow;
use std::fmt;

use crate::heredoc::Heredoc;
use crate::lines::{Comment, Directive};
use crate::source::{Span, Word};

/// A whole file. Printing it gives a Dockerfile that parses to the same, spans aside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dockerfile {
    /// The parser directives, in order.
    pub directives: Vec<Directive>,
    /// The instructions, in order.
    pub instructions: Vec<Instruction>,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// The keyword as written.
    pub keyword: Word,
    /// The comments right above it.
    pub comments: Vec<Comment>,
    /// The whole instruction on one line: continuation lines joined, without here-documents.
    pub line: Word,
    /// From the keyword to the end of the last here-document.
    pub span: Span,
    /// Blank lines inside it.
    pub blanks: Vec<Span>,
    /// The here-documents that the line announces, in order.
    pub heredocs: Vec<Heredoc>,
    /// What it says.
    pub kind: InstructionKind,
}

/// The instructions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstructionKind {
    /// Copies and unpacks.
    Add(Copy),
    /// Declares variables of the build.
    Arg(Vec<ArgDefinition>),
    /// The default command.
    Cmd(CommandLine),
    /// Copies.
    Copy(Copy),
    /// The program.
    Entrypoint(CommandLine),
    /// Variables of the image.
    Env(Vec<Pair>),
    /// Ports, each `port[-port][/protocol]` before expansion.
    Expose(Vec<Word>),
    /// Opens a stage.
    From(From),
    /// How health is asked for.
    Healthcheck(Healthcheck),
    /// Labels of the image.
    Label(Vec<Pair>),
    /// The author.
    Maintainer(Word),
    /// An instruction for builds on top of this image, as written.
    Onbuild(Word),
    /// Runs a command.
    Run(Run),
    /// The shell of the shell forms.
    Shell(Vec<Word>),
    /// The signal that stops the container.
    StopSignal(Word),
    /// Who runs commands.
    User(Word),
    /// Paths that hold data.
    Volume(Vec<Word>),
    /// Where commands run.
    Workdir(Word),
}

/// `FROM [--platform=P] IMAGE [AS NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// The image or stage.
    pub image: Word,
    /// The value of `--platform`.
    pub platform: Option<Word>,
    /// The word `AS` as written, and the stage's name as written.
    pub name: Option<(Word, Word)>,
}

/// `name` or `name=value` of ARG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgDefinition {
    /// The variable.
    pub name: Word,
    /// Its default.
    pub value: Option<Word>,
}

/// `name=value` of ENV and LABEL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What is before `=`.
    pub key: Word,
    /// What is after it.
    pub value: Word,
    /// Written with white space instead of `=`.
    pub legacy: bool,
}

/// A command in one of its two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// For the shell; `None` is nothing at all.
    Shell(Option<Word>),
    /// A JSON array.
    Exec(Vec<Word>),
}

/// RUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Each value of `--mount`.
    pub mounts: Vec<Word>,
    /// The value of `--network`.
    pub network: Option<Word>,
    /// The value of `--security`.
    pub security: Option<Word>,
    /// Each value of `--device`.
    pub devices: Vec<Word>,
    /// What is run.
    pub command: CommandLine,
}

/// COPY and ADD; flags that only one of them has are `None` or empty in the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Paths, and for ADD URLs.
    pub sources: Vec<Word>,
    /// Here-documents among the sources.
    pub documents: Vec<Heredoc>,
    /// Where to.
    pub dest: Word,
    /// `--from` of COPY.
    pub from: Option<Word>,
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--parents` of COPY.
    pub parents: bool,
    /// Each value of `--exclude`.
    pub exclude: Vec<Word>,
    /// `--checksum` of ADD.
    pub checksum: Option<Word>,
    /// `--keep-git-dir` of ADD.
    pub keep_git_dir: Option<bool>,
    /// `--unpack` of ADD.
    pub unpack: Option<bool>,
}

/// HEALTHCHECK. Durations are in nanoseconds, 0 where absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Healthcheck {
    /// `None` for `HEALTHCHECK NONE`.
    pub command: Option<CommandLine>,
    /// `--interval`.
    pub interval: i64,
    /// `--timeout`.
    pub timeout: i64,
    /// `--start-period`.
    pub start_period: i64,
    /// `--start-interval`.
    pub start_interval: i64,
    /// `--retries`.
    pub retries: i64,
}

/// A stage as it is written.
#[derive(Clone, Copy, Debug)]
pub struct StageView<'a> {
    /// Its position among the stages, from 0.
    pub index: usize,
    /// Its FROM.
    pub from: &'a From,
    /// The instruction that the FROM is.
    pub opening: &'a Instruction,
    /// What follows.
    pub instructions: &'a [Instruction],
}

impl StageView<'_> {
    /// The name in lower case, where FROM gives one.
    pub fn name(&self) -> Option<String> {
        self.from.name.as_ref().map(|(_, name)| name.text.to_lowercase())
    }

    /// What the comment above FROM says of the stage: `# NAME description`.
    pub fn description(&self) -> Option<&str> {
        let name = self.name()?;
        described(&self.opening.comments, &name)
    }
}

impl Dockerfile {
    /// The escape character.
    pub fn escape(&self) -> char {
        let value = self.directive("escape").map(|directive| directive.value.text.as_str());
        if value == Some("`") { '`' } else { '\\' }
    }

    /// A parser directive.
    pub fn directive(&self, name: &str) -> Option<&Directive> {
        self.directives.iter().find(|directive| directive.name == name)
    }

    /// The ARG instructions before the first FROM.
    pub fn global_args(&self) -> impl Iterator<Item = (&Instruction, &[ArgDefinition])> {
        self.instructions.iter().map_while(|instruction| match &instruction.kind {
            InstructionKind::Arg(definitions) => Some((instruction, definitions.as_slice())),
            _ => None,
        })
    }

    /// The stages, in order.
    pub fn stages(&self) -> Vec<StageView<'_>> {
        let mut stages = Vec::new();
        let mut rest = self.instructions.as_slice();
        while let Some(at) = rest.iter().position(|i| matches!(i.kind, InstructionKind::From(_))) {
            let (opening, after) = (&rest[at], &rest[at + 1..]);
            let len = after.iter().position(|i| matches!(i.kind, InstructionKind::From(_)));
            let (instructions, others) = after.split_at(len.unwrap_or(after.len()));
            if let InstructionKind::From(from) = &opening.kind {
                stages.push(StageView { index: stages.len(), from, opening, instructions });
            }
            rest = others;
        }
        stages
    }
}

impl Instruction {
    /// The instruction as people know it, on one line and not too long: the keyword in upper case,
    /// white space folded.
    pub fn summary(&self) -> String {
        summary_of(&self.line.text, &self.heredocs)
    }
}

/// See [`Instruction::summary`].
fn summary_of(line: &str, heredocs: &[Heredoc]) -> String {
    const LONGEST: usize = 1000;
    let mut out = String::new();
    for (index, word) in line.split_whitespace().enumerate() {
        if index == 0 {
            out.push_str(&word.to_ascii_uppercase());
        } else {
            out.push(' ');
            out.push_str(word);
        }
        if out.len() > LONGEST {
            break;
        }
    }
    if let Some(first) =
        heredocs.first().map(|document| document.content.trim()).filter(|text| !text.is_empty())
    {
        let mut lines = first.lines();
        let start = lines.next().unwrap_or_default();
        let more = if lines.next().is_some() { "..." } else { "" };
        out.push_str(&format!(" ({start}{more})"));
    }
    if out.len() > LONGEST {
        let cut = (0..=LONGEST).rev().find(|at| out.is_char_boundary(*at)).unwrap_or(0);
        out.truncate(cut);
        out.push('…');
    }
    out
}

impl fmt::Display for Dockerfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for directive in &self.directives {
            writeln!(f, "# {}={}", directive.name, directive.value.text)?;
        }
        let (escape, last) = (self.escape(), self.instructions.len().wrapping_sub(1));
        for (index, instruction) in self.instructions.iter().enumerate() {
            write!(f, "{instruction}")?;
            // Blanks after an escape character would continue the line. Such a text comes from a
            // continuation into the end of the file, so that is how it is written.
            let text = instruction.written();
            let bare = text.trim_end_matches([' ', '\t']);
            let into_the_end = index == last && bare.len() < text.len() && bare.ends_with(escape);
            if into_the_end && instruction.heredocs.is_empty() {
                write!(f, "{escape}")?;
            } else {
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

impl Instruction {
    /// The line as it is written anew: a trigger keeps the blanks at its end.
    fn written(&self) -> Cow<'_, str> {
        match &self.kind {
            InstructionKind::Onbuild(word) if word.text.len() > word.text.trim_end().len() => {
                Cow::Owned(format!("{}{}", self.line.text, &word.text[word.text.trim_end().len()..]))
            }
            _ => Cow::Borrowed(&self.line.text),
        }
    }
}

impl fmt::Display for Instruction {
    /// One line, then the here-documents. Comments above stand above.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.comments.is_empty() {
            // An empty comment ends the directives, so that a comment cannot turn into one.
            writeln!(f, "#")?;
        }
        for comment in &self.comments {
            writeln!(f, "# {}", comment.text)?;
        }
        f.write_str(&self.written())?;
        for document in &self.heredocs {
            write!(f, "\n{}{}", document.content, document.name)?;
        }
        Ok(())
    }
}

/// What a comment above says of a name: `# NAME description`.
pub(crate) fn described<'a>(comments: &'a [Comment], name: &str) -> Option<&'a str> {
    comments.iter().find_map(|comment| comment.text.strip_prefix(name)?.strip_prefix(' '))
}
