//! Signatures over SHA-256 by RSA PKCS #1 v1.5, as FIPS 186-4 has them.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use crate::ServerError;

/// The key that signs.
pub(crate) struct Signer(RsaKeyPair);

impl Signer {
    pub(crate) fn open(path: &Path) -> Result<Self, ServerError> {
        let refuse = |problem: String| {
            ServerError::content(path, format!("{problem}; give an RSA key of 2048 bits or more in PEM (PKCS #8)"))
        };
        let bytes = std::fs::read(path).map_err(ServerError::file("read", path))?;
        let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
        let pair = match &key {
            PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
            _ => return Err(refuse("it is no RSA key".into())),
        };
        pair.map(Self).map_err(|error| refuse(error.to_string()))
    }

    /// The signature of bytes, in base64.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Result<String, String> {
        let mut signature = vec![0; self.0.public().modulus_len()];
        let signed = self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), bytes, &mut signature);
        signed.map_err(|_| "the answer could not be signed".to_owned())?;
        Ok(STANDARD.encode(signature))
    }
}
