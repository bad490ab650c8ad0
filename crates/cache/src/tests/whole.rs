//! `whole`: sources by all that they contain.

use dbuild_plan::{Step, StepKind};

use super::{add_output, add_selected, needs_parent, sources};
use crate::words::words;
use crate::{IngredientKind, Inputs, Sink, Strategy, UnknownInput};

/// A step is its own words, its parent by its output, and every stage that it takes from as a
/// whole.
#[derive(Debug)]
pub(crate) struct WholeStrategy;

impl Strategy for WholeStrategy {
    fn name(&self) -> &'static str {
        "whole"
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
            add_output(IngredientKind::Parent, "", parent, inputs, sink)?;
        }
        for source in sources(step) {
            if inputs.is_external(source.from) {
                add_selected(&source, inputs, sink)?;
            } else {
                add_output(IngredientKind::Input, "stage", source.from, inputs, sink)?;
            }
        }
        Ok(())
    }
}
