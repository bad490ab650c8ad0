//! `output`: inputs by what they contain. The default.

use dbuild_plan::{Step, StepKind};

use super::{add_output, add_selected, needs_parent, sources};
use crate::words::words;
use crate::{IngredientKind, Inputs, Sink, Strategy, UnknownInput, base_output};

/// A step is its own words and the content of every input: the parent by its output, sources by
/// what is selected.
///
/// In *Build Systems à la Carte*: shallow constructive traces. The cut-off is early everywhere: a
/// step that ran again and gave the tree that it gave before rebuilds nothing after it, and two
/// stages that arrive at the same tree share what follows. An image counts by its layers' diff_ids,
/// so its name, its tag, its config and its compression do not matter (what of the config matters
/// to a step is in the step's own words).
#[derive(Debug)]
pub(crate) struct OutputStrategy;

impl Strategy for OutputStrategy {
    fn name(&self) -> &'static str {
        "output"
    }

    fn version(&self) -> u32 {
        1
    }

    fn ingredients(&self, step: &Step, inputs: &dyn Inputs, sink: &mut dyn Sink) -> Result<(), UnknownInput> {
        words(step, sink);
        if let StepKind::Image(image) = &step.kind {
            sink.add(IngredientKind::Base, "", &base_output(&image.image).to_string());
        }
        if let Some(parent) = needs_parent(step) {
            add_output(IngredientKind::Parent, "", parent, inputs, sink)?;
        }
        for source in sources(step) {
            // The output of a context holds what other steps want, too: never as a whole.
            if source.whole && !inputs.is_external(source.from) {
                add_output(IngredientKind::Input, "stage", source.from, inputs, sink)?;
            } else {
                add_selected(&source, inputs, sink)?;
            }
        }
        Ok(())
    }
}
