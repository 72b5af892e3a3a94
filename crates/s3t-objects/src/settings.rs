//! The setting `objects` of an executor.

use s3t_executor::ExecutorError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

/// Object storage through which records and stages travel to workers and back, so that each is sent once and not once for each worker.
/// Credentials come from the environment of this process and of each worker.
///
/// ```
/// use s3t_objects::ObjectStorage;
///
/// let storage = ObjectStorage::new("s3://bucket/s3t");
/// storage.check()?;
/// assert!(ObjectStorage::new("bucket/s3t").check().is_err());
/// # Ok::<(), s3t_executor::ExecutorError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectStorage {
    /// The address below which objects are left while stages are trained: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`,
    /// `az://CONTAINER/PREFIX`, or `file:///FOLDER` for a folder that all machines share.
    pub url: String,
    /// The address of a server that is not the cloud's own, such as `https://minio.example:9000`.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The region of an S3 bucket; the variable `AWS_REGION` if it is left out.
    #[serde(default)]
    pub region: Option<String>,
    /// True if the endpoint may be reached without TLS. Objects are sealed; credentials and names are not.
    #[serde(default)]
    pub allow_http: bool,
    /// Parts of fewer kilobytes go over the connections of the workers.
    #[serde(default = "min_kilobytes")]
    pub min_kilobytes: u64,
}

fn min_kilobytes() -> u64 {
    64
}

/// The kinds of storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    S3,
    Google,
    Azure,
    Folder,
}

impl Scheme {
    /// The variables that credentials come from, for messages.
    pub(crate) fn credentials(self) -> &'static str {
        match self {
            Self::S3 => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role of the machine",
            Self::Google => "GOOGLE_APPLICATION_CREDENTIALS, or a service account of the machine",
            Self::Azure => "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, or an identity of the machine",
            Self::Folder => "the rights of the user",
        }
    }
}

impl ObjectStorage {
    /// The storage at an address, with everything else as it is by default.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), endpoint: None, region: None, allow_http: false, min_kilobytes: min_kilobytes() }
    }

    /// Checks every field.
    ///
    /// # Errors
    ///
    /// [`ExecutorError::InvalidField`] for the first field that cannot be used.
    pub fn check(&self) -> Result<(), ExecutorError> {
        self.parsed().map(drop)
    }

    pub(crate) fn parsed(&self) -> Result<(Scheme, Url), ExecutorError> {
        let refuse = |problem: String| Err(ExecutorError::InvalidField { field: "objects", problem });
        let forms = "give `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX` or `file:///FOLDER`";
        let Ok(url) = Url::parse(&self.url) else {
            return refuse(format!("has the url `{}`; {forms}", self.url));
        };
        let scheme = match url.scheme() {
            "s3" => Scheme::S3,
            "gs" => Scheme::Google,
            "az" => Scheme::Azure,
            "file" => Scheme::Folder,
            _ => return refuse(format!("has the url `{}`; {forms}", self.url)),
        };
        let is_whole = match scheme {
            Scheme::Folder => url.host_str().is_none() && url.path().len() > 1,
            _ => url.host_str().is_some_and(|bucket| !bucket.is_empty()),
        };
        let has_more = !url.username().is_empty() || url.password().is_some() || url.port().is_some();
        if !is_whole || has_more || url.query().is_some() || url.fragment().is_some() {
            // A secret that stands there is not told again.
            let what = if has_more {
                "a url with a user, a password or a port".to_owned()
            } else {
                format!("the url `{}`", self.url)
            };
            return refuse(format!("has {what}; {forms}, and nothing else"));
        }
        if let Some(endpoint) = &self.endpoint {
            let is_http = match Url::parse(endpoint).map(|url| url.scheme().to_owned()).as_deref() {
                Ok("https") => false,
                Ok("http") => true,
                _ => {
                    return refuse(format!(
                        "has the endpoint `{endpoint}`; give an address such as https://minio.example:9000"
                    ));
                }
            };
            if is_http && !self.allow_http {
                return refuse(format!(
                    "has the endpoint `{endpoint}`; use https, or set `allow_http = true` where the way is yours"
                ));
            }
            if scheme == Scheme::Folder {
                return refuse("has an endpoint, and a folder has none; leave it out".into());
            }
        }
        if self.region.is_some() && scheme != Scheme::S3 {
            return refuse("has a region, which only S3 has; leave it out".into());
        }
        Ok((scheme, url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_settings_are_refused_by_name() {
        let storage = |url: &str| ObjectStorage::new(url);
        for url in ["s3://bucket", "s3://bucket/a/b", "gs://b/p", "az://c/p", "file:///shared/you"] {
            storage(url).check().unwrap();
        }
        let at = |endpoint: &str| ObjectStorage { endpoint: Some(endpoint.into()), ..storage("s3://bucket") };
        at("https://minio:9000").check().unwrap();
        ObjectStorage { allow_http: true, ..at("http://minio:9000") }.check().unwrap();
        let spoilt = [
            storage("bucket"),
            storage("https://bucket.example"),
            storage("s3://"),
            storage("s3:///prefix"),
            storage("s3://key:secret@bucket"),
            storage("s3://bucket?region=x"),
            storage("file://host/folder"),
            storage("file:///"),
            at("minio:9000"),
            at("http://minio:9000"),
            ObjectStorage { url: "file:///shared".into(), ..at("https://minio:9000") },
            ObjectStorage { region: Some("eu-west-1".into()), ..storage("gs://bucket") },
        ];
        for spoilt in spoilt {
            let message = spoilt.check().unwrap_err().to_string();
            assert!(message.starts_with("`objects` has "), "{message}");
        }
    }
}
