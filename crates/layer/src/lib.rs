//! File trees and layers: walk, ignore, select, copy, diff, tar, index.
//!
//! A [`Tree`] is the index of one layer; a [`Stack`] shows several as one file system. The rest makes trees: of a context
//! ([`walk_context`]), of a COPY ([`select`], [`copy`]), of a WORKDIR ([`make_dir`]), of what a RUN wrote
//! ([`scan_upper`]), of a pulled layer ([`unpack`]); and makes layers of trees ([`pack`]).
//!
//! This crate does not know of stores, steps or images. It is synchronous.

mod absence;
mod archive;
mod borrowed;
mod codec;
mod content;
mod copy;
mod decompress;
mod disk;
mod draft;
mod error;
mod estargz;
mod form;
mod glob;
mod gzip;
mod hash;
mod ignore;
mod members;
mod mode;
mod nodes;
mod pack;
mod path;
mod path_filter;
mod place;
mod scan;
mod select;
mod stack;
mod tar;
mod tarball;
#[cfg(test)]
mod testing;
mod time;
mod toc;
mod tree;
mod unpack;
pub mod users;
mod walk;
mod write;

pub use absence::{Absence, AbsenceReason, explain_absence, is_ignored};
pub use borrowed::Borrowed;
pub use content::{AskedFile, ContentIndex, FileStat, LearnedFile, NoContentIndex};
pub use copy::{CopyRequest, Made, Source, borrow, copy, make_dir};
pub use decompress::decompress;
pub use error::{ArchiveError, LayerError, ResolveError};
pub use estargz::TocInfo;
pub use form::{DiskForm, OverlayFlavor, Ownership};
pub use glob::PatternError;
pub use ignore::{DecidingPattern, Ignore, IgnoreError, Matched, is_utf16};
pub use members::{Members, NoMembers, WrittenMember};
pub use pack::{Compression, PackOptions, Packed, pack, repack, write_tars};
pub use path::{MAX_PATH, PathError, TreePath};
pub use scan::{prepare_upper, scan_upper};
pub use select::{
    CopyError, DestinationConflict, SelectOptions, SelectedItem, Selection, items_of_selection, select,
};
pub use stack::{Files, Found, FoundFile, Resolved, Stack, StackLayer};
pub use tree::{Entry, EntryKind, Mtime, Tree, TreeError, Xattrs};
pub use unpack::{UnpackLimits, Unpacked, unpack};
pub use walk::walk_context;
pub use write::WriteOptions;
