//! Tokens at rest: a file that holds their hashes, never the tokens.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, SaltString};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::ServerError;
use crate::random::{random_bytes, random_name};

/// The format of the file.
const FORMAT: u32 = 1;

/// The text that every token begins with, so that secret scanners find it.
pub(crate) const PREFIX: &str = "s3t_";

/// The largest file of tokens in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// A right that a token gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Ask for answers.
    Ask,
    /// Request deletions and see their state.
    Delete,
    /// See counts, receipts and audits, and whether a name was known.
    Audit,
    /// See the page and everything on it, and steer repair.
    Operate,
    /// Get the stages that answer: for followers.
    Follow,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 5] = [Self::Ask, Self::Delete, Self::Audit, Self::Operate, Self::Follow];

    /// The name in files, options and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Delete => "delete",
            Self::Audit => "audit",
            Self::Operate => "operate",
            Self::Follow => "follow",
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.name() == name);
        found.ok_or_else(|| format!("unknown role `{name}`; the roles are ask, delete, audit, operate, follow"))
    }
}

/// A token as the file holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The public part of the token, by which logs and metrics name it.
    pub id: String,
    /// The name that its maker gave it.
    pub name: String,
    /// The rights.
    pub roles: BTreeSet<Role>,
    /// The day and time of its making, RFC 3339.
    pub made: String,
    /// The most requests a second; no limit if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// The hash of the secret part, as Argon2id writes it.
    pub(crate) hash: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format: u32,
    tokens: Vec<Token>,
}

/// A new token to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// A name to recognise the token by, for example that of the program that will use it.
    pub name: String,
    /// The rights; at least one.
    pub roles: BTreeSet<Role>,
    /// The most requests a second; no limit if it is not given.
    pub requests_per_second: Option<u32>,
}

/// The file of a server's tokens.
///
/// ```
/// use s3t_server::{NewToken, Role, TokenFile};
///
/// let folder = tempfile::tempdir().unwrap();
/// let file = TokenFile::new(folder.path().join("tokens.json"));
/// let new = NewToken { name: "web shop".into(), roles: [Role::Ask].into(), requests_per_second: None };
/// let (token, secret) = file.create(new).unwrap();
/// assert!(secret.starts_with(&format!("s3t_{}_", token.id)));
/// assert_eq!(file.tokens().unwrap(), [token.clone()]);
/// file.revoke(&token.id).unwrap();
/// assert!(file.tokens().unwrap().is_empty());
/// ```
#[derive(Debug, Clone)]
pub struct TokenFile {
    path: PathBuf,
}

impl TokenFile {
    /// The file at a path. It need not be there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tokens; an empty list if there is no file.
    ///
    /// # Errors
    ///
    /// [`ServerError::File`], or [`ServerError::Content`] for a file that is not one of tokens.
    pub fn tokens(&self) -> Result<Vec<Token>, ServerError> {
        let length = match fs::metadata(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            found => found.map_err(ServerError::file("read", &self.path))?.len(),
        };
        let refuse = |problem: String| ServerError::content(&self.path, problem);
        if length > MAX_BYTES {
            return Err(refuse(format!("it has {length} bytes, and at most {MAX_BYTES} are read")));
        }
        let text = fs::read_to_string(&self.path).map_err(ServerError::file("read", &self.path))?;
        let content: Content = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        if content.format != FORMAT {
            return Err(refuse(format!("its format is {}, and this program reads format {FORMAT}", content.format)));
        }
        Ok(content.tokens)
    }

    /// Makes a token: what the file holds of it, and the token itself, which is shown once and stored nowhere.
    ///
    /// # Errors
    ///
    /// [`ServerError::Setting`] for an empty name or no role, [`ServerError::File`] if it cannot be written.
    pub fn create(&self, new: NewToken) -> Result<(Token, String), ServerError> {
        let refuse = |key, problem: &str| Err(ServerError::Setting { key, problem: problem.into() });
        if new.name.trim().is_empty() || new.name.len() > 100 || new.name.chars().any(char::is_control) {
            return refuse("token name", "takes 1 to 100 bytes without control characters");
        }
        if new.roles.is_empty() {
            return refuse("token role", "is missing; give one or more of ask, delete, audit, operate, follow");
        }
        if new.requests_per_second == Some(0) {
            return refuse("token rate", "is 0; it takes 1 or more requests a second");
        }
        let id = random_name::<6>()?;
        let secret = URL_SAFE_NO_PAD.encode(random_bytes::<32>()?);
        let failed =
            |error: argon2::password_hash::Error| ServerError::System { action: "hash", problem: error.to_string() };
        let salt = SaltString::encode_b64(&random_bytes::<16>()?).map_err(failed)?;
        let hash = Argon2::default().hash_password(secret.as_bytes(), &salt).map_err(failed)?.to_string();
        let NewToken { name, roles, requests_per_second } = new;
        let made = jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_else(|_| jiff::Timestamp::now());
        let token = Token { id, name, roles, made: made.to_string(), requests_per_second, hash };
        let text = format!("{PREFIX}{}_{secret}", token.id);
        self.change(|tokens| {
            tokens.push(token.clone());
            Ok(())
        })?;
        Ok((token, text))
    }

