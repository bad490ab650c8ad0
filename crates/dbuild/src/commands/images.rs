//! The images of the store: tag, remove, inspect, save, load, pull, push.

use std::collections::BTreeMap;
use std::path::Path;

use dbuild_exporter::{Destination, Image, save as write_archive};
use dbuild_oci::{Platform, Reference};
use dbuild_registry::PullPolicy;
use dbuild_scheduler::BlobSource as _;
use dbuild_store::ImageEntry;

use super::docker_view::docker_view;
use super::image_names::familiar;
use super::{print, print_json};
use crate::cli::{Global, InspectArgs, LoadArgs, SaveArgs};
use crate::error::Error;
use crate::go_template::Template;
use crate::pipes;
use crate::session::Session;

/// `dbuild tag`.
pub(crate) fn tag(global: &Global, image: &str, name: &str) -> Result<(), Error> {
    let session = Session::open(global)?;
    let entry = session.store.image(image).map_err(Error::failed)?;
    let name: Reference = name.parse().map_err(Error::usage)?;
    session.store.tag(&name.to_string(), &entry.descriptor).map_err(Error::failed)
}

/// `dbuild rm`.
pub(crate) fn remove(global: &Global, images: &[String]) -> Result<(), Error> {
    let session = Session::open_to_collect(global)?;
    for image in images {
        for name in session.store.remove_image(image).map_err(Error::failed)? {
            print(&format!("removed {}", familiar(&name)))?;
        }
    }
    Ok(())
}

/// `dbuild inspect`.
pub(crate) fn inspect(global: &Global, args: &InspectArgs) -> Result<(), Error> {
    if let Some(kind) = args.kind.as_deref().filter(|kind| *kind != "image") {
        return Err(Error::usage(format!("`--type {kind}`: only images are inspected")));
    }
    let template = args.format.as_deref().map(Template::parse).transpose()?;
    let session = Session::open(global)?;
    let mut inspected = Vec::with_capacity(args.images.len());
    for name in &args.images {
        let entry = session.store.image(name).map_err(Error::failed)?;
        let image = image_of(&entry)?;
        let found = dbuild_exporter::inspect(&session.store, &image).map_err(Error::of_export)?;
        inspected.push((entry.name, found));
    }
    if let Some(template) = template {
        let views: Vec<_> = inspected.iter().map(|(name, found)| docker_view(name, found)).collect();
        return template.lines(&views)?.iter().try_for_each(|line| print(line));
    }
    let found: Vec<_> = inspected.into_iter().map(|(_, found)| found).collect();
    match found.as_slice() {
        [one] => print_json(one),
        several => print_json(&several),
    }
}

/// `dbuild save`.
pub(crate) fn save(global: &Global, args: &SaveArgs) -> Result<(), Error> {
    let docker = match args.format.as_str() {
        "docker" | "docker-archive" => true,
        "oci" | "oci-archive" => false,
        other => return Err(Error::usage(format!("`--format {other}`: expected oci or docker"))),
    };
    let dest = match &args.output {
        None => Destination::Stdout,
        Some(path) if path == Path::new("-") => Destination::Stdout,
        Some(path) => Destination::Path(path.clone()),
    };
    if dest == Destination::Stdout && std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        return Err(Error::usage("an archive is not written to a terminal").hint("name a file with -o FILE"));
    }
    let session = Session::open(global)?;
    let entry = session.store.image(&args.image).map_err(Error::failed)?;
    let names: Vec<Reference> = entry.name.parse().into_iter().collect();
    write_archive(&session.store, &image_of(&entry)?, &names, &dest, docker, &pipes::waiting())
        .map_err(Error::of_export)?;
    Ok(())
}

