//! Windows, whose images have another shell, another PATH and other paths: they are refused, not
//! built wrongly.

use dbuild_oci::Platform;

use crate::diagnostics::Diagnostic;
use crate::source::Span;

/// The error where a stage, or an image that it takes from, is for Windows.
pub(super) fn refuse(platform: &Platform, span: Span) -> Result<(), Diagnostic> {
    if platform.os != "windows" {
        return Ok(());
    }
    let error = Diagnostic::error(span, format!("the platform `{platform}` is not supported"));
    Err(error
        .note("Windows has its own shell form, PATH and paths, and dbuild builds Linux images only")
        .help("cross-compile in a stage of `$BUILDPLATFORM`, and take the files with `--output type=local`"))
}
