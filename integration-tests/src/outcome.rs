//! How a command ended, with the questions that tests ask of it.

use std::fmt;
use std::process::{Command, ExitStatus, Stdio};

/// How a command ended. The `expect_*` functions panic with everything that there is to know.
#[derive(Debug)]
pub struct Outcome {
    command: String,
    status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Runs a command to its end, with an empty standard input unless the caller has set another.
///
/// # Panics
/// When the program cannot be started.
#[track_caller]
pub fn run(command: &mut Command) -> Outcome {
    let words = describe(command);
    match command.output() {
        Ok(output) => Outcome::new(words, output),
        Err(error) => {
            panic!("cannot start `{words}`: {error}\n(`scripts/tools.sh` installs what the tests need)")
        }
    }
}

/// The words of a command, for people.
pub(crate) fn describe(command: &Command) -> String {
    let mut words = command.get_program().to_string_lossy().into_owned();
    for word in command.get_args() {
        words.push(' ');
        words.push_str(&word.to_string_lossy());
    }
    words
}

/// A command without the environment of whoever runs the tests, but for what programs need to be
/// found and to reach the network.
pub(crate) fn bare_command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"));
    for name in
        ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE"]
    {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

impl Outcome {
    pub(crate) fn new(command: String, output: std::process::Output) -> Self {
        Self {
            command,
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The exit code; `None` after a signal.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// It ended with 0.
    #[track_caller]
    pub fn expect_ok(self) -> Self {
        assert!(self.status.success(), "expected success\n{self}");
        self
    }

    /// It ended with this code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "expected exit code {code}\n{self}");
        self
    }

    /// All of these are in standard output.
    #[track_caller]
    pub fn stdout_has(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stdout.contains(text), "expected `{text}` in standard output\n{self}");
        }
        self
    }

    /// All of these are in standard error.
    #[track_caller]
    pub fn stderr_has(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "expected `{text}` in standard error\n{self}");
        }
        self
    }

    /// None of these is in either output.
    #[track_caller]
    pub fn lacks(self, texts: &[&str]) -> Self {
        for text in texts {
            let found = self.stdout.contains(text) || self.stderr.contains(text);
            assert!(!found, "did not expect `{text}`\n{self}");
        }
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_str(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("standard output is not JSON: {error}\n{self}"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}\n{}", self.command, self.status)?;
        writeln!(f, "--- standard output\n{}", self.stdout)?;
        writeln!(f, "--- standard error\n{}---", self.stderr)
    }
}
