//! What steps are called: `[build 2/5] RUN make`.

use std::collections::BTreeMap;

use dbuild_events::{Event, StageInfo, StepInfo};

use crate::columns::{columns, fit};

/// The name of a stage that is cut shorter says nothing.
const SHORTEST_NAME: usize = 4;

/// The names of a build's steps. Made from [`Event::BuildStarted`].
#[derive(Debug, Default, Clone)]
pub struct Labels {
    stages: BTreeMap<u32, StageInfo>,
    steps: BTreeMap<u32, StepInfo>,
    /// For each step its place in its stage and how many there are, from 1.
    places: BTreeMap<u32, (usize, usize)>,
}

impl Labels {
    /// Learns the names, where the event is the one that has them.
    pub fn learn(&mut self, event: &Event) {
        let Event::BuildStarted { stages, steps, .. } = event else { return };
        self.stages = stages.iter().map(|stage| (stage.id, stage.clone())).collect();
        self.steps = steps.iter().map(|step| (step.id, step.clone())).collect();
        let mut of_stage: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for step in steps.iter().filter(|step| is_of_stage(step)) {
            of_stage.entry(step.stage).or_default().push(step.id);
        }
        for ids in of_stage.values() {
            self.places.extend(ids.iter().enumerate().map(|(at, id)| (*id, (at + 1, ids.len()))));
        }
    }

    /// The bracket: `[build 2/5]`, or `[context]` for what belongs to no stage alone. With several
    /// platforms the platform stands before the name.
    pub fn bracket(&self, step: u32) -> String {
        self.bracket_within(step, usize::MAX)
    }

    /// The bracket in at most so many columns, as far as that can be done by cutting the name of
    /// the stage.
    fn bracket_within(&self, step: u32, width: usize) -> String {
        let Some(info) = self.steps.get(&step) else { return format!("[step {step}]") };
        let Some((place, count)) = self.places.get(&step) else {
            let word = match info.kind.as_str() {
                "image" => "image",
                "fetch" => "download",
                "git" => "git",
                _ => "context",
            };
            return format!("[{word}]");
        };
        let stage = self.stages.get(&info.stage);
        let platform = stage.and_then(|stage| stage.platform.as_deref());
        let name = stage.map_or("?", |stage| stage.name.as_str());
        let platform = platform.map(|platform| format!("{platform} ")).unwrap_or_default();
        let place = format!("{place}/{count}");
        let room = width.saturating_sub(columns(&platform) + place.len() + 3);
        format!("[{platform}{} {place}]", fit(name, room.max(SHORTEST_NAME)))
    }

    /// Whether a step belongs to one stage alone.
    pub fn is_of_stage(&self, step: u32) -> bool {
        self.places.contains_key(&step)
    }

    /// The instruction, on one line.
    pub fn text(&self, step: u32) -> &str {
        self.steps.get(&step).map_or("", |info| info.text.as_str())
    }

    /// Bracket and instruction.
    pub fn full(&self, step: u32) -> String {
        format!("{} {}", self.bracket(step), self.text(step))
    }

    /// Bracket and instruction in at most so many columns. A long name of a stage leaves half of
    /// them to the instruction.
    pub fn within(&self, step: u32, width: usize) -> String {
        let full = self.full(step);
        if columns(&full) <= width {
            return full;
        }
        let bracket_room = (width / 2).max(width.saturating_sub(columns(self.text(step)) + 1));
        fit(&format!("{} {}", self.bracket_within(step, bracket_room), self.text(step)), width)
    }

    /// The stages, in order.
    pub fn stages(&self) -> impl Iterator<Item = &StageInfo> {
        self.stages.values()
    }

    /// How many steps the build has. `FROM scratch` is nothing that could be seen to happen.
    pub fn step_count(&self) -> usize {
        self.steps.values().filter(|step| step.kind != "scratch").count()
    }

    /// A step, as the build announced it.
    pub fn step(&self, step: u32) -> Option<&StepInfo> {
        self.steps.get(&step)
    }
}

/// Contexts, downloads and images that only a COPY names are shared by stages. The image that a
/// stage begins with counts as its first step.
fn is_of_stage(step: &StepInfo) -> bool {
    match step.kind.as_str() {
        "image" => step.text.starts_with("FROM"),
        "context" | "fetch" | "git" | "scratch" => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::Labels;
    use crate::reader::tests::events;

    #[test]
    fn a_long_name_of_a_stage_leaves_room_for_the_instruction() {
        let mut labels = Labels::default();
        labels.learn(&events()[0].event);
        labels.stages.get_mut(&0).unwrap().name = "a-stage-with-a-long-name".to_owned();
        for (width, text) in [
            (80, "[a-stage-with-a-long-name 2/2] RUN sleep 1"),
            (41, "[a-stage-with-a-long-na… 2/2] RUN sleep 1"),
            (30, "[a-stage-wit… 2/2] RUN sleep 1"),
            (20, "[a-s… 2/2] RUN slee…"),
            (8, "[a-s… 2…"),
        ] {
            assert_eq!(labels.within(1, width), text, "{width}");
        }
        labels.stages.get_mut(&0).unwrap().platform = Some("linux/arm64".to_owned());
        assert_eq!(labels.within(1, 44), "[linux/arm64 a-stage-with-… 2/2] RUN sleep 1");
    }
}
