//! The certificate authorities of this machine, read when a TLS handshake needs them.
//!
//! Reading them takes two thousand system calls and several milliseconds. A build that asks a
//! registry on plain http for one tag, or asks none at all, never pays for it.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;

/// The TLS settings of a client that trusts this machine's authorities and these.
///
/// # Errors
/// When one of `extra` is no certificate.
pub(crate) fn tls_config(extra: Vec<CertificateDer<'static>>) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    extra.iter().try_for_each(|certificate| roots.add(certificate.clone()))?;
    let provider = Arc::new(ring::default_provider());
    let verifier = LazyVerifier { extra, provider: Arc::clone(&provider), loaded: OnceLock::new() };
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// Whether a request failed because this machine has no certificate authorities.
pub(crate) fn are_missing(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if is_missing(error) {
            return true;
        }
        next = error.source();
    }
    false
}

fn is_missing(error: &(dyn Error + 'static)) -> bool {
    if let Some(rustls::Error::Other(OtherError(inner))) = error.downcast_ref() {
        return inner.is::<NoAuthorities>();
    }
    // The source of an I/O error is that of the error in it.
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inner.is_some_and(|inner| is_missing(inner))
}

/// Why a certificate cannot be verified.
#[derive(Debug)]
struct NoAuthorities;

impl fmt::Display for NoAuthorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no certificate authorities are found on this machine")
    }
}

impl Error for NoAuthorities {}

/// The platform's verifier, made when the first certificate is to be verified.
#[derive(Debug)]
struct LazyVerifier {
    extra: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
    loaded: OnceLock<Option<Verifier>>,
}

impl LazyVerifier {
    fn verifier(&self) -> Result<&Verifier, rustls::Error> {
        let load =
            || Verifier::new_with_extra_roots(self.extra.iter().cloned(), Arc::clone(&self.provider)).ok();
        // The extra certificates are good, so the machine has none.
        let missing = || rustls::Error::Other(OtherError(Arc::new(NoAuthorities)));
        self.loaded.get_or_init(load).as_ref().ok_or_else(missing)
    }
}

impl ServerCertVerifier for LazyVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verifier()?.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use rustls::OtherError;
    use rustls::pki_types::CertificateDer;

    use super::{NoAuthorities, are_missing, tls_config};

    #[test]
    fn a_machine_without_authorities_is_told_from_a_server_that_is_not_trusted() {
        let missing = || rustls::Error::Other(OtherError(Arc::new(NoAuthorities)));
        assert!(are_missing(&missing()));
        assert!(are_missing(&io::Error::other(io::Error::new(io::ErrorKind::InvalidData, missing()))));
        let unknown = rustls::CertificateError::UnknownIssuer;
        assert!(!are_missing(&io::Error::other(rustls::Error::InvalidCertificate(unknown))));
        assert!(!are_missing(&io::Error::other("x")));
    }

    #[test]
    fn what_is_no_certificate_is_refused_before_a_connection() {
        assert!(tls_config(vec![CertificateDer::from(b"x".to_vec())]).is_err());
        assert!(tls_config(Vec::new()).is_ok());
    }
}
