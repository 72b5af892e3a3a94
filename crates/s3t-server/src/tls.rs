//! Encrypted connections: certificates that can be changed while the server runs.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::ServerError;
use crate::settings::TlsSettings;

/// The certificates of a server.
pub(crate) struct Tls {
    settings: TlsSettings,
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    pub(crate) fn open(settings: TlsSettings) -> Result<Self, ServerError> {
        let config = RwLock::new(read(&settings)?);
        Ok(Self { settings, config })
    }

    /// Reads the files again. Connections that are open stay as they are.
    pub(crate) fn reload(&self) -> Result<(), ServerError> {
        let config = read(&self.settings)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

/// The certificates in a PEM file; at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ServerError> {
    let refuse = |problem: String| ServerError::content(path, problem);
    let bytes = std::fs::read(path).map_err(ServerError::file("read", path))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| refuse(format!("{error}; give certificates in PEM")))?;
    if found.is_empty() { Err(refuse("it holds no certificate in PEM".into())) } else { Ok(found) }
}

fn read(settings: &TlsSettings) -> Result<Arc<ServerConfig>, ServerError> {
    let chain = certificates(&settings.certificate)?;
    let refuse = |path: &Path, problem: String| ServerError::content(path, problem);
    let key = std::fs::read(&settings.key).map_err(ServerError::file("read", &settings.key))?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|error| refuse(&settings.key, format!("{error}; give a private key in PEM")))?;
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse(&settings.certificate, error.to_string()))?;
    let builder = match &settings.client_authority {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| refuse(path, error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| refuse(path, error.to_string()))?)
        }
    };
    let config = builder.with_single_cert(chain, key);
    let mut config = config.map_err(|error| refuse(&settings.certificate, format!("{error} (with its key)")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
