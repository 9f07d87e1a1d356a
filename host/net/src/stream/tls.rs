//! TLS for SIP: whom we show ourselves as, whom we believe, and by which names a peer is known.
//!
//! Called by the server when it reads a configuration, off the shard's thread: files are read and
//! checked here alone. What comes out is shared, immutable, and given to the connections; a new
//! configuration makes new values, and connections that are up keep theirs.
//!
//! Names follow RFC 5922: a `sip:` URI of the certificate's alternative names counts, DNS names count
//! only when there is no such URI, the subject's common name never does, and a wildcard matches nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
};

/// A certificate with its chain, and the key that belongs to it, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate first, then what its issuer needs.
    pub certificate: PathBuf,
    /// PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: PathBuf,
}

/// Whose client certificates a listener asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clients {
    /// PEM file of the authorities.
    pub ca: PathBuf,
    /// Whether a client without a certificate is turned away. Otherwise it is served, nameless.
    pub required: bool,
}

/// Why there is no TLS: the operator's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsError {
    /// The file at fault.
    pub file: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.why)
    }
}

impl std::error::Error for TlsError {}

fn wrong(file: &Path, why: impl fmt::Display) -> TlsError {
    TlsError { file: file.to_owned(), why: why.to_string() }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .map_err(|e| wrong(file, format!("cannot be read as PEM: {e}")))?
        .collect();
    let found = found.map_err(|e| wrong(file, format!("is not PEM: {e}")))?;
    if found.is_empty() {
        return Err(wrong(file, "has no certificate in it; expected `-----BEGIN CERTIFICATE-----`"));
    }
    Ok(found)
}

fn key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(file)
        .map_err(|e| wrong(file, format!("has no private key that is not encrypted: {e}")))
}

fn roots(file: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(file)? {
        store.add(certificate).map_err(|e| wrong(file, format!("an authority cannot be used: {e}")))?;
    }
    Ok(Arc::new(store))
}

/// Reads an identity; the key must belong to the certificate.
///
/// # Errors
/// A file that cannot be read, is no PEM, or a key of another certificate.
fn identity(identity: &Identity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = certificates(&identity.certificate)?;
    let key = key(&identity.key)?;
    rustls::sign::CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider()).map_err(
        |e| match e {
            rustls::Error::InconsistentKeys(_) => {
                wrong(&identity.key, format!("is not the key of {}", identity.certificate.display()))
            }
            other => wrong(&identity.certificate, format!("cannot be used: {other}")),
        },
    )?;
    Ok((chain, key))
}

/// What a listener shows, and whom it asks for a certificate.
///
/// # Errors
/// A file that cannot be used.
pub fn server(own: &Identity, clients: Option<&Clients>) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = identity(own)?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong(&own.certificate, e))?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut verifier = WebPkiClientVerifier::builder_with_provider(roots(&clients.ca)?, provider());
            if !clients.required {
                verifier = verifier.allow_unauthenticated();
            }
            builder.with_client_cert_verifier(verifier.build().map_err(|e| wrong(&clients.ca, e))?)
        }
    };
    let config = builder.with_single_cert(chain, key).map_err(|e| wrong(&own.certificate, e))?;
    Ok(Arc::new(config))
}

/// How we connect: whom we believe (`ca`, or the public authorities), and what we show when asked.
///
/// # Errors
/// A file that cannot be used.
pub fn client(ca: Option<&Path>, own: Option<&Identity>) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match ca {
        Some(file) => roots(file)?,
        None => Arc::new(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }),
    };
    let at_fault = ca.or(own.map(|o| &*o.certificate)).unwrap_or(Path::new("tls")).to_owned();
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong(&at_fault, e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(SipServers { roots, provider: provider() }));
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let (chain, key) = identity(own)?;
            builder.with_client_auth_cert(chain, key).map_err(|e| wrong(&own.certificate, e))?
        }
    };
    Ok(Arc::new(config))
}

/// The SIP identities of a certificate (RFC 5922 7.1), in lower case.
#[must_use]
pub fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return Vec::new() };
    // "sip" URIs without a user part are identities of a domain; sips is no valid scheme there (7.1).
    let uris: Vec<String> = certificate
        .valid_uri_names()
        .filter_map(|uri| uri.get(..4).filter(|s| s.eq_ignore_ascii_case("sip:")).map(|_| &uri[4..]))
        .filter(|host| !host.contains('@'))
        .map(|host| host.split([';', '?']).next().unwrap_or(host).to_ascii_lowercase())
        .collect();
    if !uris.is_empty() {
        return uris;
    }
    certificate.valid_dns_names().map(str::to_ascii_lowercase).collect()
}

/// Judges the servers that we connect to.
#[derive(Debug)]
struct SipServers {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for SipServers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        match server_name {
            // 7.2: equal without regard to case; "a wildcard MUST NOT match".
            ServerName::DnsName(wanted) => {
                if !names(end_entity).iter().any(|name| wanted.as_ref().eq_ignore_ascii_case(name)) {
                    return Err(CertificateError::NotValidForName.into());
                }
            }
            other => verify_server_name(&parsed, other)?,
        }
        Ok(ServerCertVerified::assertion())
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
