//! The layers of images by their chain ids, under which a build that starts from an image finds
//! them unpacked.

use dbuild_digest::BlobDigest;
use dbuild_events::{Event, LayerInfo};
use dbuild_plan::{Plan, StepKind};
use dbuild_store::{PackedLayer, Store};

use crate::layers::filesystem::FileSystem;
use crate::steps::image::chains_of;

/// Links the layers that steps made to their chain ids, so that a build that starts from this image
/// need not unpack them.
pub(crate) fn link_chains(store: &Store, files: &FileSystem, chains: &[BlobDigest]) {
    let own = files.own_layers();
    let below = chains.len() - own.len();
    let links: Vec<_> =
        chains.iter().skip(below).zip(own).map(|(chain, layer)| (chain, &layer.snapshot.id)).collect();
    if let Err(error) = store.link_chains(&links) {
        // They will only be unpacked again.
        tracing::warn!("link the layers of an image: {error}");
    }
}

/// The layers of a target as the journal has them.
pub(crate) fn layer_infos(
    files: &FileSystem,
    layers: &[PackedLayer],
    chains: &[BlobDigest],
) -> Vec<LayerInfo> {
    let of_base = layers.len() - files.own_layers().len();
    let steps =
        std::iter::repeat_n(None, of_base).chain(files.own_layers().iter().map(|layer| Some(layer.step.0)));
    let infos = layers.iter().zip(chains).zip(steps).map(|((layer, chain), step)| LayerInfo {
        digest: layer.digest,
        size: layer.size,
        chain: *chain,
        step,
    });
    infos.collect()
}

/// The images that the steps of a plan stand for, as the journal has them.
pub fn pinned_images(plan: &Plan) -> Vec<Event> {
    let images = plan.steps().filter_map(|(id, step)| match &step.kind {
        StepKind::Image(image) => Some((id, &image.image)),
        _ => None,
    });
    let events = images.map(|(id, image)| {
        let layers = image.layers.iter().zip(chains_of(image)).map(|(layer, chain)| LayerInfo {
            digest: layer.digest,
            size: layer.size,
            chain,
            step: None,
        });
        let layers = layers.collect();
        Event::ImagePinned { step: id.0, reference: image.reference.clone(), digest: image.digest, layers }
    });
    events.collect()
}