    /// Takes a token out of the file. A server that reads the file refuses the token within a few seconds.
    ///
    /// # Errors
    ///
    /// [`ServerError::UnknownToken`], or [`ServerError::File`] if the file cannot be written.
    pub fn revoke(&self, id: &str) -> Result<Token, ServerError> {
        let mut revoked = None;
        self.change(|tokens| {
            let at = tokens.iter().position(|token| token.id == id);
            let unknown = || ServerError::UnknownToken { id: id.to_owned(), path: self.path.clone() };
            revoked = Some(tokens.remove(at.ok_or_else(unknown)?));
            Ok(())
        })?;
        revoked.ok_or_else(|| ServerError::UnknownToken { id: id.to_owned(), path: self.path.clone() })
    }

    /// Changes the tokens, one process at a time; the file is replaced as a whole, readable by its owner only.
    fn change(&self, change: impl FnOnce(&mut Vec<Token>) -> Result<(), ServerError>) -> Result<(), ServerError> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        make_private_folder(folder)?;
        let lock_path = self.path.with_extension("lock");
        let lock = File::create(&lock_path).map_err(ServerError::file("write", &lock_path))?;
        lock.lock().map_err(ServerError::file("lock", &lock_path))?;
        let mut tokens = self.tokens()?;
        change(&mut tokens)?;
        let failed = |error: serde_json::Error| ServerError::content(&self.path, error.to_string());
        let mut text = serde_json::to_vec_pretty(&Content { format: FORMAT, tokens }).map_err(failed)?;
        text.push(b'\n');
        let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
            file.write_all(&text)?;
            file.as_file().sync_all()?;
            file.persist(&self.path).map_err(|error| error.error)?;
            File::open(folder)?.sync_all()
        });
        written.map_err(ServerError::file("write", &self.path))
    }
}

/// Makes a folder that its owner alone can use, unless it is there.
pub(crate) fn make_private_folder(folder: &Path) -> Result<(), ServerError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(ServerError::file("make", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str, roles: &[Role]) -> NewToken {
        NewToken { name: name.into(), roles: roles.iter().copied().collect(), requests_per_second: None }
    }

    #[test]
    fn the_file_holds_no_secret_and_is_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::new(folder.path().join("deep/tokens.json"));
        let (one, secret) = file.create(new("one", &[Role::Ask, Role::Delete])).unwrap();
        let (two, other) = file.create(new("two", &[Role::Audit])).unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        for (token, secret) in [(&one, &secret), (&two, &other)] {
            let random = secret.strip_prefix(&format!("{PREFIX}{}_", token.id)).unwrap();
            assert!(random.len() > 20 && !text.contains(random));
        }
        assert!(text.contains("$argon2id$"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(file.path()), mode(file.path().parent().unwrap())), (0o600, 0o700));
        }
        assert_eq!(file.revoke(&one.id).unwrap().name, "one");
        assert!(matches!(file.revoke(&one.id), Err(ServerError::UnknownToken { .. })));
        assert_eq!(file.tokens().unwrap(), [two]);
    }

    #[test]
    fn bad_tokens_and_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::new(folder.path().join("tokens.json"));
        assert!(file.create(new(" ", &[Role::Ask])).unwrap_err().to_string().contains("token name"));
        assert!(file.create(new("one", &[])).unwrap_err().to_string().contains("ask, delete, audit, operate"));
        for (text, problem) in [("{", "EOF"), ("{\"format\":2,\"tokens\":[]}", "format is 2"), ("[]", "invalid")] {
            fs::write(file.path(), text).unwrap();
            let message = file.tokens().unwrap_err().to_string();
            assert!(message.contains(problem), "{message}");
            assert!(file.create(new("one", &[Role::Ask])).is_err(), "a file that cannot be read is not replaced");
        }
        assert!("asks".parse::<Role>().is_err() && "operate".parse() == Ok(Role::Operate));
    }
}
