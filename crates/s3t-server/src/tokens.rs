//! The tokens that a running server knows, and the callers that they stand for.
//!
//! Argon2 is slow on purpose. So a token that was verified once is known again by a keyed hash of it, for as long as the file of
//! tokens stays the same; wrong guesses are limited for each token, so that nobody buys the time of Argon2 without end.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordVerifier};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::ServerError;
use crate::random::random_bytes;
use crate::refusal::{Kind, Refusal};
use crate::token_file::{PREFIX, Role, Token, TokenFile};

/// Wrong guesses at one token that are checked in a second; the others are refused unchecked.
const GUESSES_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).expect("5 is not 0");

/// The longest token in bytes.
const MAX_TOKEN_BYTES: usize = 128;

/// Whoever makes a request.
#[derive(Clone)]
pub(crate) struct Caller {
    /// The id of the token, or `local` where there are no tokens.
    pub(crate) id: Arc<str>,
    roles: Arc<BTreeSet<Role>>,
    rate: Option<Arc<DefaultDirectRateLimiter>>,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Caller({})", self.id)
    }
}

impl Caller {
    /// The caller of a server without tokens, who is on the same machine and may do everything.
    pub(crate) fn local() -> Self {
        let roles = Arc::new(Role::ALL.into_iter().collect());
        Self { id: "local".into(), roles, rate: None }
    }

    fn of_token(token: &Token) -> Self {
        let quota = token.requests_per_second.and_then(NonZeroU32::new).map(Quota::per_second);
        Self {
            id: token.id.as_str().into(),
            roles: Arc::new(token.roles.clone()),
            rate: quota.map(|quota| Arc::new(RateLimiter::direct(quota))),
        }
    }

    pub(crate) fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// `true` if the caller may know which names were among the records.
    pub(crate) fn may_know(&self) -> bool {
        self.has(Role::Audit) || self.has(Role::Operate)
    }

    /// Counts a request against the token's rate.
    pub(crate) fn count(&self) -> Result<(), Refusal> {
        match self.rate.as_ref().map(|rate| rate.check()) {
            Some(Err(_)) => Err(Refusal::overloaded("this token has made more requests a second than it may", 1)),
            _ => Ok(()),
        }
    }
}

struct Entry {
    caller: Caller,
    hash: String,
    guesses: DefaultDirectRateLimiter,
    /// Held while a token is compared, so that requests that come together with the same token cost one comparison.
    comparing: tokio::sync::Mutex<()>,
}

/// The tokens of one version of the file.
#[derive(Default)]
struct Known {
    entries: HashMap<String, Entry>,
    /// Keyed hashes of tokens that were verified.
    verified: Mutex<HashMap<blake3::Hash, String>>,
    version: Option<SystemTime>,
}

/// The tokens of a server.
pub(crate) struct Tokens {
    file: TokenFile,
    known: RwLock<Arc<Known>>,
    /// `true` if there was no token at the start, when the server made sure that it listens on this machine only.
    was_empty: bool,
    key: [u8; 32],
}

impl Tokens {
    pub(crate) fn open(file: TokenFile) -> Result<Self, ServerError> {
        let mut tokens = Self { file, known: RwLock::default(), was_empty: false, key: random_bytes()? };
        tokens.reload()?;
        tokens.was_empty = tokens.known().entries.is_empty();
        Ok(tokens)
    }

    /// Reads the file again.
    pub(crate) fn reload(&self) -> Result<(), ServerError> {
        let version = self.version();
        let entry = |token: Token| {
            let caller = Caller::of_token(&token);
            (
                token.id,
                Entry {
                    caller,
                    hash: token.hash,
                    guesses: RateLimiter::direct(Quota::per_second(GUESSES_PER_SECOND)),
                    comparing: tokio::sync::Mutex::default(),
                },
            )
        };
        let entries = self.file.tokens()?.into_iter().map(entry).collect();
        let known = Known { entries, verified: Mutex::default(), version };
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
        Ok(())
    }

    /// Reads the file again if it has changed since.
    pub(crate) fn reload_if_changed(&self) -> Result<bool, ServerError> {
        let changed = self.known().version != self.version();
        if changed { self.reload().map(|()| true) } else { Ok(false) }
    }

