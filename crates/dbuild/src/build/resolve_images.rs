//! Finds the images that a Dockerfile names, all that are known at a time side by side, until
//! nothing new is named.

use std::collections::HashMap;

use dbuild_digest::BlobDigest;
use dbuild_events::{Event, EventSink};
use dbuild_exporter::LayoutImage;
use dbuild_frontend::{BuildArgs, Diagnostic, Diagnostics, Dockerfile, ImageRequest, Resolved, needed};
use dbuild_oci::{HistoryEntry, ImageConfig, Platform};
use dbuild_plan::{BaseImage, LayerDescriptor};
use dbuild_registry::{PullPolicy, Registry, RegistryError, ResolvedImage};
use dbuild_store::Store;
use serde::Deserialize;
use tokio::task::JoinSet;

use crate::error::Error;
use crate::session::Session;

/// How the reference of an image in a layout of this machine begins.
pub(crate) const OCI_LAYOUT: &str = "oci-layout://";

/// The images, and the configs that their manifests name (for what a plan does not keep of them).
#[derive(Default)]
pub(crate) struct Images {
    pub(crate) resolved: Resolved,
    pub(crate) configs: HashMap<BlobDigest, Vec<u8>>,
}

/// Finds them all. Notes (an image that could not be checked) go to `events`.
pub(crate) async fn resolve(
    session: &Session,
    dockerfile: &Dockerfile,
    args: &BuildArgs,
    policy: PullPolicy,
    events: &dyn EventSink,
) -> Result<Images, Diagnostics> {
    let mut images = Images::default();
    loop {
        let requests = needed(dockerfile, args, &images.resolved)?;
        if requests.is_empty() {
            return Ok(images);
        }
        let mut finding = JoinSet::new();
        for (order, request) in requests.into_iter().enumerate() {
            let (store, registry) = (session.store.clone(), session.registry.clone());
            finding.spawn(async move {
                let found = find(&store, &registry, &request, policy).await;
                (order, request, found)
            });
        }
        let mut found = finding.join_all().await;
        // Errors are reported in the order of the Dockerfile, not in that of the answers.
        found.sort_by_key(|(order, ..)| *order);
        let mut errors = Vec::new();
        for (_, request, image) in found {
            match image {
                Ok((image, base)) => {
                    if let Some(text) = &image.from_cache {
                        events.emit(Event::Note { text: text.clone() });
                    }
                    images.configs.insert(image.digest, image.config);
                    images.resolved.insert(&request, base);
                }
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(Diagnostics(errors));
        }
    }
}

/// Finds one of them.
pub(crate) async fn find(
    store: &Store,
    registry: &Registry,
    request: &ImageRequest,
    policy: PullPolicy,
) -> Result<(ResolvedImage, BaseImage), Diagnostic> {
    let failed = |error: RegistryError| {
        let diagnostic =
            Diagnostic::error(request.span, error.to_string()).label("this image is not available");
        match &request.near {
            Some(stage) => diagnostic.help(format!("did you mean the stage `{stage}`?")),
            None => diagnostic.maybe_help(error.hint()),
        }
    };
    let asked = &request.platform;
    let found = match request.reference.strip_prefix(OCI_LAYOUT) {
        Some(layout) => {
            let top = take_in(store, layout).await.map_err(|problem| {
                Diagnostic::error(request.span, problem).label("this image is not available")
            })?;
            registry.from_store(&request.reference, asked, top).await
        }
        None => registry.resolve(&request.reference, asked, policy).await,
    };
    let image = found.map_err(failed)?;
    let base = base_image(&image).map_err(|problem| {
        let text = format!("{}: its config cannot be understood: {problem}", image.reference);
        Diagnostic::error(request.span, text).label("this image cannot be used")
    })?;
    Ok((image, base))
}

/// Reads an image of a layout of this machine into the store.
async fn take_in(store: &Store, layout: &str) -> Result<BlobDigest, String> {
    let layout: LayoutImage = layout.parse().map_err(|problem| format!("{OCI_LAYOUT}{layout}: {problem}"))?;
    let store = store.clone();
    let taken = tokio::task::spawn_blocking(move || layout.load(&store)).await;
    taken.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// The members of an image's config that a plan needs. The registry has checked the rest.
#[derive(Deserialize)]
struct ConfigFile {
    #[serde(default)]
    config: Option<ImageConfig>,
    #[serde(default)]
    history: Option<Vec<HistoryEntry>>,
}

/// What a plan knows of an image.
pub(crate) fn base_image(image: &ResolvedImage) -> serde_json::Result<BaseImage> {
    let file: ConfigFile = serde_json::from_slice(&image.config)?;
    let layers = image.layers.iter().zip(&image.diff_ids).map(|(layer, diff_id)| LayerDescriptor {
        digest: layer.digest,
        size: layer.size,
        media_type: layer.media_type.clone(),
        diff_id: *diff_id,
    });
    let Platform { os, architecture, variant } = &image.platform;
    Ok(BaseImage {
        reference: image.reference.clone(),
        digest: image.digest,
        platform: Platform::normalized(os, architecture, variant.as_deref()),
        config: file.config.unwrap_or_default(),
        history: file.history.unwrap_or_default(),
        layers: layers.collect(),
    })
}

/// An image of the store, or of a registry where the store has none.
pub(crate) async fn image_named(session: &Session, name: &str) -> Result<BaseImage, Error> {
    let name = match session.store.image(name) {
        Ok(entry) if !entry.name.is_empty() => entry.name,
        _ => name.to_owned(),
    };
    let found = session.registry.resolve(&name, &Platform::host(), PullPolicy::PreferCached).await;
    let image = found.map_err(|error| {
        let text = format!("the store has no image `{name}`, and {error}");
        Error::failed(text).hint("`dbuild images` lists what the store has")
    })?;
    base_image(&image)
        .map_err(|error| Error::failed(format!("{name}: its config cannot be understood: {error}")))
}
