//! Instructions that change the config and the environment, and WORKDIR.

use dbuild_plan::{StepKind, WorkdirStep};
use dbuild_support::edit_distance;

use super::capture::OutlineArg;
use super::globals;
use super::paths;
use super::signal;
use super::stage::StageLowering;
use crate::ast::{ArgDefinition, CommandLine, Healthcheck, Instruction, Pair};
use crate::buildkit_args::is_sbom_arg;
use crate::checks::rules;
use crate::diagnostics::Diagnostic;
use crate::expand::{Lexer, Variables};
use crate::gotext;
use crate::source::{Span, Word};

impl StageLowering<'_> {
    pub(super) fn set_env(&mut self, instruction: &Instruction, pairs: &[Pair]) -> Result<(), Diagnostic> {
        // All words see the variables as they were before the instruction.
        let pairs = self.expand_pairs(instruction, pairs)?;
        let mut text = "ENV".to_owned();
        for (name, value, span) in pairs {
            self.check_secret(instruction, "ENV", &name, span);
            text.push_str(&format!(" {name}={value}"));
            self.env.set(&name, &value);
            self.config.set_env(&name, &value);
        }
        self.record(text, false);
        Ok(())
    }

    pub(super) fn label(&mut self, instruction: &Instruction, pairs: &[Pair]) -> Result<(), Diagnostic> {
        let mut text = "LABEL".to_owned();
        for (name, value, _) in self.expand_pairs(instruction, pairs)? {
            text.push_str(&format!(" {name}={value}"));
            self.config.labels.insert(name, value);
        }
        self.record(text, false);
        Ok(())
    }

    fn expand_pairs(
        &mut self,
        instruction: &Instruction,
        pairs: &[Pair],
    ) -> Result<Vec<(String, String, Span)>, Diagnostic> {
        let mut expanded = Vec::with_capacity(pairs.len());
        for pair in pairs {
            if pair.legacy {
                let keyword = instruction.keyword.text.to_ascii_uppercase();
                let message = format!("{keyword} is written with white space instead of `=`");
                let span = pair.key.span.to(pair.value.span);
                let rule = &rules::LEGACY_KEY_VALUE_FORMAT;
                self.shared.lint.report(rule, &instruction.comments, span, message);
            }
            let key = self.expand(instruction, &pair.key)?;
            let value = self.expand(instruction, &pair.value)?;
            expanded.push((key, value, pair.key.span));
        }
        Ok(expanded)
    }

    pub(super) fn arg(
        &mut self,
        instruction: &Instruction,
        definitions: &[ArgDefinition],
    ) -> Result<(), Diagnostic> {
        let mut texts = Vec::with_capacity(definitions.len());
        for definition in definitions {
            let name = definition.name.text.clone();
            self.check_secret(instruction, "ARG", &name, definition.name.span);
            let given = self.build.args.get(&name).cloned();
            let value = match (given, &definition.value) {
                (Some(given), _) => Some(given),
                (None, Some(default)) => {
                    let lexer = Lexer::new(self.graph.escape());
                    let expansion = globals::expand(lexer, default, &self.env)?;
                    self.check_variables(instruction, default, &expansion);
                    Some(expansion.text)
                }
                (None, None) => self.graph.globals.get(&name).map(str::to_owned),
            };
            self.note_arg(instruction, definition, value.as_ref());
            if let Some(value) = value.as_ref().filter(|_| !is_sbom_arg(&name)) {
                self.env.set_arg(&name, value);
            }
            texts.push(value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}={value}")));
            self.args.push((name, value));
        }
        self.record(format!("ARG {}", texts.join(" ")), false);
        Ok(())
    }

    /// For the outline: an ARG that only names one of the global scope is that one.
    fn note_arg(&mut self, instruction: &Instruction, definition: &ArgDefinition, value: Option<&String>) {
        let name = &definition.name.text;
        let given = self.build.args.contains_key(name) || definition.value.is_some();
        let parameters = &mut self.shared.parameters;
        if !given && self.graph.globals.get(name).is_some() {
            parameters.asked.insert(name.clone());
        } else {
            parameters.stage_args.push(OutlineArg::of(instruction, definition, value.cloned()));
        }
    }

    /// Names that promise a secret, in the sense of Docker's check.
    fn check_secret(&mut self, instruction: &Instruction, keyword: &str, name: &str, span: Span) {
        const SECRET: [&str; 10] = [
            "apikey",
            "auth",
            "credential",
            "credentials",
            "key",
            "password",
            "pword",
            "passwd",
            "secret",
            "token",
        ];
        const HARMLESS: [&str; 3] = ["public", "file", "version"];
        let lower = name.to_lowercase();
        let holds = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
        if holds(&SECRET) && !holds(&HARMLESS) {
            let message =
                format!("{keyword} `{name}` seems to be a secret, and stays in the image or its history");
            self.shared.lint.report(&rules::SECRETS_USED_IN_ARG_OR_ENV, &instruction.comments, span, message);
        }
    }

    /// The program and arguments of a command in either form.
    pub(super) fn with_shell(&self, command: &CommandLine) -> Vec<String> {
        match command {
            CommandLine::Exec(words) => words.iter().map(|word| word.text.clone()).collect(),
            CommandLine::Shell(word) => self.shell_words(word.as_ref().map_or("", |word| &word.text)),
        }
    }

    /// A text for the shell.
    pub(super) fn shell_words(&self, text: &str) -> Vec<String> {
        let shell = self.config.shell.as_ref().filter(|shell| !shell.is_empty()).cloned();
        let mut words = shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
        words.push(text.to_owned());
        words
    }

    fn check_form(&mut self, instruction: &Instruction, command: &CommandLine) {
        if matches!(command, CommandLine::Shell(_)) && self.config.shell.as_ref().is_none_or(Vec::is_empty) {
            let keyword = instruction.keyword.text.to_ascii_uppercase();
            let message = format!("{keyword} is in the shell form");
            let span = match command {
                CommandLine::Shell(Some(word)) => word.span,
                _ => instruction.keyword.span,
            };
            self.shared.lint.report(&rules::JSON_ARGS_RECOMMENDED, &instruction.comments, span, message);
        }
    }

    pub(super) fn cmd(&mut self, instruction: &Instruction, command: &CommandLine) -> Result<(), Diagnostic> {
        self.check_form(instruction, command);
        let words = self.with_shell(command);
        self.record(format!("CMD {}", gotext::quoted_list(&words)), false);
        self.config.cmd = Some(words).filter(|words| !words.is_empty());
        // Deprecated, but BuildKit writes it, and comparisons of configs expect it.
        self.config.other.insert("ArgsEscaped".to_owned(), true.into());
        Ok(())
    }

    pub(super) fn entrypoint(
        &mut self,
        instruction: &Instruction,
        command: &CommandLine,
        has_cmd: bool,
    ) -> Result<(), Diagnostic> {
        self.check_form(instruction, command);
        let words = self.with_shell(command);
        self.record(format!("ENTRYPOINT {}", gotext::quoted_list(&words)), false);
        self.config.entrypoint = Some(words).filter(|words| !words.is_empty());
        // The arguments of another program make no sense for this one.
        if !has_cmd {
            self.config.cmd = None;
        }
        Ok(())
    }

    pub(super) fn shell(&mut self, words: &[Word]) -> Result<(), Diagnostic> {
        let words: Vec<String> = words.iter().map(|word| word.text.clone()).collect();
        self.record(format!("SHELL {}", gotext::list(&words)), false);
        self.config.shell = Some(words);
        Ok(())
    }

    pub(super) fn healthcheck(&mut self, check: &Healthcheck) -> Result<(), Diagnostic> {
        let test = match &check.command {
            None => vec!["NONE".to_owned()],
            Some(CommandLine::Exec(words)) => std::iter::once("CMD")
                .chain(words.iter().map(|word| word.text.as_str()))
                .map(str::to_owned)
                .collect(),
            // The raw text, and never SHELL.
            Some(CommandLine::Shell(word)) => {
                vec!["CMD-SHELL".to_owned(), word.as_ref().map_or_else(String::new, |word| word.text.clone())]
            }
        };
        let text = format!(
            "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
            gotext::list(&test),
            gotext::duration(check.interval),
            gotext::duration(check.timeout),
            gotext::duration(check.start_period),
            gotext::duration(check.start_interval),
            check.retries
        );
        let given = |value: i64| (value != 0).then_some(value);
        self.config.healthcheck = Some(dbuild_oci::Healthcheck {
            test,
            interval: given(check.interval),
            timeout: given(check.timeout),
            start_period: given(check.start_period),
            start_interval: given(check.start_interval),
            retries: given(check.retries),
        });
        self.record(text, false);
        Ok(())
    }

    pub(super) fn maintainer(&mut self, author: &Word) -> Result<(), Diagnostic> {
        self.record(format!("MAINTAINER {}", author.text), false);
        self.config.author = Some(author.text.clone());
        Ok(())
    }

    pub(super) fn user(&mut self, instruction: &Instruction, user: &Word) -> Result<(), Diagnostic> {
        let user = self.expand(instruction, user)?;
        self.record(format!("USER {user}"), false);
        self.config.user = user;
        Ok(())
    }

    pub(super) fn volume(&mut self, instruction: &Instruction, volumes: &[Word]) -> Result<(), Diagnostic> {
        let expanded = self.expand_all(instruction, volumes)?;
        for (volume, word) in expanded.iter().zip(volumes) {
            if volume.is_empty() {
                return Err(Diagnostic::error(word.span, "a volume's path is empty").label("after expansion"));
            }
            self.config.volumes.entry(volume.clone()).or_default();
        }
        self.record(format!("VOLUME {}", gotext::list(&expanded)), false);
        Ok(())
    }

    pub(super) fn stop_signal(&mut self, instruction: &Instruction, word: &Word) -> Result<(), Diagnostic> {
        let signal = self.expand(instruction, word)?;
        if !signal::is_valid(&signal) {
            let shown: String = signal.chars().take(60).collect();
            let upper = shown.to_uppercase();
            let near = edit_distance::nearest(upper.strip_prefix("SIG").unwrap_or(&upper), signal::names());
            let help = near.map_or("write a name such as `SIGTERM`, or a number".to_owned(), |near| {
                format!("did you mean `SIG{near}`?")
            });
            return Err(Diagnostic::error(word.span, format!("`{shown}` is not a signal")).help(help));
        }
        self.record(format!("STOPSIGNAL {signal}"), false);
        self.config.stop_signal = signal;
        Ok(())
    }

    pub(super) fn set_workdir(&mut self, instruction: &Instruction, word: &Word) -> Result<(), Diagnostic> {
        let path = self.expand(instruction, word)?;
        let first = self.change_workdir(&path);
        if first && !path.starts_with('/') {
            let message = format!("the relative path `{path}` depends on the base image");
            self.shared.lint.report(&rules::WORKDIR_RELATIVE_PATH, &instruction.comments, word.span, message);
        }
        let made = self.workdir != "/";
        if made {
            let step = WorkdirStep {
                parent: self.last,
                path: paths::clean(&self.workdir),
                user: self.config.user.clone(),
            };
            self.extend(instruction, StepKind::Workdir(step));
        }
        self.record(format!("WORKDIR {}", self.workdir), made);
        Ok(())
    }
}
