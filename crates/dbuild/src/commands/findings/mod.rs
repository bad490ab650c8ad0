//! What the checks found, written for people, for scripts and for editors.

pub(super) mod json;
mod sarif;

use std::io::IsTerminal as _;

use dbuild_frontend::{Diagnostic, Findings, Rule, Source, render};

use crate::cli::FindingsFormat;
use crate::error::Error;
use crate::progress;

pub(super) use sarif::{sarif_log, uri};

/// Writes the findings to standard output. Warnings that belong to no rule are remarks: they go to
/// standard error, and do not count.
pub(crate) fn write(findings: &Findings, source: &Source, format: FindingsFormat) -> Result<(), Error> {
    for remark in findings.warnings.iter().filter(|warning| warning.rule.is_none()) {
        progress::say(&render(remark, source, progress::color()));
    }
    match format {
        FindingsFormat::Text => super::print(&text(findings, source, color())),
        FindingsFormat::Json => super::print_json(&json::report(findings, source)),
        FindingsFormat::Sarif => super::print_json(&sarif::log(findings, source)),
    }
}

/// How many warnings count.
pub(crate) fn count(findings: &Findings) -> usize {
    of_rules(findings).count()
}

fn of_rules(findings: &Findings) -> impl Iterator<Item = (&'static Rule, &Diagnostic)> {
    let rule = |finding: &Diagnostic| finding.rule.and_then(Rule::named);
    findings.warnings.iter().filter_map(move |finding| Some((rule(finding)?, finding)))
}

fn text(findings: &Findings, source: &Source, color: bool) -> String {
    let mut out = String::new();
    for finding in of_rules(findings).map(|(_, finding)| finding).chain(&findings.errors) {
        out.push_str(&render(finding, source, color));
        out.push_str("\n\n");
    }
    let counted = |number: usize, what: &str| match number {
        0 => None,
        1 => Some(format!("1 {what}")),
        many => Some(format!("{many} {what}s")),
    };
    let parts = [counted(findings.errors.len(), "error"), counted(count(findings), "warning")];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let sum = if parts.is_empty() { "no warnings".to_owned() } else { parts.join(", ") };
    out.push_str(&format!("checked {}: {sum}", source.name));
    out
}

/// Whether colour may be used on standard output.
fn color() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
