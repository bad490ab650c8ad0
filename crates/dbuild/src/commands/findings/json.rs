//! The shape of `docker buildx build --call=check,format=json`. Lines count from 1, characters from
//! 0; the end of a range is the first character that does not belong to it. (Docker names lines
//! alone.)

use std::borrow::Cow;
use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dbuild_frontend::{Diagnostic, Findings, Rule, Severity, Source, Span};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report<'a> {
    warnings: Vec<Warning<'a>>,
    sources: [SourceText<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    build_error: Option<BuildError<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Warning<'a> {
    rule_name: &'static str,
    description: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    detail: &'a str,
    location: Location,
}

#[derive(Serialize)]
struct BuildError<'a> {
    message: Cow<'a, str>,
    location: Location,
}

/// Places in the one source; Docker leaves its number, 0, out.
#[derive(Serialize)]
pub(in crate::commands) struct Location {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ranges: Vec<Range>,
}

#[derive(Serialize)]
struct Range {
    start: Position,
    end: Position,
}

#[derive(Serialize)]
struct Position {
    line: u32,
    #[serde(skip_serializing_if = "is_zero")]
    character: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[derive(Serialize)]
struct SourceText<'a> {
    filename: &'a str,
    data: String,
    language: &'static str,
}

/// The whole answer.
pub(super) fn report<'a>(findings: &'a Findings, source: &'a Source) -> Report<'a> {
    let warnings = super::of_rules(findings).filter_map(|(rule, finding)| warning(rule, finding, source));
    Report {
        warnings: warnings.collect(),
        sources: [SourceText { filename: &source.name, data: base64(source), language: "Dockerfile" }],
        build_error: build_error(findings, source),
    }
}

/// What keeps the file from being built: an error, or findings that `error=true` makes one.
fn build_error<'a>(findings: &'a Findings, source: &Source) -> Option<BuildError<'a>> {
    if let Some(error) = findings.errors.first() {
        let location = place(error).map_or(Location { ranges: Vec::new() }, |span| location(span, source));
        return Some(BuildError { message: Cow::Borrowed(&error.message), location });
    }
    let is_error = |finding: &Diagnostic| finding.severity == Severity::Error;
    let found = super::of_rules(findings).filter(|(_, finding)| is_error(finding));
    let rules: BTreeSet<&str> = found.map(|(rule, _)| rule.name).collect();
    let rules: Vec<&str> = rules.into_iter().collect();
    // In BuildKit's words: scripts look at them.
    let message = format!("lint violation found for rules: {}", rules.join(", "));
    (!rules.is_empty())
        .then(|| BuildError { message: Cow::Owned(message), location: Location { ranges: Vec::new() } })
}

fn warning<'a>(rule: &'static Rule, finding: &'a Diagnostic, source: &Source) -> Option<Warning<'a>> {
    Some(Warning {
        rule_name: rule.name,
        description: rule.description,
        url: rule.url(),
        detail: &finding.message,
        location: location(place(finding)?, source),
    })
}

fn place(finding: &Diagnostic) -> Option<Span> {
    finding.labels.first().map(|label| label.span)
}

/// A span as lines and characters.
pub(in crate::commands) fn location(span: Span, source: &Source) -> Location {
    let position = |offset| {
        let (line, character) = source.position_of(offset);
        Position { line, character }
    };
    Location { ranges: vec![Range { start: position(span.start), end: position(span.end) }] }
}

/// The text of a source, as JSON holds bytes.
pub(in crate::commands) fn base64(source: &Source) -> String {
    STANDARD.encode(&source.text)
}
