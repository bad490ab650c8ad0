//! What happens in a build, as data: events, why steps ran, and what commands run with.
//!
//! The progress views, `--progress rawjson`, the journal, the report and the tests all read these
//! types. This crate keeps and shows nothing itself.

mod build_id;
mod cause;
mod event;
mod mounts;
mod runtime_config;
mod sink;

pub use build_id::BuildId;
pub use cause::{ImageChange, ImageId, InputCause, InputChange, Origin};
pub use event::{
    Event, LayerInfo, LeftResults, LogStream, Outcome, StageInfo, Stamped, StartFinding, StartSeverity,
    StartVerdict, StepInfo,
};
pub use mounts::{MountInfo, MountType};
pub use runtime_config::RuntimeConfig;
pub use sink::{Collector, EventSink, Fanout, NoEvents};

#[cfg(test)]
#[path = "tests/document.rs"]
mod tests;
