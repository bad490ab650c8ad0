//! `content`: BuildKit's cache.

use dbuild_plan::{Step, StepKind};

use super::{add_key, add_output, add_selected, needs_parent, sources};
use crate::words::words;
use crate::{IngredientKind, Inputs, Sink, Strategy, UnknownInput};

/// A step is its parent's key and its own words; whatever it takes from elsewhere (a context or
/// another stage) counts by the content that is selected.
///
/// In *Build Systems à la Carte*: deep constructive traces along parents, shallow ones across
/// `COPY --from` and bind mounts. The cut-off is early at those: a stage that ran again and gave
/// the same file rebuilds nobody who takes only that file.
#[derive(Debug)]
pub(crate) struct ContentStrategy;

impl Strategy for ContentStrategy {
    fn name(&self) -> &'static str {
        "content"
    }

    fn version(&self) -> u32 {
        1
    }

    fn ingredients(&self, step: &Step, inputs: &dyn Inputs, sink: &mut dyn Sink) -> Result<(), UnknownInput> {
        words(step, sink);
        if let StepKind::Image(image) = &step.kind {
            sink.add(IngredientKind::Base, "", &image.image.digest.to_string());
        }
        if let Some(parent) = needs_parent(step) {
            add_key(IngredientKind::Parent, "", parent, inputs, sink)?;
        }
        for source in sources(step) {
            if source.whole && !inputs.is_external(source.from) {
                add_output(IngredientKind::Input, "stage", source.from, inputs, sink)?;
            } else {
                add_selected(&source, inputs, sink)?;
            }
        }
        Ok(())
    }
}
