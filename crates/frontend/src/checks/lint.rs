//! Which rules apply, and what they find.

use std::collections::BTreeSet;

use super::rules::Rule;
use crate::ast::Dockerfile;
use crate::diagnostics::{Diagnostic, Severity};
use crate::lines::{Comment, directive_of};
use crate::request::BuildArgs;
use crate::source::{Span, Word};

/// The build argument that replaces the directive.
const CONFIG_ARG: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// Which rules are applied: the value of `# check=skip=A,B;error=true;experimental=C`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CheckConfig {
    skip_all: bool,
    skip: BTreeSet<String>,
    experimental_all: bool,
    experimental: BTreeSet<String>,
    error: bool,
}

impl CheckConfig {
    /// Reads the value of the directive.
    fn parse(value: &Word) -> Result<Self, Diagnostic> {
        const FORM: &str = "write `# check=skip=RuleOne,RuleTwo;error=true`";
        let mut config = Self::default();
        for option in value.text.split(';').filter(|option| !option.trim().is_empty()) {
            let shown: String = option.chars().take(60).collect();
            let Some((key, text)) = option.split_once('=') else {
                return Err(
                    Diagnostic::error(value.span, format!("`{shown}` is not an option of checks")).help(FORM)
                );
            };
            let (key, text) = (key.trim(), text.trim());
            let names = || text.split(',').map(|name| name.trim().to_owned()).collect();
            match (key, text) {
                ("skip", "all") => config.skip_all = true,
                ("skip", _) => config.skip = names(),
                ("experimental", "all") => config.experimental_all = true,
                ("experimental", _) => config.experimental = names(),
                ("error", "true" | "1" | "t" | "T" | "True" | "TRUE") => config.error = true,
                ("error", "false" | "0" | "f" | "F" | "False" | "FALSE") => config.error = false,
                _ => {
                    let error =
                        Diagnostic::error(value.span, format!("`{shown}` is not an option of checks"));
                    return Err(error.help(FORM));
                }
            }
        }
        Ok(config)
    }

    fn applies(&self, rule: &Rule) -> bool {
        if rule.experimental {
            self.experimental_all || self.experimental.contains(rule.name)
        } else {
            !self.skip_all && !self.skip.contains(rule.name)
        }
    }
}

/// Collects what the checks find.
#[derive(Debug, Default)]
pub(crate) struct Lint {
    config: CheckConfig,
    found: Vec<Diagnostic>,
}

impl Lint {
    /// With the configuration of a file, or the one that the build's arguments put in its place.
    pub(crate) fn of(ast: &Dockerfile, args: &BuildArgs) -> Result<Self, Diagnostic> {
        let config = match (args.args.get(CONFIG_ARG), ast.directive("check")) {
            (Some(given), _) => CheckConfig::parse(&Word::new(given, Span::default())).map_err(|error| {
                Diagnostic { labels: Vec::new(), ..error }.note(format!("`{CONFIG_ARG}` is a build argument"))
            })?,
            (None, Some(directive)) => CheckConfig::parse(&directive.value)?,
            (None, None) => CheckConfig::default(),
        };
        Ok(Self { config, found: Vec::new() })
    }

    /// Reports a finding, unless the rule is skipped for the file or by a comment above the
    /// instruction.
    pub(crate) fn report(&mut self, rule: &'static Rule, comments: &[Comment], span: Span, message: String) {
        self.add(rule, comments, Diagnostic::check(rule.name, span, message));
    }

    /// The same with a diagnostic that is already made.
    pub(crate) fn add(&mut self, rule: &'static Rule, comments: &[Comment], finding: Diagnostic) {
        if !self.config.applies(rule) || Self::is_skipped_above(rule, comments) {
            return;
        }
        let finding = if finding.help.is_some() { finding } else { finding.help(rule.help) };
        // A stage that is lowered for two platforms says everything twice.
        if !self.found.contains(&finding) {
            self.found.push(finding);
        }
    }

    fn is_skipped_above(rule: &Rule, comments: &[Comment]) -> bool {
        let value = comments.iter().find_map(|comment| match directive_of(&comment.text, "") {
            Some((name, value, _)) if name == "check" => value.split(' ').next(),
            _ => None,
        });
        let config = value.and_then(|value| CheckConfig::parse(&Word::new(value, Span::default())).ok());
        config
            .is_some_and(|config| !rule.experimental && (config.skip_all || config.skip.contains(rule.name)))
    }

    /// What was found, in the order of the file. With `error=true` findings are errors.
    pub(crate) fn finish(self) -> Vec<Diagnostic> {
        let mut found = self.found;
        found.sort_by_key(|finding| finding.labels.first().map(|label| label.span));
        if self.config.error {
            for finding in &mut found {
                finding.severity = Severity::Error;
            }
        }
        found
    }
}
