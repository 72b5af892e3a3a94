//! The text that lets a worker join.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::ClusterError;
use crate::random::fill_randomly;

/// The environment variable in which a worker finds its invitation.
pub const INVITATION: &str = "S3T_INVITATION";

/// The length of a token, and of a fingerprint.
pub(crate) const LENGTH: usize = 32;

/// Lets workers join one launch: the fingerprint of the owner's certificate, by which they know the owner, and a token, by which the
/// owner knows them. It is a secret, and made anew for each launch.
///
/// ```
/// use s3t_cluster::Invitation;
///
/// let text = format!("s3t-invitation-1.{}.{}", "A".repeat(43), "B".repeat(42) + "A");
/// let invitation: Invitation = text.parse()?;
/// assert_eq!(*invitation.text(), text);
/// assert_eq!(format!("{invitation:?}"), "Invitation(..)");
/// # Ok::<(), s3t_cluster::ClusterError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Invitation {
    pub(crate) fingerprint: [u8; LENGTH],
    pub(crate) token: Zeroizing<[u8; LENGTH]>,
}

impl Invitation {
    /// The beginning of every invitation's text.
    pub const FORM: &str = "s3t-invitation-1";

    /// A new token beside the fingerprint of a certificate.
    pub(crate) fn new(certificate: &[u8]) -> Result<Self, ClusterError> {
        let mut token = Zeroizing::new([0; LENGTH]);
        fill_randomly(&mut *token, "a token")?;
        Ok(Self { fingerprint: fingerprint(certificate), token })
    }

    /// The text of the invitation. Whoever has it can join.
    pub fn text(&self) -> Zeroizing<String> {
        let (fingerprint, token) = (URL_SAFE_NO_PAD.encode(self.fingerprint), URL_SAFE_NO_PAD.encode(*self.token));
        Zeroizing::new(format!("{}.{fingerprint}.{token}", Self::FORM))
    }

    /// Compares a token in a time that does not depend on its bytes.
    pub(crate) fn is_token(&self, token: &[u8; LENGTH]) -> bool {
        blake3::hash(token) == blake3::hash(&*self.token)
    }
}

pub(crate) fn fingerprint(certificate: &[u8]) -> [u8; LENGTH] {
    *blake3::hash(certificate).as_bytes()
}

impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Invitation(..)")
    }
}

impl FromStr for Invitation {
    type Err = ClusterError;

    fn from_str(text: &str) -> Result<Self, ClusterError> {
        let mut parts = text.trim().split('.');
        let (Some(Self::FORM), Some(fingerprint), Some(token), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(ClusterError::Invitation("has not three parts with points between them"));
        };
        let bytes = |part: &str| {
            let mut bytes = Zeroizing::new([0; LENGTH]);
            match URL_SAFE_NO_PAD.decode_slice(part, &mut *bytes) {
                Ok(LENGTH) => Ok(bytes),
                _ => Err(ClusterError::Invitation("has a part that is damaged")),
            }
        };
        Ok(Self { fingerprint: *bytes(fingerprint)?, token: bytes(token)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_invitation_is_read() {
        let invitation = Invitation::new(b"certificate").unwrap();
        let text = invitation.text();
        assert_eq!(text.parse::<Invitation>().unwrap(), invitation);
        assert!(invitation.is_token(&invitation.token) && !invitation.is_token(&[0; LENGTH]));
        for end in 0..text.len() {
            assert!(text[..end].parse::<Invitation>().is_err(), "{end} bytes");
        }
        for spoilt in [format!("{}.x", *text), text.replace('1', "2"), format!("{}A", *text), String::new()] {
            assert!(spoilt.parse::<Invitation>().is_err(), "{spoilt}");
        }
    }
}
