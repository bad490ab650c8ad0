//! Debian's Chromium without a window, driven through WebDriver: plain HTTP and JSON.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::background::Background;
use crate::outcome::bare_command;

/// A page that is open. The browser ends with this value.
#[derive(Debug)]
pub struct Page {
    port: u16,
    session: String,
    /// Ends after the session, and its directory after it.
    _driver: Background,
    _home: TempDir,
}

/// Chromium speaks to nobody on its own.
const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
];

/// How the protocol names the member that holds an element's id.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

impl Page {
    /// Opens a file in a window of this size.
    ///
    /// # Panics
    /// When Chromium does not start, or the page is not ready within a minute.
    #[track_caller]
    pub fn open(file: &Path, (width, height): (u32, u32)) -> Self {
        let home = TempDir::with_prefix("dbuild-chromium-").expect("a temporary directory can be made");
        let mut command = bare_command("chromedriver");
        command.arg("--port=0").env("HOME", home.path());
        let mut driver = Background::start(command);
        let line = driver.wait_for_line("started successfully on port");
        let digits: String = line.chars().filter(char::is_ascii_digit).collect();
        let port = digits.parse().expect("chromedriver tells its port");
        let mut arguments: Vec<String> = FLAGS.map(str::to_owned).to_vec();
        arguments.push(format!("--user-data-dir={}", home.path().display()));
        arguments.push(format!("--window-size={width},{height}"));
        arguments.push("about:blank".to_owned());
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }}});
        let opened = request(port, "POST", "/session", Some(&capabilities));
        let session = opened["sessionId"].as_str().expect("Chromium starts").to_owned();
        let page = Self { port, session, _driver: driver, _home: home };
        page.ask("POST", "url", Some(&json!({"url": format!("file://{}", file.display())})));
        page.ask("POST", "timeouts", Some(&json!({"script": 60_000})));
        page.eval_async(
            "const done = arguments[0]; const look = () => document.documentElement.dataset.ready ? done(1) : setTimeout(look, 5); look()",
        );
        page
    }

    /// What an expression of JavaScript is.
    #[track_caller]
    pub fn eval(&self, expression: &str) -> Value {
        self.ask(
            "POST",
            "execute/sync",
            Some(&json!({"script": format!("return ({expression})"), "args": []})),
        )
    }

    /// Runs a script that calls `arguments[0]` with its result.
    #[track_caller]
    pub fn eval_async(&self, script: &str) -> Value {
        self.ask("POST", "execute/async", Some(&json!({"script": script, "args": []})))
    }

    /// The text of the first element that a selector names, as it is seen.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        let element = self.element(selector);
        let text = self.ask("GET", &format!("element/{element}/text"), None);
        text.as_str().expect("a text").to_owned()
    }

    /// Clicks on it, as a person would: it must be there to be clicked on. It is brought to the
    /// middle first: at the edge, where the driver would leave it, bars of the page lie over it.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        let quoted = serde_json::Value::from(selector);
        let place = "{block: 'center', inline: 'center', behavior: 'instant'}";
        self.eval(&format!("document.querySelector({quoted}).scrollIntoView({place})"));
        self.ask("POST", &format!("element/{element}/click"), Some(&json!({})));
    }

    /// Types into it.
    #[track_caller]
    pub fn keys(&self, selector: &str, keys: &str) {
        let element = self.element(selector);
        self.ask("POST", &format!("element/{element}/value"), Some(&json!({"text": keys})));
    }

    /// Presses a key, or types, wherever the focus is.
    #[track_caller]
    pub fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key.to_string()})))
            .collect();
        let actions = json!({"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]});
        self.ask("POST", "actions", Some(&actions));
    }

    /// Gives the page what a person's system would say: `("prefers-color-scheme", "dark")`, or for
    /// paper `("media", "print")`.
    #[track_caller]
    pub fn emulate(&self, feature: &str, value: &str) {
        let params = match feature {
            "media" => json!({"media": value}),
            name => json!({"media": "", "features": [{"name": name, "value": value}]}),
        };
        self.devtools("Emulation.setEmulatedMedia", &params);
    }

    /// A command of the DevTools protocol.
    #[track_caller]
    pub fn devtools(&self, command: &str, params: &Value) -> Value {
        self.ask("POST", "goog/cdp/execute", Some(&json!({"cmd": command, "params": params})))
    }

    /// What the console says of errors and warnings.
    #[track_caller]
    pub fn complaints(&self) -> Vec<String> {
        let lines = self.log("browser");
        let bad = lines.iter().filter(|line| line["level"] == "SEVERE" || line["level"] == "WARNING");
        bad.map(|line| line["message"].to_string()).collect()
    }

    /// The addresses that pages of this machine's files asked for; their own is one.
    #[track_caller]
    pub fn requests(&self) -> Vec<String> {
        let events = self.log("performance");
        let parsed = events.iter().filter_map(|line| {
            let message: Value = serde_json::from_str(line["message"].as_str()?).ok()?;
            let sent = message["message"]["method"] == "Network.requestWillBeSent";
            let asked = &message["message"]["params"];
            // The browser's own start page loads its own parts.
            let of_a_file =
                asked["documentURL"].as_str().is_some_and(|document| document.starts_with("file:"));
            (sent && of_a_file).then(|| asked["request"]["url"].as_str().map(str::to_owned))?
        });
        parsed.collect()
    }

    #[track_caller]
    fn log(&self, kind: &str) -> Vec<Value> {
        let lines = self.ask("POST", "se/log", Some(&json!({"type": kind})));
        lines.as_array().cloned().expect("a list of lines")
    }

    #[track_caller]
    fn element(&self, selector: &str) -> String {
        let found = json!({"using": "css selector", "value": selector});
        let element = self.ask("POST", "element", Some(&found));
        element[ELEMENT].as_str().unwrap_or_else(|| panic!("no element `{selector}`")).to_owned()
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        request(self.port, method, &format!("/session/{}/{path}", self.session), body)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // The driver dies with its process in any case; the browser only if it is told.
        let _ = exchange(self.port, "DELETE", &format!("/session/{}", self.session), None);
    }
}

#[track_caller]
fn request(port: u16, method: &str, path: &str, body: Option<&Value>) -> Value {
    let answer = exchange(port, method, path, body).expect("chromedriver answers");
    let mut answer: Value = serde_json::from_str(&answer).expect("chromedriver answers with JSON");
    let value = answer["value"].take();
    assert!(value.get("error").is_none(), "{method} {path} {body:?}: {value}");
    value
}

fn exchange(port: u16, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<String> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(90)))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )?;
    // The driver keeps the connection, whatever it is asked: the length tells where the answer
    // ends.
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}
