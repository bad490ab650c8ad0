//! A build as a trace of OpenTelemetry, received by a small collector.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dbuild_integration_tests::{Dbuild, TestSpace};
use serde_json::Value as Json;

/// What a collector got.
struct Got {
    line: String,
    head: String,
    body: Vec<u8>,
}

/// What it does with each request.
#[derive(Clone, Copy)]
enum Does {
    Answer(&'static str),
    /// 429 and `Retry-After: 0` to the first, then 200.
    BusyOnce,
    /// Reads, and says nothing for as long as the other end waits.
    Hang,
}

/// Ends when it is dropped.
struct Collector {
    address: SocketAddr,
    got: Receiver<Got>,
    over: Arc<AtomicBool>,
    listens: Option<JoinHandle<()>>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // It waits for a connection, and looks up then.
        let _ = TcpStream::connect(self.address);
        let _ = self.listens.take().map(JoinHandle::join);
    }
}

impl Collector {
    fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, got) = channel();
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let listens = std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if ends.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(mut stream) = stream else { break };
                let Some(request) = receive(&stream) else { continue };
                let heard = tell.send(request);
                let answer = match does {
                    Does::Answer(answer) => answer,
                    Does::BusyOnce if number == 0 => "429 Too Many Requests\r\nRetry-After: 0",
                    Does::BusyOnce => "200 OK",
                    Does::Hang => {
                        // Until the other end has given up.
                        let _ = stream.read(&mut [0]);
                        continue;
                    }
                };
                let body = "it said this";
                let length = body.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {answer}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
                );
                if heard.is_err() {
                    break;
                }
            }
        });
        Self { address, got, over, listens: Some(listens) }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn take(&self) -> Vec<Got> {
        self.got.try_iter().collect()
    }
}

fn receive(stream: &TcpStream) -> Option<Got> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut head) = (String::new(), String::new());
    reader.read_line(&mut line).ok()?;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if header.trim().is_empty() {
            break;
        }
        head.push_str(&header.to_ascii_lowercase());
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Got { line: line.trim().to_owned(), head, body })
}

const DOCKERFILE: &str = "\
FROM busybox AS left
ARG VERSION
RUN echo $VERSION > /left
FROM busybox AS right
RUN echo right > /right
FROM busybox AS app
COPY --from=left /left /
COPY --from=right /right /
RUN --mount=type=secret,id=s cat /run/secrets/s
";

fn build(space: &TestSpace, dockerfile: &str, endpoint: &str) -> Dbuild {
    space.write("secret", "hidden-value");
    let build =
        space.build(dockerfile, ["--build-arg", "VERSION=argument-value", "--secret", "id=s,src=secret"]);
    build.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
}

fn spans(got: &Got) -> Vec<Json> {
    let json: Json = serde_json::from_slice(&got.body).unwrap();
    json["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone()
}

fn attribute<'a>(span: &'a Json, key: &str) -> &'a Json {
    let attributes = span["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|pair| pair["key"] == key);
    found.map_or(&Json::Null, |pair| pair["value"].as_object().unwrap().values().next().unwrap())
}

