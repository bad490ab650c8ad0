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
    /// The steps that a text names: `7` or `#7` is a step's number, `:12` the line of its instruction, `builder` all steps of a
    /// stage, `builder 2`, `builder:2` or `builder 2/5` one step of a stage, and `RUN make` the steps whose instruction begins
    /// so, or else has it in it.
    pub fn find(&self, wanted: &str) -> Result<Vec<&Step>, NoSuchStep> {
        let text = wanted.trim().trim_start_matches('[').trim_end_matches(']').trim();
        if let Ok(id) = text.trim_start_matches('#').parse::<u32>() {
            return self
                .visible()
                .find(|step| step.id == id)
                .map(|step| vec![step])
                .ok_or_else(|| self.none(wanted));
        }
        if let Some(line) = text.strip_prefix(':').and_then(|line| line.parse::<u32>().ok()) {
            let at = |step: &&Step| step.lines.is_some_and(|(first, last)| (first..=last).contains(&line));
            let mut found: Vec<&Step> = self.visible().filter(at).collect();
            // A context bears the line that names it first, whose instruction is meant.
            if found.iter().any(|step| step.stage.is_some()) {
                found.retain(|step| step.stage.is_some());
            }
            return if found.is_empty() { Err(self.none(wanted)) } else { Ok(found) };
        }
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
        let rules: [&dyn Fn(&&Step) -> bool; 5] = [
            &of_stage,
            &|step| step.label.eq_ignore_ascii_case(&bracket),
            &|step| {
                step.label
                    .split('/')
                    .next()
                    .is_some_and(|l| l.trim_start_matches('[').eq_ignore_ascii_case(text))
            },
            &|step| step.text.to_ascii_lowercase().starts_with(&text.to_ascii_lowercase()),
            &|step| step.text.contains(text.as_str()),
        ];
        rules
            .iter()
            .map(|rule| self.visible().filter(rule).collect::<Vec<_>>())
            .find(|found| !found.is_empty() && !text.is_empty())
            .ok_or_else(|| self.none(wanted))
    }

    fn none(&self, wanted: &str) -> NoSuchStep {
        let reached = self.stages.iter().filter(|stage| stage.reached);
        NoSuchStep { wanted: wanted.to_owned(), stages: reached.map(|stage| stage.name.clone()).collect() }
    }
}

#[cfg(test)]
mod tests {
    use crate::Build;
    use crate::model::tests::events;

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
        let error = find("no").unwrap_err();
        assert_eq!(error.to_string(), "the build has no step `no`");
        assert_eq!(error.stages, ["left", "right", "app"]);
        assert!(find("").is_err() && find("99").is_err() && find("unneeded").is_err());
        assert!(find("3").is_err(), "scratch is nothing to see");
    }
}
