//! Why there is no answer, found out from the errors themselves and not from their words, and what
//! to try then.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The step of making a connection that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// The name has no address.
    NoAddress,
    /// Nothing listens there.
    Refused,
    /// The other side does not speak TLS.
    NotTls,
    /// Its certificate is signed by an authority that nobody here knows.
    UnknownAuthority,
    /// Its certificate is not valid for another reason.
    BadCertificate,
    /// Its certificate is none of a server: most often an authority's own.
    NotForServers,
    /// It does not answer.
    Silent,
    /// Anything else: no route, a connection that was reset.
    Other,
}

impl Unreachable {
    /// What to try with a registry.
    pub(crate) fn advice(self, host: &str) -> String {
        let set = |setting: &str| format!("set `[registry.\"{host}\"] {setting}` in the configuration");
        match self {
            Self::NoAddress => {
                format!("check the spelling of `{host}`, and that this machine's DNS knows it")
            }
            Self::Refused => format!(
                "check that `{host}` runs and listens on this port; if it speaks plain http, {}",
                set("http = true")
            ),
            Self::NotTls => format!("if `{host}` speaks plain http, {}", set("http = true")),
            Self::UnknownAuthority => {
                format!("name the authority that signed its certificate: {}", set("ca = [\"FILE.pem\"]"))
            }
            Self::BadCertificate => {
                format!("its certificate must be valid for the name `{host}`, and today")
            }
            Self::NotForServers => format!(
                "a certificate that is an authority's own (CA:TRUE) is none of a server: let it sign one; or {}",
                set("insecure = true")
            ),
            Self::Silent | Self::Other => {
                format!("check the network, and proxies and firewalls on the way to `{host}`")
            }
        }
    }

    /// What to try with the server of a file.
    pub(crate) fn advice_for_file(self, host: &str) -> String {
        match self {
            Self::NoAddress => {
                format!("check the spelling of `{host}`; a proxy is named by https_proxy and http_proxy")
            }
            Self::NotTls => format!("if `{host}` speaks plain http, write `http://`"),
            Self::UnknownAuthority => {
                "name a file with the authority that signed its certificate in SSL_CERT_FILE".to_owned()
            }
            Self::BadCertificate => {
                format!("its certificate must be valid for the name `{host}`, and today")
            }
            Self::NotForServers => {
                "a certificate that is an authority's own (CA:TRUE) is none of a server: let it sign one"
                    .to_owned()
            }
            Self::Refused | Self::Silent | Self::Other => {
                format!(
                    "check the network and the name `{host}`; a proxy is named by https_proxy and http_proxy"
                )
            }
        }
    }
}

/// The first cause that is known, from the outside in.
pub(crate) fn cause(error: &(dyn Error + 'static)) -> Unreachable {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(cause) = known(error) {
            return cause;
        }
        next = error.source();
    }
    Unreachable::Other
}

fn known(error: &(dyn Error + 'static)) -> Option<Unreachable> {
    if error.is::<NoAddress>() {
        return Some(Unreachable::NoAddress);
    }
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        use rustls::CertificateError::{Other, UnknownIssuer};
        return match error {
            rustls::Error::InvalidCertificate(UnknownIssuer) => Some(Unreachable::UnknownAuthority),
            rustls::Error::InvalidCertificate(Other(_)) => Some(Unreachable::NotForServers),
            rustls::Error::InvalidCertificate(_) => Some(Unreachable::BadCertificate),
            rustls::Error::InvalidMessage(_) => Some(Unreachable::NotTls),
            _ => None,
        };
    }
    let error = error.downcast_ref::<io::Error>()?;
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(Unreachable::Refused),
        // Its source is the source of what it holds.
        _ => error.get_ref().and_then(|inner| known(inner)),
    }
}

/// The machine's resolver, whose failure can be told from others.
#[derive(Debug)]
pub(crate) struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let found: Vec<SocketAddr> =
                found.map_err(|error| NoAddress { name: name.as_str().to_owned(), error })?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// A name that the resolver does not know.
#[derive(Debug)]
struct NoAddress {
    name: String,
    error: io::Error,
}

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` has no address: {}", self.name, self.error)
    }
}

impl Error for NoAddress {}

#[cfg(test)]
mod tests {
    use std::io;

    use rustls::{CertificateError, Error};

    use super::{Unreachable, cause};

    #[test]
    fn the_cause_is_found_below_other_errors() {
        let wrapped = |error: Error| io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
        let of = |error: Error| cause(&wrapped(error));
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert_eq!(of(unknown), Unreachable::UnknownAuthority);
        assert_eq!(of(Error::InvalidCertificate(CertificateError::Expired)), Unreachable::BadCertificate);
        assert_eq!(cause(&io::Error::other("x")), Unreachable::Other);
        let advice = Unreachable::UnknownAuthority.advice("h:5000");
        assert!(advice.contains("ca = ") && !advice.contains("http"), "{advice}");
    }
}
