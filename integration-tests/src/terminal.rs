//! A terminal that tests look at: a pseudo-terminal with a program in it, and the screen that it
//! draws.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

const PATIENCE: Duration = Duration::from_secs(60);

/// A program in a terminal. Killed when dropped.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    master: OwnedFd,
    output: mpsc::Receiver<Vec<u8>>,
    /// Everything that was written.
    pub raw: String,
    /// What is to be seen.
    pub screen: Screen,
    pending: Vec<u8>,
}

impl Terminal {
    /// Starts a command with a terminal of so many columns as its input and outputs.
    ///
    /// # Panics
    /// When there is no pseudo-terminal or the program cannot be started.
    #[track_caller]
    pub fn start(mut command: Command, columns: u16) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&master).expect("the terminal is ours");
        unlockpt(&master).expect("the terminal can be opened");
        let path = ptsname(&master, Vec::new()).expect("the terminal has a name");
        let path = path.to_str().expect("an ordinary name").to_owned();
        resize(&master, columns);
        let side =
            || Stdio::from(File::options().read(true).write(true).open(&path).expect("the terminal opens"));
        command.stdin(side()).stdout(side()).stderr(side()).env("TERM", "xterm-256color");
        let child = command.spawn().expect("the program can be started");
        // The command keeps its ends of the terminal open as long as it lives.
        drop(command);
        let mut reader = File::from(master.try_clone().expect("another descriptor"));
        let (sender, output) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // When nobody has the other end open any more, reading fails.
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        let screen = Screen::new(usize::from(columns));
        Self { child, master, output, raw: String::new(), screen, pending: Vec::new() }
    }

    /// Waits until the screen shows a text.
    ///
    /// # Panics
    /// When the program ends, or a minute passes, without it.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.screen.text().contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.take(&bytes),
                Err(_) => panic!("`{text}` is not to be seen on\n{}", self.screen.text()),
            }
        }
    }

    /// Types a line.
    #[track_caller]
    pub fn type_line(&self, line: &str) {
        let bytes = format!("{line}\r");
        let written = rustix::io::write(&self.master, bytes.as_bytes()).expect("the terminal takes it");
        assert_eq!(written, bytes.len(), "all of it");
    }

    /// Gives the window another width.
    pub fn resize(&mut self, columns: u16) {
        resize(&self.master, columns);
        self.screen.resize(usize::from(columns));
    }

    /// Waits for the program's end and gives its exit code.
    #[track_caller]
    pub fn finish(&mut self) -> Option<i32> {
        let status = self.child.wait().expect("the program can be waited for");
        while let Ok(bytes) = self.output.recv_timeout(PATIENCE) {
            self.take(&bytes);
        }
        status.code()
    }

    fn take(&mut self, bytes: &[u8]) {
        self.pending.extend(bytes);
        // A character can be cut in two.
        let whole = match std::str::from_utf8(&self.pending) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let rest = self.pending.split_off(whole);
        let text = String::from_utf8_lossy(&std::mem::replace(&mut self.pending, rest)).into_owned();
        self.raw.push_str(&text);
        self.screen.write(&text);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(master: &OwnedFd, columns: u16) {
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).expect("the terminal has a size");
}

/// What a terminal shows, without an end at the bottom: as much of its ways as dbuild uses.
#[derive(Debug)]
pub struct Screen {
    columns: usize,
    rows: Vec<Row>,
    at: (usize, usize),
    /// A sequence that is not complete.
    escape: Option<String>,
}

/// A row; where the text was too long for the row above, it goes on here.
#[derive(Clone, Debug, Default)]
struct Row {
    /// A wide character is followed by an empty cell.
    cells: Vec<Option<char>>,
    goes_on: bool,
}

impl Screen {
    fn new(columns: usize) -> Self {
        Self { columns, rows: vec![Row::default()], at: (0, 0), escape: None }
    }

    /// All rows, without what is blank at their ends.
    pub fn text(&self) -> String {
        let rows: Vec<String> = self.rows.iter().map(Row::text).collect();
        rows.join("\n")
    }

    /// The texts that did not fit into one row.
    pub fn wrapped(&self) -> Vec<String> {
        let pairs = self.rows.windows(2).filter(|pair| pair[1].goes_on);
        pairs.map(|pair| format!("{}{}", pair[0].text(), pair[1].text())).collect()
    }

    fn write(&mut self, text: &str) {
        for c in text.chars() {
            if let Some(mut escape) = self.escape.take() {
                escape.push(c);
                match c {
                    '[' if escape.len() == 1 => self.escape = Some(escape),
                    '\u{40}'..='\u{7e}' => self.obey(&escape),
                    _ => self.escape = Some(escape),
                }
                continue;
            }
            match c {
                '\u{1b}' => self.escape = Some(String::new()),
                '\r' => self.at.1 = 0,
                '\n' => self.at = (self.at.0 + 1, self.at.1),
                c => self.put(c),
            }
            while self.rows.len() <= self.at.0 {
                self.rows.push(Row::default());
            }
        }
    }

    fn obey(&mut self, escape: &str) {
        let number = escape.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(1);
        match escape.chars().last() {
            Some('A') => self.at.0 = self.at.0.saturating_sub(number),
            Some('J') => {
                self.rows.truncate(self.at.0 + 1);
                self.rows[self.at.0].cells.truncate(self.at.1);
            }
            Some('K') => self.rows[self.at.0].cells.truncate(self.at.1),
            _ => {}
        }
    }

    fn put(&mut self, c: char) {
        let width = if ('\u{1100}'..='\u{ffdc}').contains(&c) && !('\u{2000}'..='\u{2e7f}').contains(&c) {
            2
        } else {
            1
        };
        if self.at.1 + width > self.columns {
            self.at = (self.at.0 + 1, 0);
            self.rows.resize_with(self.rows.len().max(self.at.0 + 1), Row::default);
            self.rows[self.at.0].goes_on = true;
        }
        let row = &mut self.rows[self.at.0].cells;
        row.resize(row.len().max(self.at.1 + width), Some(' '));
        row[self.at.1] = Some(c);
        if width == 2 {
            row[self.at.1 + 1] = None;
        }
        self.at.1 += width;
    }

    /// As terminals do: texts are broken anew, and the cursor stays at the end of what was written.
    fn resize(&mut self, columns: usize) {
        let old = std::mem::replace(self, Self::new(columns));
        let below = old.rows.len() - 1;
        for (number, row) in old.rows.iter().enumerate() {
            row.cells.iter().flatten().for_each(|c| self.put(*c));
            if number < below && !old.rows[number + 1].goes_on {
                self.at = (self.at.0 + 1, 0);
                self.rows.resize_with(self.at.0 + 1, Row::default);
            }
        }
    }
}

impl Row {
    fn text(&self) -> String {
        let text: String = self.cells.iter().flatten().collect();
        text.trim_end().to_owned()
    }
}
