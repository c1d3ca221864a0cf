//! TLS to a PostgreSQL server: whom we trust, and how strictly.

use super::{Address, Tls};
use crate::base::Kind;
use crate::db::Result;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Where systems keep the authorities they trust, as one file: what client programs of before version 16 need.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The file of authorities that client programs are to trust: the same that we trust.
pub(super) fn root_file(address: &Address) -> Option<PathBuf> {
    let system = || SYSTEM_BUNDLES.iter().map(PathBuf::from).find(|path| path.exists());
    address.root_certificate.clone().or_else(system)
}

/// What shakes hands with the server of `address`.
pub(super) fn connector(address: &Address) -> Result<MakeRustlsConnect> {
    let provider = Arc::new(ring::default_provider());
    let unusable = |message: String| address.error(Kind::Usage, message);
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(format!("TLS cannot be used: {error}")))?;
    let verifier: Arc<dyn ServerCertVerifier> = match address.tls {
        Tls::VerifyFull | Tls::VerifyCa => Arc::new(verifier(address, provider)?),
        Tls::Disable | Tls::Prefer | Tls::Unverified => Arc::new(Anybody(provider)),
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let config = match &address.client_certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let certificates = certificates(certificate).map_err(&unusable)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(unreadable_key(key, &error)))?;
            builder
                .with_client_auth_cert(certificates, key)
                .map_err(|error| unusable(format!("cannot use {}: {error}", certificate.display())))?
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

/// Trusts the authorities of the file that was named, or the system's.
fn verifier(address: &Address, provider: Arc<CryptoProvider>) -> Result<Trusted> {
    let unusable = |message: String| address.error(Kind::Usage, message);
    let certificates = match &address.root_certificate {
        Some(file) => certificates(file).map_err(&unusable)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(certificates.clone());
    if usable == 0 {
        let file = address.root_certificate.as_ref();
        let what = file.map_or("no trusted authority is known".to_owned(), |file| {
            format!("{} holds no certificate of an authority", file.display())
        });
        return Err(unusable(format!("{what}: name a file with sslrootcert=FILE, or install ca-certificates")));
    }
    let by_authority = WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
        .build()
        .map_err(|error| unusable(format!("cannot trust the authorities: {error}")))?;
    Ok(Trusted { by_authority, certificates, any_name: address.tls == Tls::VerifyCa })
}

fn unreadable_key(key: &Path, error: &pem::Error) -> String {
    let remedy = match error {
        pem::Error::NoItemsFound => "; one that is encrypted has to be decrypted first: openssl pkey -in KEY -out FILE",
        _ => "",
    };
    format!("cannot read the key {}: {error}{remedy}", key.display())
}

fn certificates(file: &Path) -> std::result::Result<Vec<CertificateDer<'static>>, String> {
    let cannot = |error| format!("cannot read the certificates in {}: {error}", file.display());
    CertificateDer::pem_file_iter(file).map_err(cannot)?.collect::<Result<_, _>>().map_err(cannot)
}

/// Trusts whom an authority has signed, and a server whose very certificate is among the trusted ones: people make
/// such certificates with one command, and they count as authorities of their own.
#[derive(Debug)]
struct Trusted {
    by_authority: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
    /// `verify-ca`: the name of the host does not matter.
    any_name: bool,
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext, Other};
        use rustls::Error::InvalidCertificate;
        match self.by_authority.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last: everything else was right.
            Err(InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) if self.any_name => {}
            // "An authority is no server." Dates were looked at before, with errors of their own.
            Err(InvalidCertificate(Other(_))) if self.certificates.iter().any(|known| known == end_entity) => {
                if !self.any_name {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                }
            }
            result => return result,
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_authority.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_authority.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_authority.supported_verify_schemes()
    }
}

/// What shakes hands with anybody, for who only looks.
pub(in crate::db) fn anybody() -> (Arc<CryptoProvider>, Arc<dyn ServerCertVerifier>) {
    let provider = Arc::new(ring::default_provider());
    (provider.clone(), Arc::new(Anybody(provider)))
}

/// Trusts anybody: `prefer` and `no-verify`, where only those who merely listen are to be kept out.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, schemes)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
