//! TLS 1.3 between an owner and its workers: a certificate for one launch, which workers know by its fingerprint.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring::default_provider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, ServerConfig, ServerConnection, SignatureScheme,
};

use crate::invitation::{LENGTH, fingerprint};
use crate::{ClusterError, Invitation};

/// The name in the certificate. Nobody relies on it.
const NAME: &str = "s3t";

/// The owner's side of a launch.
pub(crate) struct Owner {
    config: Arc<ServerConfig>,
    pub(crate) invitation: Invitation,
}

impl Owner {
    /// A new certificate and a new token.
    pub(crate) fn new() -> Result<Self, ClusterError> {
        let failed = |error: &dyn std::fmt::Display| {
            ClusterError::Machine(format!("this machine can make no certificate for workers: {error}"))
        };
        let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).map_err(|error| failed(&error))?;
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let invitation = Invitation::new(&certificate)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13])
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key))
            .map_err(|error| failed(&error))?;
        // A worker that comes again greets again.
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), invitation })
    }

    pub(crate) fn connection(&self) -> Result<ServerConnection, Error> {
        ServerConnection::new(Arc::clone(&self.config))
    }
}

/// The worker's side of a connection.
pub(crate) fn connection(invitation: &Invitation) -> Result<ClientConnection, Error> {
    let provider = Arc::new(default_provider());
    let pinned = Pinned { fingerprint: invitation.fingerprint, provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned))
        .with_no_client_auth();
    let name = ServerName::try_from(NAME).map_err(|error| Error::General(error.to_string()))?;
    ClientConnection::new(Arc::new(config), name)
}

/// Takes the one certificate of the invitation, and no other.
#[derive(Debug)]
struct Pinned {
    fingerprint: [u8; LENGTH],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if fingerprint(end_entity) == self.fingerprint {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::General("its certificate is not the one of the invitation".into()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
