//! Processes with a terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};

use dbuild_sandbox::{ExitStatus, TerminalSize};

use crate::support::Scene;
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    ("a_terminal_of_its_own", Needs::Nothing, own_terminal),
    ("its_signals_come_from_keys", Needs::Nothing, keys),
];

fn scene(script: &str) -> Scene {
    Scene::sh(script).with(|spec| spec.terminal = Some(TerminalSize { rows: 33, columns: 111 }))
}

fn read_until(terminal: &mut File, end: &str) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&text).contains(end) {
        match terminal.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => text.extend_from_slice(&buffer[..count]),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn own_terminal() {
    let scene =
        scene("tty; stty size; test -c /dev/console && echo console; read word; echo got $word; echo end");
    let mut running = scene.spawn();
    assert!(running.take_stdout().is_none());
    let mut terminal = File::from(running.take_terminal().unwrap());
    // What is typed before it is read is echoed in the middle of the output.
    let mut text = read_until(&mut terminal, "console\r\n");
    terminal.write_all(b"this\n").unwrap();
    text += &read_until(&mut terminal, "end\r\n");
    assert!(text.contains("/dev/pts/0\r\n33 111\r\nconsole\r\n"), "{text:?}");
    assert!(text.contains("got this\r\n"), "{text:?}");
    assert_eq!(running.wait().unwrap().status, ExitStatus::Code(0));
}

fn keys() {
    let scene = scene("trap 'echo caught; exit 5' INT; echo ready; while true; do sleep 0.05; done");
    let mut running = scene.spawn();
    let mut terminal = File::from(running.take_terminal().unwrap());
    read_until(&mut terminal, "ready");
    terminal.write_all(&[3]).unwrap();
    let text = read_until(&mut terminal, "caught");
    assert!(text.contains("caught"), "{text:?}");
    assert_eq!(running.wait().unwrap().status, ExitStatus::Code(5));
}
