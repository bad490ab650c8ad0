//! Texts that a program holds: paths that were built into it.

use std::collections::BTreeSet;

use crate::view::View;

/// Maximum number of bytes read of a program; what is larger is not known to lack a text.
const MAX_PROGRAM: u64 = 96 << 20;
/// Number of bytes read at once.
const PIECE: usize = 1 << 20;
/// The longest path that was built into a program.
const LONGEST: usize = 256;

/// Everything in a file (a path without links) that can be an absolute path in C: `/`, then what
/// ends with a zero byte. A compiler lets a text share the end of a longer one, so each `/` begins
/// one. `None` where the content is not available.
pub(crate) fn paths(view: &View<'_>, file: &str) -> Option<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    each_text(view, file, &mut |text| {
        for (at, _) in text.match_indices('/') {
            all.insert(text[at..].to_owned());
        }
    })?;
    Some(all)
}

/// Whether a file is a busybox that has a program of this name inside. `None` where the content is
/// not available.
pub(crate) fn has_applet(view: &View<'_>, file: &str, name: &str) -> Option<bool> {
    let (mut is_busybox, mut has_name) = (false, false);
    each_text(view, file, &mut |text| {
        is_busybox |= text.contains("BusyBox");
        has_name |= text == name;
    })?;
    Some(is_busybox && has_name)
}

/// Each run of printable characters up to a zero byte.
fn each_text(view: &View<'_>, file: &str, take: &mut dyn FnMut(&str)) -> Option<()> {
    let mut text = Vec::new();
    let mut offset = 0;
    while offset < MAX_PROGRAM {
        let bytes = view.read_at(file, offset, PIECE)?;
        if bytes.is_empty() {
            return Some(());
        }
        offset += bytes.len() as u64;
        for byte in bytes {
            if (0x20..0x7f).contains(&byte) {
                text.push(byte);
                continue;
            }
            if (byte == 0 || byte == b'\n') && !text.is_empty() {
                let start = text.len().saturating_sub(LONGEST);
                take(std::str::from_utf8(&text[start..]).unwrap_or_default());
            }
            text.clear();
        }
    }
    None
}
