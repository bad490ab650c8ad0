//! A host that speaks TLS, with a certificate of an authority that no machine knows. Files in
//! `tls/` are good for tests and nothing else; they were made with `openssl req -x509` and
//! `openssl x509 -req` for a hundred years.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};

use super::fake::{Content, Fake};
use super::push::image;
use super::{Bench, amd64};
use crate::PullPolicy::CheckTag;
use crate::{Config, Credentials, HostConfig, Problem, RegistryError, Unreachable};

fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "src/tests/tls", name].iter().collect()
}

/// Answers 404 to one connection after the other, under TLS.
fn serve() -> String {
    serve_answers(|_| "404 X\r\n".to_owned())
}

/// Answers each request's first line with a status and headers, under TLS.
fn serve_answers(answer: impl Fn(&str) -> String + Send + 'static) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let chain = vec![CertificateDer::from_pem_file(file("cert.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(file("key.pem")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        while let Ok((mut socket, _)) = listener.accept() {
            let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = Stream::new(&mut connection, &mut socket);
            let mut asked = [0; 4096];
            if let Ok(length) = stream.read(&mut asked) {
                let asked = String::from_utf8_lossy(&asked[..length]).into_owned();
                let head = answer(asked.lines().next().unwrap_or_default());
                let rest = "Connection: close\r\nContent-Length: 0\r\n\r\n";
                let _ = stream.write_all(format!("HTTP/1.1 {head}{rest}").as_bytes());
            }
        }
    });
    host
}

async fn failed(host: &str, settings: HostConfig) -> (Problem, String) {
    let bench = Bench::with(Config { registry: [(host.to_owned(), settings)].into() }, Credentials::none());
    let error = bench.registry.resolve(&format!("{host}/app"), &amd64(), CheckTag).await.unwrap_err();
    let hint = error.hint().unwrap_or_default();
    let RegistryError::Failed(failed) = error else { panic!("{error}") };
    (failed.problem().unwrap().clone(), hint)
}

#[tokio::test]
async fn an_unknown_authority_is_told_with_the_setting_that_names_it() {
    let host = serve();
    let (problem, hint) = failed(&host, HostConfig { http: Some(false), ..HostConfig::default() }).await;
    let is_so = matches!(problem, Problem::Unreachable { cause: Unreachable::UnknownAuthority, .. });
    assert!(is_so, "{problem:?}");
    assert!(hint.contains("ca = ") && !hint.contains("http"), "{hint}");
}

#[tokio::test]
async fn with_certificates_tls_is_spoken_to_this_machine_too() {
    let host = serve();
    let (problem, _) = failed(&host, HostConfig { ca: vec![file("ca.pem")], ..HostConfig::default() }).await;
    assert!(
        matches!(problem, Problem::NotFound(_)),
        "it was reached, and its authority is known: {problem:?}"
    );
}

#[tokio::test]
async fn a_push_under_tls_does_not_go_on_without() {
    let plain = Fake::good(Content::default()).await;
    let target = plain.host.clone();
    let host = serve_answers(move |asked| match asked.split(' ').next() {
        Some("POST") => format!("202 X\r\nLocation: http://{target}/upload/1\r\n"),
        _ => "404 X\r\n".to_owned(),
    });
    let settings = HostConfig { ca: vec![file("ca.pem")], ..HostConfig::default() };
    let bench = Bench::with(Config { registry: [(host.clone(), settings)].into() }, Credentials::none());
    let image = image(&bench, b"layer");
    let error = bench.registry.push(&image, &format!("{host}/app"), &[], &|_, _| {}).await.unwrap_err();
    assert!(error.to_string().ends_with("its upload address leaves TLS"), "{error}");
    assert_eq!(plain.requests(), [""; 0], "and nothing of the image was sent there");
}
