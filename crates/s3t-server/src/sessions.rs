//! Signed-in people: a random cookie that stands for a token, for some hours.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::ServerError;
use crate::random::random_bytes;

/// The name of the cookie.
const COOKIE: &str = "s3t-session";

/// The time for which somebody stays signed in.
const LIFETIME: Duration = Duration::from_secs(8 * 3600);

/// The most people who are signed in; beyond it the oldest is signed out.
const MAX_SESSIONS: usize = 1000;

/// The people who are signed in.
#[derive(Default)]
pub(crate) struct Sessions {
    /// The hash of each cookie, with the id of its token and the time of its making.
    known: Mutex<HashMap<blake3::Hash, (String, Instant)>>,
}

impl Sessions {
    /// Signs somebody in: the value of the header `Set-Cookie`.
    pub(crate) fn sign_in(&self, token: &str, encrypted: bool) -> Result<String, ServerError> {
        let secret = URL_SAFE_NO_PAD.encode(random_bytes::<32>()?);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (_, since)| since.elapsed() < LIFETIME);
        if known.len() >= MAX_SESSIONS
            && let Some(oldest) = known.iter().min_by_key(|(_, (_, since))| *since).map(|(hash, _)| *hash)
        {
            known.remove(&oldest);
        }
        known.insert(blake3::hash(secret.as_bytes()), (token.to_owned(), Instant::now()));
        let secure = if encrypted { "; Secure" } else { "" };
        Ok(format!("{COOKIE}={secret}; Path=/ui; Max-Age={}; HttpOnly; SameSite=Strict{secure}", LIFETIME.as_secs()))
    }

    /// Signs the sender of a request out: the value of the header `Set-Cookie`.
    pub(crate) fn sign_out(&self, headers: &HeaderMap) -> String {
        if let Some(secret) = cookie(headers) {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&blake3::hash(secret.as_bytes()));
        }
        format!("{COOKIE}=; Path=/ui; Max-Age=0; HttpOnly; SameSite=Strict")
    }

    /// The id of the token of whoever sent a request, if signed in.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Option<String> {
        let secret = cookie(headers)?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (token, since) = known.get(&blake3::hash(secret.as_bytes()))?;
        (since.elapsed() < LIFETIME).then(|| token.clone())
    }
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_stands_for_its_token_until_it_is_signed_out() {
        let sessions = Sessions::default();
        let set = sessions.sign_in("token-1", true).unwrap();
        assert!(set.contains("HttpOnly; SameSite=Strict; Secure"));
        let mut headers = HeaderMap::new();
        let value = format!("other=1; {}", set.split(';').next().unwrap());
        headers.insert(header::COOKIE, value.parse().unwrap());
        assert_eq!(sessions.caller(&headers).as_deref(), Some("token-1"));
        assert!(sessions.sign_out(&headers).contains("Max-Age=0"));
        assert_eq!(sessions.caller(&headers), None);
        assert_eq!(sessions.caller(&HeaderMap::new()), None);
    }
}
