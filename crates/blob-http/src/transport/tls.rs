//! Which certificates are trusted. The cryptography provider is named explicitly, so that nothing depends on a default
//! which another part of the process may have set or not.

use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use rustls_platform_verifier::Verifier;

use super::options::TransportOptions;
use crate::error::HttpError;

/// The TLS configuration without application protocols.
pub(super) fn config(options: &TransportOptions) -> Result<ClientConfig, HttpError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let failed = |what| move |source: rustls::Error| HttpError::Options { what, source: Some(source.into()) };
    let verifier = verifier(options, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed("no TLS version is usable"))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match &options.client_identity {
        None => Ok(builder.with_no_client_auth()),
        Some(identity) => builder
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(failed("the client certificate and its key cannot be used")),
    }
}

fn verifier(
    options: &TransportOptions,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, HttpError> {
    if options.danger_accept_invalid_certs {
        tracing::warn!("TLS certificates are not verified");
        return Ok(Arc::new(AcceptAny(provider.signature_verification_algorithms)));
    }
    let failed = |source: rustls::Error| HttpError::Options {
        what: "an additional certificate authority cannot be used",
        source: Some(source.into()),
    };
    if !options.system_roots {
        return among(&options.extra_roots, &[], provider).map_err(failed);
    }
    if options.extra_roots.is_empty() {
        return Ok(Arc::new(OnUse { provider: Arc::clone(provider), loaded: OnceLock::new() }));
    }
    trusted(&options.extra_roots, provider).map_err(failed)
}

/// The roots of the system, or Mozilla's where there are none, and `extra`.
fn trusted(
    extra: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, rustls::Error> {
    // Asked without the additional roots first: with them, a missing system store would go unnoticed.
    match Verifier::new(Arc::clone(provider)) {
        Ok(system) if extra.is_empty() => Ok(Arc::new(system)),
        Ok(_) => Ok(Arc::new(Verifier::new_with_extra_roots(extra.iter().cloned(), Arc::clone(provider))?)),
        Err(error) => {
            tracing::debug!(%error, "no system trust store: using Mozilla's roots");
            // Mozilla's, as compiled in.
            among(extra, webpki_root_certs::TLS_SERVER_ROOT_CERTS, provider)
        }
    }
}

/// Reads the roots when the first certificate is to be verified: parsing some 150 of them takes ten milliseconds, which
/// those who need no connection, or none with TLS, need not wait for.
#[derive(Debug)]
struct OnUse {
    provider: Arc<CryptoProvider>,
    loaded: OnceLock<Result<Arc<dyn ServerCertVerifier>, rustls::Error>>,
}

impl ServerCertVerifier for OnUse {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verifier = self.loaded.get_or_init(|| trusted(&[], &self.provider)).as_ref().map_err(Clone::clone)?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Trusts `named`, each of which must be usable, and what is usable of `bundled`.
fn among(
    named: &[CertificateDer<'static>],
    bundled: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for root in named {
        roots.add(root.clone())?;
    }
    roots.add_parsable_certificates(bundled.iter().cloned());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    Ok(verifier)
}

/// Accepts every certificate; the handshake must still be signed with its key.
#[derive(Debug)]
struct AcceptAny(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn roots_are_read_when_the_first_certificate_comes() {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = OnUse { provider, loaded: OnceLock::new() };
        assert!(!verifier.supported_verify_schemes().is_empty());
        assert!(verifier.loaded.get().is_none());
        let (certificate, name) = (CertificateDer::from(vec![1, 2, 3]), ServerName::try_from("a.example").unwrap());
        verifier.verify_server_cert(&certificate, &[], &name, &[], UnixTime::now()).unwrap_err();
        assert!(verifier.loaded.get().is_some());
    }

    #[test]
    fn a_host_without_trust_store_gets_roots() {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let bundled = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
        assert!(among(&[], bundled, &provider).is_ok());
        assert!(among(&[CertificateDer::from(vec![1, 2, 3])], bundled, &provider).is_err());
        assert!(among(&[], &[], &provider).is_err(), "nobody would be trusted");
    }
}
