//! SARIF 2.1.0: what editors and code hosts read.

use dbuild_frontend::{Diagnostic, Findings, Label, RULES, Severity, Source};
use serde_json::{Value, json};

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
/// The rule of what keeps a file from being built: every result has one.
const ERROR: &str = "DockerfileError";

/// The whole log: one run, one file.
pub(super) fn log(findings: &Findings, source: &Source) -> Value {
    let warnings = super::of_rules(findings).map(|(rule, finding)| result(rule.name, finding, source));
    let errors = findings.errors.iter().map(|error| result(ERROR, error, source));
    sarif_log(&rules(), warnings.chain(errors).collect())
}

/// The frame of a log.
pub(crate) fn sarif_log(rules: &[Value], results: Vec<Value>) -> Value {
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "dbuild",
                "version": env!("CARGO_PKG_VERSION"),
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn rules() -> Vec<Value> {
    let own = json!({
        "id": ERROR,
        "shortDescription": { "text": "the file cannot be built" },
        "defaultConfiguration": { "level": "error" },
    });
    let docker = RULES.iter().map(|rule| {
        let mut descriptor = json!({
            "id": rule.name,
            "shortDescription": { "text": rule.description },
            "help": { "text": rule.help },
            "defaultConfiguration": { "level": "warning", "enabled": !rule.experimental },
        });
        if let Some(url) = rule.url() {
            descriptor["helpUri"] = url.into();
        }
        descriptor
    });
    docker.chain([own]).collect()
}

fn result(rule: &str, finding: &Diagnostic, source: &Source) -> Value {
    let index = RULES.iter().position(|known| known.name == rule).unwrap_or(RULES.len());
    let level = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let places = |primary: bool| finding.labels.iter().filter(move |label| label.primary == primary);
    let mut text = finding.message.clone();
    for more in finding.notes.iter().chain(&finding.help) {
        text.push_str(&format!("\n{more}"));
    }
    json!({
        "ruleId": rule,
        "ruleIndex": index,
        "level": level,
        "message": { "text": text },
        "locations": places(true).map(|label| location(label, source)).collect::<Vec<_>>(),
        "relatedLocations": places(false).map(|label| location(label, source)).collect::<Vec<_>>(),
    })
}

fn location(label: &Label, source: &Source) -> Value {
    let (start_line, start) = source.position_of(label.span.start);
    let (end_line, end) = source.position_of(label.span.end);
    let mut place = json!({ "physicalLocation": {
        "artifactLocation": { "uri": uri(&source.name) },
        // Columns count from 1, and the end is the first one that does not belong to it.
        "region": { "startLine": start_line, "startColumn": start + 1, "endLine": end_line, "endColumn": end + 1 },
    }});
    if !label.text.is_empty() {
        place["message"] = json!({ "text": label.text });
    }
    place
}

/// A path as a relative reference, or as `file:` where it is absolute.
pub(crate) fn uri(path: &str) -> String {
    let mut out = if path.starts_with('/') { "file://".to_owned() } else { String::new() };
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte))
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::uri;

    #[test]
    fn paths_become_references() {
        assert_eq!(uri("app/Dockerfile"), "app/Dockerfile");
        assert_eq!(uri("a b#c/ü"), "a%20b%23c/%C3%BC");
        assert_eq!(uri("/x/Dockerfile"), "file:///x/Dockerfile");
    }
}