    fn version(&self) -> Option<SystemTime> {
        std::fs::metadata(self.file.path()).and_then(|found| found.modified()).ok()
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// `true` if there is no token and was none at the start, so that everybody on this machine may do everything. A server whose last
    /// token is revoked may listen to other machines: it lets nobody in.
    pub(crate) fn is_empty(&self) -> bool {
        self.was_empty && self.known().entries.is_empty()
    }

    /// The caller of a token's id, while the token is in the file.
    pub(crate) fn by_id(&self, id: &str) -> Option<Caller> {
        self.known().entries.get(id).map(|entry| entry.caller.clone())
    }

    /// The caller whose token this is.
    pub(crate) async fn verify(&self, token: &str) -> Result<Caller, Refusal> {
        let unknown = || Refusal::new(Kind::Unauthorized, "unknown token; `s3t token create` makes one");
        let parts = token.strip_prefix(PREFIX).filter(|_| token.len() <= MAX_TOKEN_BYTES);
        let (id, secret) = parts.and_then(|parts| parts.split_once('_')).ok_or_else(unknown)?;
        let known = self.known();
        let entry = known.entries.get(id).ok_or_else(unknown)?;
        // Comparing keyed hashes tells nothing about the token, however long it takes.
        let fingerprint = blake3::keyed_hash(&self.key, token.as_bytes());
        let is_seen = || known.verified.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&fingerprint);
        if is_seen() {
            return Ok(entry.caller.clone());
        }
        let _comparing = entry.comparing.lock().await;
        if is_seen() {
            return Ok(entry.caller.clone());
        }
        if entry.guesses.check().is_err() {
            return Err(Refusal::overloaded("too many wrong tokens of this id", 1));
        }
        let (hash, secret) = (entry.hash.clone(), secret.to_owned());
        let is_right = tokio::task::spawn_blocking(move || {
            let hash = PasswordHash::new(&hash);
            hash.is_ok_and(|hash| Argon2::default().verify_password(secret.as_bytes(), &hash).is_ok())
        });
        if !is_right.await.unwrap_or(false) {
            return Err(unknown());
        }
        known.verified.lock().unwrap_or_else(PoisonError::into_inner).insert(fingerprint, id.to_owned());
        Ok(entry.caller.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NewToken;

    #[tokio::test]
    async fn a_token_is_known_until_it_is_revoked_and_guesses_are_limited() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::new(folder.path().join("tokens.json"));
        let new = NewToken { name: "one".into(), roles: [Role::Ask].into(), requests_per_second: Some(2) };
        let (token, secret) = file.create(new).unwrap();
        let tokens = Tokens::open(file.clone()).unwrap();
        let caller = tokens.verify(&secret).await.unwrap();
        assert_eq!((&*caller.id, caller.has(Role::Ask), caller.may_know()), (&*token.id, true, false));
        // The rate is the token's, whichever of its requests asks.
        let again = tokens.verify(&secret).await.unwrap();
        assert_eq!([caller.count().is_ok(), again.count().is_ok(), again.count().is_ok()], [true, true, false]);
        for wrong in ["", "s3t_", "s3t_x_y", &format!("s3t_{}_wrong", token.id), &"x".repeat(1 << 16)] {
            assert_eq!(tokens.verify(wrong).await.unwrap_err().kind, Kind::Unauthorized);
        }
        let mut kinds = Vec::new();
        for guess in 0..8 {
            kinds.push(tokens.verify(&format!("s3t_{}_{guess}", token.id)).await.unwrap_err().kind);
        }
        assert!(kinds.contains(&Kind::Overloaded), "{kinds:?}");
        // Whoever was verified is let in all the same.
        assert!(tokens.verify(&secret).await.is_ok());
        file.revoke(&token.id).unwrap();
        tokens.reload().unwrap();
        assert_eq!(tokens.verify(&secret).await.unwrap_err().kind, Kind::Unauthorized);
        assert!(tokens.by_id(&token.id).is_none());
        // A server that had tokens is not open to everybody when the last one is gone; one that starts without is.
        assert!(!tokens.is_empty());
        assert!(Tokens::open(file).unwrap().is_empty());
    }
}
