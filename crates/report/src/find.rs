//! Steps by what people call them.

use crate::{Build, Step};

/// A text that names no step of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchStep {
    /// The text.
    pub wanted: String,
    /// The stages that the build has steps of.
    pub stages: Vec<String>,
}

impl std::fmt::Display for NoSuchStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the build has no step `{}`", self.wanted)
    }
}

impl std::error::Error for NoSuchStep {}

impl Build {
    /// The steps that a text names: `7` or `#7` is a step's number, `:12` the line of its
    /// instruction, `builder` all steps of a stage, `builder 2`, `builder:2` or `builder 2/5` one
    /// step of a stage, and `RUN make` the steps whose instruction begins so, or else has it in it.
    pub fn find(&self, wanted: &str) -> Result<Vec<&Step>, NoSuchStep> {
        let none = match self.named(wanted) {
            Ok(found) => return Ok(found),
            Err(none) => none,
        };
        let text = bare(wanted);
        if text.is_empty() || number(text).is_some() || line(text).is_some() {
            return Err(none);
        }
        let begins = |step: &&Step| step.text.to_ascii_lowercase().starts_with(&text.to_ascii_lowercase());
        let found: Vec<&Step> = self.visible().filter(begins).collect();
        let found = match found.is_empty() {
            true => self.visible().filter(|step| step.text.contains(text)).collect(),
            false => found,
        };
        if found.is_empty() { Err(none) } else { Ok(found) }
    }

    /// As [`Build::find`], by number, line, stage and place alone: what an instruction says does
    /// not count.
    pub fn named(&self, wanted: &str) -> Result<Vec<&Step>, NoSuchStep> {
        let text = bare(wanted);
        let found: Vec<&Step> = if let Some(id) = number(text) {
            self.visible().filter(|step| step.id == id).collect()
        } else if let Some(line) = line(text) {
            self.at_line(line)
        } else {
            self.placed(text)
        };
        if found.is_empty() { Err(self.none(wanted)) } else { Ok(found) }
    }

    fn at_line(&self, line: u32) -> Vec<&Step> {
        let at = |step: &&Step| step.lines.is_some_and(|(first, last)| (first..=last).contains(&line));
        let mut found: Vec<&Step> = self.visible().filter(at).collect();
        // A context bears the line that names it first, whose instruction is meant.
        if found.iter().any(|step| step.stage.is_some()) {
            found.retain(|step| step.stage.is_some());
        }
        found
    }

    /// By stage, or by stage and place in it.
    fn placed(&self, text: &str) -> Vec<&Step> {
        let text = &match text.rsplit_once(':') {
            Some((stage, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                format!("{stage} {number}")
            }
            _ => text.to_owned(),
        };
        let bracket = format!("[{text}]");
        let of_stage = |step: &&Step| {
            let stage = step.stage.and_then(|id| self.stages.iter().find(|stage| stage.id == id));
            stage.is_some_and(|stage| stage.name.eq_ignore_ascii_case(text))
        };
        let rules: [&dyn Fn(&&Step) -> bool; 3] =
            [&of_stage, &|step| step.label.eq_ignore_ascii_case(&bracket), &|step| {
                let place = step.label.split('/').next();
                place.is_some_and(|place| place.trim_start_matches('[').eq_ignore_ascii_case(text))
            }];
        let found = rules.iter().map(|rule| self.visible().filter(rule).collect::<Vec<_>>());
        found.into_iter().find(|found| !found.is_empty() && !text.is_empty()).unwrap_or_default()
    }

    fn none(&self, wanted: &str) -> NoSuchStep {
        let reached = self.stages.iter().filter(|stage| stage.reached);
        NoSuchStep { wanted: wanted.to_owned(), stages: reached.map(|stage| stage.name.clone()).collect() }
    }
}

/// A name without the brackets and the space that it was copied with.
fn bare(wanted: &str) -> &str {
    wanted.trim().trim_start_matches('[').trim_end_matches(']').trim()
}

fn number(text: &str) -> Option<u32> {
    text.trim_start_matches('#').parse().ok()
}

fn line(text: &str) -> Option<u32> {
    text.strip_prefix(':').and_then(|line| line.parse().ok())
}

#[cfg(test)]
mod tests {
    use crate::Build;
    use crate::reader::tests::events;

    #[test]
    fn steps_have_several_names() {
        let build = Build::of(&events());
        let find = |text: &str| build.find(text).map(|steps| steps.iter().map(|s| s.id).collect::<Vec<_>>());
        assert_eq!(find("5"), Ok(vec![5]));
        assert_eq!(find("#0"), Ok(vec![0]));
        assert_eq!(find("LEFT"), Ok(vec![0, 1]));
        assert_eq!(find("left 2"), Ok(vec![1]));
        assert_eq!(find("[left 2/2]"), Ok(vec![1]));
        assert_eq!(find("copy --from=right"), Ok(vec![5]));
        assert_eq!(find("left:2"), Ok(vec![1]));
        assert_eq!(find("from=right"), Ok(vec![5]));
        assert!(find(":99").is_err());
        let named =
            |text: &str| build.named(text).map(|steps| steps.iter().map(|s| s.id).collect::<Vec<_>>());
        assert_eq!((named("left:2"), named("LEFT"), named("#5")), (Ok(vec![1]), Ok(vec![0, 1]), Ok(vec![5])));
        assert!(named("from=right").is_err() && named("copy --from=right").is_err());
        let error = find("no").unwrap_err();
        assert_eq!(error.to_string(), "the build has no step `no`");
        assert_eq!(error.stages, ["left", "right", "app"]);
        assert!(find("").is_err() && find("99").is_err() && find("unneeded").is_err());
        assert!(find("3").is_err(), "scratch is nothing to see");
    }
}
