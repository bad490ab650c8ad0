//! Writes the final stage, and nothing of any other: OCI layout and archive, docker archive, files,
//! tar, registry.
//!
//! [`assemble`] puts config and manifest into the store; [`Export::write`] carries them (or the
//! files of the stage) to where an [`OutputSpec`] says; [`push`] sends them to their registry;
//! [`load`] is the way back, from an archive into the store. Everything is read verified and
//! written whole: beside its target, then renamed.
//!
//! This crate knows nothing of steps and caches. It is synchronous, but for [`push`].

mod annotations;
mod assemble;
mod destination;
mod early_archive;
mod engine;
mod error;
mod export;
mod files;
mod image;
mod image_blobs;
mod inspect;
mod layout;
mod layout_image;
mod load;
mod metadata;
mod spec;
#[cfg(test)]
mod tests;
mod user_file;

pub use assemble::{ImageParts, assemble, assemble_index, dated};
pub use early_archive::EarlyArchive;
pub use engine::{Engine, find_engine};
pub use error::ExportError;
pub use export::{Export, Written, push, save};
pub use image::Image;
pub use inspect::{Inspected, InspectedImage, inspect};
pub use layout_image::LayoutImage;
pub use load::{Loaded, load};
pub use metadata::{image_id, metadata, write_iidfile, write_metadata_file};
pub use spec::{Annotation, AnnotationLevel, Destination, OutputKind, OutputSpec, SpecError};
pub use user_file::{Input, Waiting, is_pipe, read_input, write_result};
