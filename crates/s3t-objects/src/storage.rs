//! A bucket or a folder, with calls that wait.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutResult, RetryConfig,
};
use s3t_executor::ExecutorError;
use tokio::runtime::{Builder, Runtime};

use crate::settings::{ObjectStorage, Scheme};
use crate::transport::Connector;

/// The attempts of a request after the first, and the time after which none is made.
const RETRIES: usize = 5;
const RETRY_TIME: Duration = Duration::from_secs(20);

/// The max number of letters of the storage's own words that are told.
const MAX_WORDS: usize = 400;

/// Threads that remove objects side by side.
const THREADS: usize = 8;

pub(crate) struct Storage {
    store: Arc<dyn ObjectStore>,
    runtime: Runtime,
    pub(crate) scheme: Scheme,
    /// The path below which everything is.
    base: Path,
    /// The folder, of storage that is one.
    folder: Option<PathBuf>,
    pub(crate) address: String,
}

impl Storage {
    pub(crate) fn open(settings: &ObjectStorage) -> Result<Self, ExecutorError> {
        let (scheme, url) = settings.parsed()?;
        let address = settings.url.trim_end_matches('/').to_owned();
        let failed = |problem: String| ExecutorError::Storage { place: address.clone(), problem };
        let unusable = |error: Error| failed(format!("cannot be used: {}", words(&error)));
        let backoff =
            BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(4), base: 2.0 };
        let retry = RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_TIME };
        let mut options = ClientOptions::new();
        if settings.allow_http {
            options = options.with_allow_http(true);
        }
        let mut folder = None;
        let store: Arc<dyn ObjectStore> = match scheme {
            Scheme::S3 => {
                let mut builder = AmazonS3Builder::from_env().with_url(&settings.url).with_client_options(options);
                if let Some(endpoint) = &settings.endpoint {
                    builder = builder.with_endpoint(endpoint);
                }
                if let Some(region) = &settings.region {
                    builder = builder.with_region(region);
                }
                Arc::new(builder.with_retry(retry).with_http_connector(Connector).build().map_err(unusable)?)
            }
            Scheme::Google => {
                let mut builder = GoogleCloudStorageBuilder::from_env().with_url(&settings.url);
                if let Some(endpoint) = &settings.endpoint {
                    builder = builder.with_base_url(endpoint);
                }
                let builder = builder.with_client_options(options).with_retry(retry).with_http_connector(Connector);
                Arc::new(builder.build().map_err(unusable)?)
            }
            Scheme::Azure => {
                let mut builder = MicrosoftAzureBuilder::from_env().with_url(&settings.url);
                if let Some(endpoint) = &settings.endpoint {
                    builder = builder.with_endpoint(endpoint.clone());
                }
                let builder = builder.with_client_options(options).with_retry(retry).with_http_connector(Connector);
                Arc::new(builder.build().map_err(unusable)?)
            }
            Scheme::Folder => {
                let path = url.to_file_path().map_err(|()| failed("is no path of a folder".into()))?;
                let is_there = path.is_dir();
                if !is_there {
                    return Err(failed(
                        "is not there; give a folder that is there, and that the machines of the workers have too"
                            .into(),
                    ));
                }
                let local = LocalFileSystem::new_with_prefix(&path).map_err(unusable)?;
                folder = Some(path);
                Arc::new(local.with_automatic_cleanup(true))
            }
        };
        let base = match scheme {
            Scheme::Folder => Path::default(),
            _ => Path::from_url_path(url.path())
                .map_err(|error| failed(format!("has a path that cannot be used: {error}")))?,
        };
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("s3t-objects").enable_time().build();
        let runtime = runtime.map_err(|error| {
            failed(format!(
                "cannot be used: no thread can be started ({error}); raise the limit of processes (`ulimit -u`)"
            ))
        })?;
        Ok(Self { store, runtime, scheme, base, folder, address })
    }

    fn path(&self, below: &str) -> Path {
        below.split('/').fold(self.base.clone(), |path, part| path.join(part))
    }

    /// A failure of this storage while it did something.
    pub(crate) fn failed(&self, action: &str, error: &Error) -> ExecutorError {
        let hint = match (error, self.scheme) {
            (Error::NotFound { .. }, Scheme::Folder) => "; give a folder that is there",
            (Error::NotFound { .. }, _) => "; give a bucket that is there",
            (_, Scheme::Folder) => "",
            _ => {
                let variables = self.scheme.credentials();
                let problem = format!(
                    "does not {action}: {}; credentials come from the environment of each process ({variables}), and must \
                     allow to put, get, list and delete",
                    words(error)
                );
                return ExecutorError::Storage { place: self.address.clone(), problem };
            }
        };
        ExecutorError::Storage {
            place: self.address.clone(),
            problem: format!("does not {action}: {}{hint}", words(error)),
        }
    }

    pub(crate) fn put(&self, name: &str, bytes: Vec<u8>) -> Result<PutResult, ExecutorError> {
        let put = self.runtime.block_on(self.store.put(&self.path(name), bytes.into()));
        put.map_err(|error| self.failed("take an object", &error))
    }

    /// The bytes of an object, and its description; `None` if it is not there.
    pub(crate) fn get(
        &self,
        name: &str,
        version: Option<String>,
    ) -> Result<Option<(Vec<u8>, ObjectMeta)>, ExecutorError> {
        let path = self.path(name);
        let got = self.runtime.block_on(async {
            let got = self.store.get_opts(&path, GetOptions { version, ..GetOptions::default() }).await?;
            let meta = got.meta.clone();
            Ok::<_, Error>((got.bytes().await?, meta))
        });
        match got {
            Ok((bytes, meta)) => Ok(Some((bytes.into(), meta))),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("give an object", &error)),
        }
    }

    pub(crate) fn delete(&self, names: &[String]) -> Result<(), ExecutorError> {
        let delete = |name: &String| match self.runtime.block_on(self.store.delete(&self.path(name))) {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("remove an object", &error)),
        };
        let part = names.len().div_ceil(THREADS).max(1);
        std::thread::scope(|scope| {
            let mut parts = names.chunks(part);
            let first = parts.next().unwrap_or_default();
            let others: Vec<_> = parts.map(|part| scope.spawn(move || part.iter().try_for_each(delete))).collect();
            let mut result = first.iter().try_for_each(delete);
            for other in others {
                result = result.and(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            result
        })
    }

    /// The names of the objects below a name, without it.
    pub(crate) fn list(&self, below: &str) -> Result<Vec<String>, ExecutorError> {
        let prefix = self.path(below);
        let found: Result<Vec<ObjectMeta>, Error> = self.runtime.block_on(self.store.list(Some(&prefix)).try_collect());
        let found = match found {
            Ok(found) => found,
            Err(Error::NotFound { .. }) if self.folder.is_some() => Vec::new(),
            Err(error) => return Err(self.failed("list its objects", &error)),
        };
        let name = |meta: &ObjectMeta| {
            let parts: Vec<String> =
                meta.location.prefix_match(&prefix)?.map(|part| part.as_ref().to_owned()).collect();
            Some(parts.join("/"))
        };
        Ok(found.iter().filter_map(name).collect())
    }

    /// Removes the files that a killed put has left in a folder, which are no objects.
    pub(crate) fn remove_leftovers(&self, below: &str) {
        if let Some(folder) = &self.folder {
            let folder = folder.join(below);
            let _ = std::fs::remove_dir_all(&folder);
            // The folder of the store, if no other launch is in it.
            let _ = folder.parent().map(std::fs::remove_dir);
        }
    }
}

/// The words of a failure, without the circumstances of every attempt.
fn words(error: &Error) -> String {
    let text = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(MAX_WORDS) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text,
    }
}
