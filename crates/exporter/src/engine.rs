//! `--load`: a docker archive into Docker or Podman.

use std::ffi::OsStr;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dbuild_support::io_context::IoError;

use crate::ExportError;
use crate::layout::Outgoing;

/// A program whose `load` reads a docker archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    program: PathBuf,
}

/// The first of `docker` and `podman` that a search path (as `$PATH`) has.
pub fn find_engine(path: &OsStr) -> Result<Engine, ExportError> {
    let is_program = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    ["docker", "podman"]
        .into_iter()
        .find_map(|name| std::env::split_paths(path).map(|dir| dir.join(name)).find(is_program))
        .map(|program| Engine { program })
        .ok_or(ExportError::NoEngine)
}

impl Engine {
    /// `docker` or `podman`.
    pub fn name(&self) -> String {
        self.program.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Pipes the image into `load`. Gives what the program says (`Loaded image: …`).
    pub(crate) fn load(&self, outgoing: Outgoing<'_>) -> Result<String, ExportError> {
        let command = format!("{} load", self.name());
        let failed =
            |status: String, output: String| ExportError::Engine { command: command.clone(), status, output };
        let mut child = Command::new(&self.program)
            .arg("load")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(error.to_string(), String::new()))?;
        let stdin = child.stdin.take();
        let (sent, output) = std::thread::scope(|scope| {
            let sending = scope.spawn(|| match stdin {
                Some(stdin) => {
                    let mut out = BufWriter::with_capacity(256 << 10, stdin);
                    outgoing.write_archive(&mut out, true)?;
                    out.flush().map_err(|error| ExportError::from_io(error, "write to", Path::new(&command)))
                }
                None => Ok(()),
            });
            let output = child.wait_with_output();
            (sending.join(), output)
        });
        let output = output.map_err(|error| failed(error.to_string(), String::new()))?;
        if !output.status.success() {
            // That it stopped reading is then no news.
            return Err(failed(output.status.to_string(), tail(&output.stderr)));
        }
        match sent {
            Ok(Err(ExportError::Io(IoError { source, .. })))
                if source.kind() == io::ErrorKind::BrokenPipe => {}
            Ok(sent) => sent?,
            Err(_) => return Err(failed("the archive could not be made".to_owned(), String::new())),
        }
        Ok(tail(&output.stdout))
    }
}

/// The last lines, for people.
fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
