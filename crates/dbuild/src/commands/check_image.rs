//! `dbuild check IMAGE`: will it start?

use std::collections::BTreeMap;
use std::sync::Arc;

use dbuild_digest::BlobDigest;
use dbuild_events::{NoEvents, Outcome, StartSeverity, StartVerdict};
use dbuild_oci::Reference;
use dbuild_report::Build;
use dbuild_scheduler::{Canceller, image_files};
use dbuild_startcheck::Start;
use dbuild_store::Store;
use serde_json::{Value, json};

use super::{print, print_json};
use crate::build::resolve_images::image_named;
use crate::build::start_check::{StackFiles, add_remedies, copy_name};
use crate::cli::{FindingsFormat, Global};
use crate::error::{EXIT_FAILED, Error};
use crate::past_build::stack_of;
use crate::session::Session;

/// Maximum number of builds searched for the one that made the image.
const BUILDS: usize = 100;

/// Looks into an image of the store, or of a registry; exit code 1 where it will not start.
pub(super) fn run(global: &Global, name: &str, format: FindingsFormat) -> Result<(), Error> {
    let session = Session::open(global)?;
    let _lease = session.store.lease().map_err(Error::failed)?;
    let image = session.runtime.block_on(image_named(&session, name)).map_err(|error| {
        error.hint(format!(
            "`{name}` is not a directory either; a context is usually `.`, and `dbuild images` lists the images"
        ))
    })?;
    let (config, platform, digest, reference) =
        (image.config.clone(), image.platform.clone(), image.digest, image.reference.clone());
    let (_canceller, cancel) = Canceller::new();
    let blobs = Arc::new(session.registry.clone());
    let unpacked = session
        .runtime
        .block_on(image_files(&session.store, blobs, Arc::new(NoEvents), image, cancel))
        .map_err(Error::failed)?;
    let files = StackFiles::new(unpacked.stack);
    let mut start = dbuild_startcheck::check(&config, &platform, &files);
    if start.findings.iter().any(|finding| finding.need.is_some()) {
        let others = stages_of(&session.store, &digest, &reference).unwrap_or_default();
        add_remedies(&mut start, &config, &platform, &files, &others);
    }
    match format {
        FindingsFormat::Text => print(&start.to_string())?,
        FindingsFormat::Json => print_json(&start)?,
        FindingsFormat::Sarif => print_json(&sarif(&start, name))?,
    }
    if start.verdict == StartVerdict::WillNotStart { Err(Error::exit_code(EXIT_FAILED)) } else { Ok(()) }
}

/// The other stages of the build that made an image, as far as the store still has their layers.
fn stages_of(store: &Store, digest: &BlobDigest, reference: &str) -> Option<Vec<(String, StackFiles)>> {
    let named = |names: &[String]| {
        names.iter().any(|name| name.parse::<Reference>().is_ok_and(|name| name.to_string() == reference))
    };
    let builds = store.builds(BUILDS).ok()?;
    let made = builds.iter().filter(|build| build.outcome == Some(Outcome::Done) && named(&build.info.names));
    let build =
        made.map(|build| store.events(&build.id).map(|events| Build::of(&events))).find_map(|build| {
            build
                .ok()
                .filter(|build| build.exports.iter().any(|export| export.digest.as_ref() == Some(digest)))
        })?;
    let mut last: BTreeMap<u32, u32> = BTreeMap::new();
    for step in &build.steps {
        last.extend(step.stage.map(|stage| (stage, step.id)));
    }
    let others = build.stages.iter().enumerate().filter(|(_, stage)| !build.targets.contains(&stage.name));
    let others = others.filter_map(|(index, stage)| {
        let stack = stack_of(store, &build, *last.get(&stage.id)?)?;
        Some((copy_name(&stage.name, u32::try_from(index).ok()?), StackFiles::new(stack)))
    });
    Some(others.collect())
}

/// For editors and CI: the image stands where a file would.
fn sarif(start: &Start, image: &str) -> Value {
    let results = start.findings.iter().map(|finding| {
        let level = match finding.severity {
            StartSeverity::WillNotStart => "error",
            StartSeverity::MayFail => "warning",
            StartSeverity::Advice => "note",
        };
        let text = std::iter::once(&finding.text).chain(&finding.help).cloned().collect::<Vec<_>>().join("\n");
        let place = finding.path.as_deref().unwrap_or("/").trim_start_matches('/');
        json!({
            "ruleId": finding.rule,
            "level": level,
            "message": { "text": text },
            "locations": [{
                "physicalLocation": { "artifactLocation": { "uri": super::findings::uri(place), "uriBaseId": "IMAGE" } },
                "logicalLocations": [{ "name": image, "kind": "resource" }],
            }],
        })
    });
    super::findings::sarif_log(&[], results.collect())
}
