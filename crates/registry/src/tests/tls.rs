//! A host that speaks TLS, with a certificate of an authority that no machine knows. Files in `tls/` are good for tests and nothing
//! else; they were made with `openssl req -x509` and `openssl x509 -req` for a hundred years.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};

use super::{Bench, amd64};
use crate::PullPolicy::CheckTag;
use crate::{Config, Credentials, HostConfig, Problem, RegistryError, Unreachable};

fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "src/tests/tls", name].iter().collect()
}

/// Answers 404 to one connection after the other, under TLS.
fn serve() -> String {
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
            if stream.read(&mut [0; 4096]).is_ok() {
                let _ = stream.write_all(b"HTTP/1.1 404 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
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
