//! File trees and layers: walk, ignore, select, copy, diff, tar, index.
//!
//! A [`Tree`] is the index of one layer; a [`Stack`] shows several as one file system. The rest
//! makes trees: of a context ([`walk_context`]), of a COPY ([`select`], [`copy`]), of a WORKDIR
//! ([`make_dir`]), of what a RUN wrote ([`scan_upper`]), of a pulled layer ([`unpack`]); and makes
//! layers of trees ([`pack`]).
//!
//! This crate does not know of stores, steps or images. It is synchronous.

mod archive;
mod context;
mod copy;
mod disk;
mod error;
mod pack;
#[cfg(test)]
mod testing;
mod tree;

pub use archive::decompress::decompress;
pub use archive::limits::UnpackLimits;
pub use archive::unpack::{UnpackedLayer, unpack};
pub use context::absence::{Absence, AbsenceReason, explain_absence, is_ignored};
pub use context::content_cache::{AskedFile, ContentIndex, FileStat, LearnedFile, NoContentIndex};
pub use context::glob::PatternError;
pub use context::ignore::{DecidingPattern, Ignore, IgnoreError, MatchedPatterns, is_utf16};
pub use context::walk::walk_context;
pub use copy::select::{
    CopyError, DestinationConflict, SelectOptions, SelectedItem, Selection, items_of_selection, select,
};
pub use copy::users;
pub use copy::{CopyRequest, Source, copy, copy_unwritten, make_dir};
pub use disk::export::WriteOptions;
pub use disk::materialize::WrittenLayer;
pub use disk::overlay_format::{OverlayFlavor, OverlayFormat, Ownership};
pub use disk::scan_upper::{prepare_upper, scan_upper};
pub use error::{ArchiveError, LayerError, ResolveError};
pub use pack::estargz::TocInfo;
pub use pack::gzip_blocks::{GzipBlockForm, GzipBlocks, NoGzipBlocks, WrittenGzipBlock};
pub use pack::{Compression, PackOptions, PackedTar, pack, repack, write_tars};
pub use tree::layer_files::{LayerFiles, UnwrittenLayer};
pub use tree::path::{MAX_PATH, PathError, TreePath};
pub use tree::stack::{ResolvedPath, Stack, StackEntry, StackFile, StackLayer};
pub use tree::{Entry, EntryKind, Mtime, Tree, TreeError, Xattrs};
