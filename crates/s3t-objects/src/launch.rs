//! The folder of a launch, from its beginning to its end.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use s3t_executor::{ExecutorError, LAUNCH_OBJECT, ObjectFolder};
use serde::{Deserialize, Serialize};

use crate::process::Process;
use crate::settings::{ObjectStorage, Scheme};
use crate::storage::Storage;

/// The time between two renewals of a launch's entry, and the age of an entry whose launch has ended.
const RENEW: Duration = Duration::from_secs(600);
const STALE_SECONDS: i64 = 4 * 3600;

/// The name of the object by which a launch tries what it needs.
const TRIAL: &str = "trial";

/// The folder of a launch, as a worker is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchAddress {
    storage: ObjectStorage,
    folder: String,
}

impl LaunchAddress {
    /// Opens the folder, without a call of the storage.
    ///
    /// # Errors
    ///
    /// [`ExecutorError::InvalidField`] and [`ExecutorError::Storage`].
    pub fn open(&self) -> Result<Launch, ExecutorError> {
        let storage = Storage::open(&self.storage)?;
        Ok(Launch { storage, address: self.clone(), renewed: Mutex::new(Instant::now()) })
    }
}

/// The folder of a launch.
pub struct Launch {
    storage: Storage,
    address: LaunchAddress,
    renewed: Mutex<Instant>,
}

impl Launch {
    /// Begins a launch of a store: tries whether the storage takes, gives, lists and removes objects and keeps none that were removed.
    /// Removes the objects of launches of the same store whose processes have ended.
    ///
    /// # Errors
    ///
    /// [`ExecutorError::InvalidField`] and [`ExecutorError::Storage`].
    pub fn begin(settings: &ObjectStorage, store: &str, launch: &str) -> Result<Self, ExecutorError> {
        let address = LaunchAddress { storage: settings.clone(), folder: format!("{store}/{launch}") };
        let launch = address.open()?;
        let begun = launch.enter().and_then(|()| launch.try_out()).and_then(|()| launch.sweep());
        if begun.is_err() {
            let _ = launch.end();
        }
        begun.map(|()| launch)
    }

    /// The address for workers.
    pub fn address(&self) -> &LaunchAddress {
        &self.address
    }

    fn name(&self, object: &str) -> String {
        format!("{}/{object}", self.address.folder)
    }

    fn refuse(&self, problem: impl Into<String>) -> ExecutorError {
        ExecutorError::Storage { place: self.storage.address.clone(), problem: problem.into() }
    }

    /// Writes the entry of the launch, by which others see that it is there.
    fn enter(&self) -> Result<(), ExecutorError> {
        let entry = serde_json::to_vec(&Process::this()).map_err(|error| self.refuse(error.to_string()))?;
        self.storage.put(&self.name(LAUNCH_OBJECT), entry).map(drop)
    }

    /// Renews the entry of the launch, now and then.
    pub fn renew(&self) {
        let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        if renewed.elapsed() >= RENEW {
            *renewed = Instant::now();
            // An entry that is gone is not written again: other storage, such as a folder that is not mounted, is not to look like this one.
            let renewed = match self.storage.get(&self.name(LAUNCH_OBJECT), None) {
                Ok(Some(_)) => self.enter(),
                Ok(None) => Err(self.refuse("does not show this launch any more")),
                Err(error) => Err(error),
            };
            if let Err(error) = renewed {
                tracing::warn!(%error, "the entry of the launch is renewed later");
            }
        }
    }

    fn try_out(&self) -> Result<(), ExecutorError> {
        let (name, bytes) = (self.name(TRIAL), b"s3t tries this storage".to_vec());
        let version = self.storage.put(&name, bytes.clone())?.version;
        let kept = "keeps objects that are removed (its versioning is on); use a bucket without versioning, soft delete and retention";
        let found = self.storage.get(&name, None)?.map(|(found, _)| found);
        let is_listed = self.list()?.contains(&TRIAL.to_owned());
        self.storage.delete(std::slice::from_ref(&name))?;
        if found != Some(bytes) || !is_listed {
            return Err(self.refuse("does not give or list an object that was put"));
        }
        if self.list()?.contains(&TRIAL.to_owned()) || self.storage.get(&name, None)?.is_some() {
            return Err(self.refuse("does not remove an object that was removed"));
        }
        match version {
            // Google gives every object a number: only reading it tells.
            Some(version) if self.storage.scheme == Scheme::Google => match self.storage.get(&name, Some(version))? {
                Some(_) => Err(self.refuse(kept)),
                None => Ok(()),
            },
            Some(version) if version != "null" => Err(self.refuse(kept)),
            _ => Ok(()),
        }
    }

    /// Removes the objects of launches of this store whose processes have ended.
    fn sweep(&self) -> Result<(), ExecutorError> {
        let Some((store, own)) = self.address.folder.split_once('/') else { return Ok(()) };
        let mut launches: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in self.storage.list(store)? {
            let Some((launch, object)) = name.split_once('/') else { continue };
            let objects = launches.entry(launch.to_owned()).or_default();
            // The entry goes last: without it nobody knows that the others are left.
            if object != LAUNCH_OBJECT {
                objects.push(format!("{store}/{name}"));
            }
        }
        let entry = |launch: &str| self.storage.get(&format!("{store}/{launch}/{LAUNCH_OBJECT}"), None);
        let now = entry(own)?.map(|(_, meta)| meta.last_modified.timestamp());
        for (launch, objects) in launches.into_iter().filter(|(launch, _)| launch != own) {
            let is_over = match entry(&launch)? {
                None => true,
                Some((bytes, meta)) => {
                    let process: Process = serde_json::from_slice(&bytes).unwrap_or_default();
                    let age = now.map_or(0, |now| now - meta.last_modified.timestamp());
                    process.has_ended().unwrap_or(age > STALE_SECONDS)
                }
            };
            if is_over {
                tracing::info!(launch, objects = objects.len(), "objects of a launch that has ended are removed");
                self.storage.delete(&objects)?;
                self.storage.delete(&[format!("{store}/{launch}/{LAUNCH_OBJECT}")])?;
                self.storage.remove_leftovers(&format!("{store}/{launch}"));
            }
        }
        Ok(())
    }

    /// Ends the launch: removes every object of it, and of launches of the same store that have ended.
    ///
    /// # Errors
    ///
    /// [`ExecutorError::Storage`]: then the next launch of the store removes them.
    pub fn end(&self) -> Result<(), ExecutorError> {
        let names = self.storage.list(&self.address.folder)?;
        let objects: Vec<String> =
            names.iter().filter(|name| *name != LAUNCH_OBJECT).map(|name| self.name(name)).collect();
        self.storage.delete(&objects)?;
        self.storage.delete(&[self.name(LAUNCH_OBJECT)])?;
        self.storage.remove_leftovers(&self.address.folder);
        Ok(())
    }
}

impl ObjectFolder for Launch {
    fn place(&self) -> String {
        format!("{}/{}", self.storage.address, self.address.folder)
    }

    fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), ExecutorError> {
        self.storage.put(&self.name(name), bytes).map(drop)
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, ExecutorError> {
        let missing = || ExecutorError::NoObject { place: self.place(), name: name.to_owned() };
        self.storage.get(&self.name(name), None)?.map(|(bytes, _)| bytes).ok_or_else(missing)
    }

    fn delete(&self, names: &[String]) -> Result<(), ExecutorError> {
        let names: Vec<String> = names.iter().map(|name| self.name(name)).collect();
        self.storage.delete(&names)
    }

    fn list(&self) -> Result<Vec<String>, ExecutorError> {
        self.storage.list(&self.address.folder)
    }
}