fn time(span: &Json, key: &str) -> u64 {
    span[key].as_str().unwrap().parse().unwrap()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

#[test]
fn a_build_is_a_trace() {
    let space = TestSpace::new();
    let collector = Collector::start(Does::Answer("200 OK"));
    let before = now();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let call = || {
        build(&space, DOCKERFILE, &collector.url())
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
            .env("OTEL_EXPORTER_OTLP_HEADERS", "x-token=a%20b")
            .env("OTEL_SERVICE_NAME", "shop")
            .env("TRACEPARENT", parent)
    };
    let outcome = call().run().expect_ok();
    assert!(!outcome.stderr.contains("warning: no trace"), "{}", outcome.stderr);
    let after = now();
    let got = collector.take();
    let [got] = got.as_slice() else { panic!("one request was expected, not {}", got.len()) };
    assert_eq!(got.line, "POST /v1/traces HTTP/1.1");
    assert!(
        got.head.contains("x-token: a b") && got.head.contains("content-type: application/json"),
        "{}",
        got.head
    );
    let text = String::from_utf8_lossy(&got.body);
    assert!(text.contains("\"stringValue\":\"shop\""));
    assert!(!text.contains("argument-value") && !text.contains("hidden-value"), "{text}");

    let spans = spans(got);
    let named = |name: &str| {
        spans.iter().find(|span| span["name"] == name).unwrap_or_else(|| panic!("{name}: {spans:#?}"))
    };
    let root = named("dbuild build");
    assert_eq!((&root["traceId"], &root["parentSpanId"]), (&parent[3..35].into(), &parent[36..52].into()));
    assert_eq!(root["status"]["code"], 1);
    for span in &spans {
        let (began, ended) = (time(span, "startTimeUnixNano"), time(span, "endTimeUnixNano"));
        // The events count milliseconds.
        assert!(before - 1_000_000 <= began && began <= ended && ended <= after, "{span:#}");
        if span["name"] != "dbuild build" {
            assert_eq!(span["parentSpanId"], root["spanId"]);
            assert!(
                time(root, "startTimeUnixNano") <= began && ended <= time(root, "endTimeUnixNano"),
                "{span:#}"
            );
        }
    }
    let (left, copy) =
        (named("[left 2/2] RUN echo $VERSION > /left"), named("[app 2/4] COPY --from=left /left /"));
    let linked =
        |to: &Json| copy["links"].as_array().unwrap().iter().any(|link| link["spanId"] == to["spanId"]);
    assert!(linked(left) && !linked(named("[right 2/2] RUN echo right > /right")));
    assert!(time(left, "endTimeUnixNano") <= time(copy, "startTimeUnixNano"));
    assert_eq!(
        (attribute(copy, "dbuild.stage"), attribute(copy, "dbuild.cached")),
        (&"app".into(), &false.into())
    );
    assert_eq!(attribute(copy, "code.line.number"), "7");
    assert!(spans.iter().any(|span| attribute(span, "dbuild.critical") == true));

    // The next one finds everything cached, and is a trace of its own spans.
    call().run().expect_ok();
    let again = self::spans(&collector.take()[0]);
    let copy = again.iter().find(|span| span["name"] == copy["name"]).unwrap();
    assert_eq!(attribute(copy, "dbuild.cached"), true);
    assert_eq!(attribute(&again[0], "dbuild.steps.ran"), "0");
}

#[test]
fn a_build_that_fails_says_where() {
    let space = TestSpace::new();
    let collector = Collector::start(Does::Answer("200 OK"));
    let build = build(&space, "FROM busybox\nARG VERSION\nRUN exit 3\n", &collector.url());
    build.env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json").run().expect_code(1);
    let spans = spans(&collector.take()[0]);
    let step = spans.iter().find(|span| span["name"] == "[stage-0 2/2] RUN exit 3").unwrap();
    assert_eq!((&step["status"]["code"], &step["status"]["message"]), (&2.into(), &"exit code 3".into()));
    assert_eq!(attribute(step, "process.exit.code"), "3");
    assert_eq!(spans[0]["status"]["message"], "[stage-0 2/2] RUN exit 3 failed");
}

/// The fields of a protobuf message: their numbers and, of those with a length, their bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for at in 0.. {
            let (first, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(first & 0x7f) << (7 * at);
            if first & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let length = match tag & 7 {
            0 => {
                let value = varint(&mut bytes);
                found.push((tag >> 3, value.to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            other => panic!("a wire type that is not written: {other}"),
        };
        found.push((tag >> 3, bytes[..length].to_vec()));
        bytes = &bytes[length..];
    }
    found
}

fn field(bytes: &[u8], number: u64) -> Vec<u8> {
    fields(bytes).into_iter().find(|(field, _)| *field == number).unwrap().1
}

/// The usual encoding. Numbers of fields: `opentelemetry/proto/trace/v1/trace.proto`.
#[test]
fn protobuf_where_nothing_else_is_asked_for() {
    let space = TestSpace::new();
    let collector = Collector::start(Does::Answer("200 OK"));
    build(&space, DOCKERFILE, &collector.url()).run().expect_ok();
    let got = &collector.take()[0];
    assert!(got.head.contains("content-type: application/x-protobuf"), "{}", got.head);
    let scope_spans = field(&field(&got.body, 1), 2);
    let spans: Vec<Vec<u8>> =
        fields(&scope_spans).into_iter().filter(|(n, _)| *n == 2).map(|(_, span)| span).collect();
    let names: Vec<String> = spans.iter().map(|span| String::from_utf8(field(span, 5)).unwrap()).collect();
    assert!(names.contains(&"[app 2/4] COPY --from=left /left /".to_owned()), "{names:?}");
    let root = field(&spans[0], 2);
    assert_eq!((field(&spans[0], 1).len(), root.len()), (16, 8));
    for span in &spans[1..] {
        assert_eq!(field(span, 4), root, "the parent");
        let time = |number| u64::from_le_bytes(field(span, number).try_into().unwrap());
        assert!(time(7) <= time(8) && time(8) <= now());
    }
}

/// What is wrong with a collector is one warning, and costs no more than its time.
#[test]
fn a_collector_that_does_not_take_it_fails_no_build() {
    let space = TestSpace::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cases = [
        (Does::Answer("400 Bad Request"), "answered 400: it said this"),
        (Does::Answer("301 Moved\r\nLocation: http://127.0.0.1:1/"), "answered 301"),
        (Does::Answer("503 Busy\r\nRetry-After: 60"), "answered 503"),
        (Does::Hang, "did not answer within 300ms"),
    ];
    let dockerfile = "FROM busybox\nARG VERSION\nRUN true\n";
    let said = |endpoint: &str, words: &str| {
        let began = Instant::now();
        let build = build(&space, dockerfile, endpoint).env("OTEL_EXPORTER_OTLP_TIMEOUT", "300");
        let outcome =
            build.run().expect_ok().stderr_has(&["warning: no trace of this build was sent", words]);
        assert_eq!(outcome.stderr.matches("no trace").count(), 1, "{}", outcome.stderr);
        began.elapsed()
    };
    for (does, words) in cases {
        let collector = Collector::start(does);
        let took = said(&collector.url(), words);
        assert_eq!(collector.take().len(), 1, "{words}");
        assert!(took < Duration::from_secs(20), "{words}: {took:?}");
    }
    said(&format!("http://{closed}"), "cannot be reached");
    said("collector:4317", "no URL with http://");
    let build = build(&space, dockerfile, "http://127.0.0.1:1").env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    build.run().expect_ok().stderr_has(&["grpc is not supported; use http/protobuf"]);
}

#[test]
fn a_collector_that_is_busy_is_asked_again() {
    let space = TestSpace::new();
    let collector = Collector::start(Does::BusyOnce);
    let outcome = build(&space, "FROM busybox\nARG VERSION\n", &collector.url()).run().expect_ok();
    assert!(!outcome.stderr.contains("no trace"), "{}", outcome.stderr);
    let got = collector.take();
    assert_eq!(got.len(), 2);
    assert_eq!(got[0].body, got[1].body);
}

#[test]
fn nothing_connects_where_nobody_asks() {
    let space = TestSpace::new();
    let collector = Collector::start(Does::Answer("200 OK"));
    let unasked = [("OTEL_EXPORTER_OTLP_ENDPOINT", String::new()), ("OTEL_SDK_DISABLED", "true".to_owned())];
    for (name, value) in unasked {
        let call = build(&space, "FROM busybox\nARG VERSION\n", &collector.url()).env(name, value);
        let outcome = call.env("OTEL_EXPORTER_OTLP_HEADERS", "a=b").run().expect_ok();
        assert!(!outcome.stderr.contains("no trace"), "{}", outcome.stderr);
    }
    assert!(collector.take().is_empty());
}
