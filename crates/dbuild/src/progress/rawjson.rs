//! `--progress rawjson`: every event as one line of JSON on standard error.

use std::io::Write as _;

use dbuild_events::{Event, EventSink, Stamped};

use super::View;

pub(crate) struct RawJson;

impl EventSink for RawJson {
    fn emit(&self, event: Event) {
        if let Ok(mut line) = serde_json::to_vec(&Stamped::now(event)) {
            line.push(b'\n');
            // A reader that has gone does not stop the build.
            let _ = std::io::stderr().lock().write_all(&line);
        }
    }
}

impl View for RawJson {}