/// `dbuild load`.
pub(crate) fn load(global: &Global, args: &LoadArgs) -> Result<(), Error> {
    let session = Session::open(global)?;
    let _lease = session.store.lease().map_err(Error::failed)?;
    let input = args.input.clone().unwrap_or_else(|| "-".into());
    let loaded =
        dbuild_exporter::load(&session.store, &input, &pipes::waiting()).map_err(Error::of_export)?;
    for one in &loaded {
        let mut names = one.names.clone();
        if let (Some(tag), true) = (&args.tag, names.is_empty() && loaded.len() == 1) {
            let name: Reference = tag.parse().map_err(Error::usage)?;
            tag_image(&session.store, &name.to_string(), &one.image)?;
            names.push(name);
        }
        match names.is_empty() {
            true => print(&format!(
                "loaded {} (it has no name and will be collected; give it one with -t)",
                one.image.digest
            ))?,
            false => {
                let names: Vec<String> = names.iter().map(|name| familiar(&name.to_string())).collect();
                print(&format!("loaded {}", names.join(", ")))?;
            }
        }
    }
    Ok(())
}

/// `dbuild pull`.
pub(crate) fn pull(global: &Global, reference: &str, platform: Option<&str>) -> Result<(), Error> {
    let platform: Platform = platform.map_or(Ok(Platform::host()), str::parse).map_err(Error::usage)?;
    let session = Session::open(global)?;
    let _lease = session.store.lease().map_err(Error::failed)?;
    let (registry, store) = (&session.registry, &session.store);
    session.runtime.block_on(async {
        let image = registry
            .resolve(reference, &platform, PullPolicy::Always)
            .await
            .map_err(|error| Error::of(&error))?;
        let fetches = image.layers.iter().map(|layer| async {
            registry
                .fetch(&image.reference, &layer.digest, layer.size, &layer.media_type, None, &|_| {})
                .await
        });
        for fetched in futures_util::future::join_all(fetches).await {
            fetched.map_err(Error::failed)?;
        }
        let bytes =
            store.has_blob(&image.digest).ok_or_else(|| Error::failed("the manifest is not in the store"))?;
        let pulled = Image {
            digest: image.digest,
            size: bytes,
            media_type: manifest_type(store, &image.digest)?,
            platform: Some(platform.clone()),
            config: Some(image.config_descriptor.digest),
            annotations: BTreeMap::new(),
        };
        tag_image(store, &image.reference, &pulled)?;
        print(&format!("pulled {}@{}", familiar(&image.reference), image.digest))
    })
}

/// `dbuild push`.
pub(crate) fn push(global: &Global, name: &str) -> Result<(), Error> {
    let session = Session::open(global)?;
    let entry = session.store.image(name).map_err(Error::failed)?;
    let reference: Reference = entry.name.parse().map_err(Error::failed)?;
    let image = image_of(&entry)?;
    let names = [reference];
    let pushed = session.runtime.block_on(dbuild_exporter::push(
        &session.registry,
        &image,
        &names,
        false,
        &[],
        &|_, _| {},
    ));
    pushed.map_err(Error::of_export)?;
    print(&format!("pushed {}@{}", names[0], image.digest))
}

/// The exporter's view of an image of the store.
pub(crate) fn image_of(entry: &ImageEntry) -> Result<Image, Error> {
    let digest = entry
        .digest()
        .ok_or_else(|| Error::failed(format!("the image {} has no sha256 digest", entry.name)))?;
    Ok(Image {
        digest,
        size: entry.descriptor.size(),
        media_type: entry.descriptor.media_type().to_string(),
        platform: None,
        config: None,
        annotations: BTreeMap::new(),
    })
}

/// Gives an image a name in the store.
fn tag_image(store: &dbuild_store::Store, name: &str, image: &Image) -> Result<(), Error> {
    let value =
        serde_json::json!({ "mediaType": image.media_type, "digest": image.digest, "size": image.size });
    let descriptor = serde_json::from_value(value)
        .map_err(|error| Error::failed(format!("a descriptor cannot be made: {error}")))?;
    store.tag(name, &descriptor).map_err(Error::failed)
}

/// The media type that a manifest says it has.
fn manifest_type(store: &dbuild_store::Store, digest: &dbuild_digest::BlobDigest) -> Result<String, Error> {
    let bytes = store.read_blob(digest, 4 << 20).map_err(Error::failed)?;
    let manifest: serde_json::Value = serde_json::from_slice(&bytes).map_err(Error::failed)?;
    // OCI allows a manifest to leave it out.
    Ok(manifest["mediaType"].as_str().unwrap_or("application/vnd.oci.image.manifest.v1+json").to_owned())
}
