//! From ingredients to keys, and from layers to output digests.

use dbuild_digest::{Framed, StepKey, TreeDigest};
use dbuild_plan::{BaseImage, Step, StepKind};

use crate::ingredient::HashingSink;
use crate::strategies::traced::without_parent;
use crate::words::words;
use crate::{
    Ingredient, IngredientKind, IngredientList, Inputs, Sink, Strategy, UnknownInput, depends_on_parent,
};

/// The key of a step under a strategy, and the ingredients that it was made of. One walk feeds
/// both.
///
/// The name and the version of the strategy are hashed first, so strategies never share a key.
pub fn key_of(
    strategy: &dyn Strategy,
    step: &Step,
    inputs: &dyn Inputs,
) -> Result<(StepKey, Vec<Ingredient>), UnknownInput> {
    let mut list = Vec::new();
    let key = hashed(strategy, step, inputs, Some(&mut list))?;
    Ok((key, list))
}

/// The key of [`key_of`] alone: where it is found, nobody asks what it was made of. Who does walks
/// again, with [`Strategy::ingredients`].
pub fn step_key(strategy: &dyn Strategy, step: &Step, inputs: &dyn Inputs) -> Result<StepKey, UnknownInput> {
    hashed(strategy, step, inputs, None)
}

fn hashed(
    strategy: &dyn Strategy,
    step: &Step,
    inputs: &dyn Inputs,
    kept: Option<&mut Vec<Ingredient>>,
) -> Result<StepKey, UnknownInput> {
    let mut sink = HashingSink::new("step-key", 1, kept).head(strategy.name(), strategy.version());
    strategy.ingredients(step, inputs, &mut sink)?;
    Ok(StepKey::from_bytes(sink.finish()))
}

/// The key that a list of ingredients gives under a strategy of this name and version: the one of
/// [`key_of`], for a list that came from elsewhere. A record whose ingredients do not give its key
/// is another step's.
pub fn key_of_ingredients(
    strategy: &str,
    version: u32,
    ingredients: &(impl IngredientList + ?Sized),
) -> StepKey {
    let mut sink = HashingSink::new("step-key", 1, None).head(strategy, version);
    ingredients.walk(&mut sink);
    StepKey::from_bytes(sink.finish())
}

/// What the traces of a RUN are kept under: all that identifies it but its parent.
pub fn trace_key(step: &Step, inputs: &dyn Inputs) -> Result<StepKey, UnknownInput> {
    let mut sink = HashingSink::new("trace-key", 1, None);
    without_parent(step, inputs, &mut sink)?;
    Ok(StepKey::from_bytes(sink.finish()))
}

/// The step's own words without its inputs, as a digest. It scopes "first result wins" and the
/// durations that are expected; it is no cache key. Of an image it is the reference, so that a new
/// digest keeps the pull's history.
pub fn definition(step: &Step) -> StepKey {
    let mut sink = HashingSink::new("step-definition", 1, None);
    words(step, &mut sink);
    if let StepKind::Image(image) = &step.kind {
        sink.add(IngredientKind::Base, "", &image.image.reference);
    }
    StepKey::from_bytes(sink.finish())
}

/// A step's key as those know it who stand on it or take from it. Where its own key leaves out what
/// is below (`COPY --link`), that is added: a step after it sees both. `parent` is the same of its
/// parent; `None`: not known yet.
pub fn standing_key(step: &Step, own: StepKey, parent: Option<StepKey>) -> Option<StepKey> {
    match &step.kind {
        StepKind::Copy(copy) if !depends_on_parent(copy) => {
            let mut framed = Framed::new("standing-key", 1);
            framed.bytes(own.as_bytes()).bytes(parent?.as_bytes());
            Some(StepKey::from_bytes(framed.finish()))
        }
        _ => Some(own),
    }
}

/// What `FROM scratch` contains.
pub fn scratch_output() -> TreeDigest {
    TreeDigest::from_bytes(Framed::new("base-output", 1).u64(0).finish())
}

/// What an image contains: the chain of its layers' diff_ids. Names, tags, registries and
/// compression play no part.
pub fn base_output(image: &BaseImage) -> TreeDigest {
    let mut framed = Framed::new("base-output", 1);
    framed.u64(image.layers.len() as u64);
    for layer in &image.layers {
        framed.bytes(layer.diff_id.as_bytes());
    }
    TreeDigest::from_bytes(framed.finish())
}

/// What a step contains: its parent's output with one more layer. A layer without entries changes
/// nothing, so the output is the parent's.
pub fn output_after(parent: TreeDigest, layer: TreeDigest, layer_is_empty: bool) -> TreeDigest {
    if layer_is_empty {
        return parent;
    }
    let mut framed = Framed::new("chain-output", 1);
    framed.bytes(parent.as_bytes()).bytes(layer.as_bytes());
    TreeDigest::from_bytes(framed.finish())
}
