//! Commands that go on while the test does something else.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::outcome::describe;

/// How long a test waits for what should come at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running command, with its output line by line. Killed when dropped.
#[derive(Debug)]
pub struct Background {
    command: String,
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Background {
    /// Starts a command; its two outputs are read as one.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[track_caller]
    pub fn start(mut command: Command) -> Self {
        let words = describe(&command);
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => panic!("cannot start `{words}`: {error}"),
        };
        let (sender, lines) = mpsc::channel();
        forward(child.stdout.take(), sender.clone());
        forward(child.stderr.take(), sender);
        Self { command: words, child, lines, seen: Vec::new() }
    }

    /// Waits for a line that contains this text, and returns it.
    ///
    /// # Panics
    /// When the output ends, or a minute passes, without it.
    #[track_caller]
    pub fn wait_for_line(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
        panic!("`{}` did not print `{text}`. It printed:\n{}", self.command, self.seen.join("\n"));
    }

    /// The id of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| rustix::process::kill_process(pid, signal));
    }

    /// Waits for the end, and returns how it ended with everything that was printed.
    ///
    /// # Panics
    /// When it does not end within a minute of its output's end.
    #[track_caller]
    pub fn wait(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.seen.push(line);
        }
        assert!(Instant::now() < deadline, "`{}` did not end:\n{}", self.command, self.seen.join("\n"));
        let status = self.child.wait().expect("a child can be waited for");
        (status, self.seen.join("\n"))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn forward(stream: Option<impl Read + Send + 'static>, sender: mpsc::Sender<String>) {
    let stream = stream.expect("the outputs are pipes");
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
}

/// A port of the loopback device that nobody listens on at this moment.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port can be bound");
    listener.local_addr().expect("a listener has an address").port()
}

/// The whole answer, head included, to `GET path` of a server of this machine.
///
/// # Panics
/// When it cannot be asked.
#[track_caller]
pub fn http_get(port: u16, path: &str) -> String {
    let mut stream = match TcpStream::connect(("127.0.0.1", port)) {
        Ok(stream) => stream,
        Err(error) => panic!("cannot connect to port {port}: {error}"),
    };
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the request can be sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the answer can be read");
    String::from_utf8_lossy(&answer).into_owned()
}
