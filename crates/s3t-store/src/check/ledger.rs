//! The ledger: its signed head, the tree over its entries, the deletions that it tells of, and its files.

use std::collections::BTreeMap;

use s3t_core::Digest;
use s3t_ledger::{Checkpoint, Entry, Epoch, Event, HashSource, Receipt, root};

use super::{StoreCheck, WRITE_AGAIN};
use crate::catalogue::RequestRow;
use crate::names::{CHECKPOINT, PUBLIC_KEY};
use crate::{Store, StoreError};

impl Store {
    /// The head of the published ledger, if it is one of the catalogue's; otherwise the problem.
    fn published_head(&self, entries: u64, stored: &dyn HashSource) -> Result<Checkpoint, String> {
        let text =
            self.ledger.read_text(CHECKPOINT).map_err(|error| format!("the checkpoint cannot be read: {error}"))?;
        let head = self.verifying_key().check(&text).map_err(|error| error.to_string())?;
        if head.size > entries {
            return Err(format!("it has {} entries, and the catalogue has {entries}", head.size));
        }
        match root(head.size, stored) {
            Ok(expected) if expected == head.root => Ok(head),
            _ => Err(format!("its first {} entries are others", head.size)),
        }
    }

    pub(super) fn check_ledger(&self, with_files: bool, check: &mut StoreCheck) -> Result<(), StoreError> {
        let folder = self.ledger.path();
        let inner = self.inner();
        let catalogue = &inner.catalogue;
        let (entries, checkpoint) = catalogue.head()?;
        let path = catalogue.path().display().to_string();
        let head = match self.verifying_key().check(&checkpoint) {
            Ok(head) => head,
            Err(error) => {
                check.push(format!("`{path}`: the ledger's {error}"), None);
                return Ok(());
            }
        };
        if head.size != entries {
            let problem =
                format!("the ledger has {entries} entries, but {} were signed: some were added or dropped", head.size);
            check.push(format!("`{path}`: {problem}"), None);
            return Ok(());
        }
        // The tree is computed again from the entries: stored hashes are not believed.
        let mut hashes = Vec::new();
        let mut deletions = Deletions::default();
        let mut wrong = None;
        for index in 0..entries {
            let Some(entry) = catalogue.entry(index)? else {
                wrong = Some(format!("ledger entry {index} is missing"));
                break;
            };
            match Entry::from_bytes(index, &entry) {
                Ok(Entry { event: Event::Created { store, settings, .. }, .. })
                    if index == 0 && (store, settings) != (self.id(), self.settings().digest()) =>
                {
                    check.push("the ledger's first entry is of another store or other settings", None);
                }
                Ok(entry) => deletions.read(index, &entry.event),
                Err(error) => check.push(error.to_string(), None),
            }
            let known = |numbers: &[u64]| -> Result<Vec<s3t_ledger::Hash>, String> {
                numbers.iter().map(|number| hashes.get(*number as usize).copied().ok_or_else(String::new)).collect()
            };
            let new = s3t_ledger::new_hashes(index, &entry, &known)?.1;
            hashes.extend(new);
            check.entries += 1;
        }
        let computed = |numbers: &[u64]| -> Result<Vec<s3t_ledger::Hash>, String> {
            numbers.iter().map(|number| hashes.get(*number as usize).copied().ok_or_else(|| "missing".into())).collect()
        };
        if wrong.is_none() && root(entries, &computed)? != head.root {
            wrong = Some("an entry of the ledger is not what was signed: changed, or in another place".into());
        }
        if wrong.is_none() {
            let numbers: Vec<u64> = (0..hashes.len() as u64).collect();
            if catalogue.hashes(&numbers).ok().as_ref() != Some(&hashes) {
                wrong = Some("the stored hashes of the ledger are not those of its entries".into());
            }
        }
        if let Some(problem) = wrong {
            check.push(format!("`{path}`: {problem}"), None);
            return Ok(());
        }
        for problem in deletions.differences(&catalogue.read(|queries| queries.requests())?) {
            check.push(format!("`{path}`: {problem}; restore a copy"), None);
        }
        if !with_files {
            return Ok(());
        }
        let public = self.ledger.read_text(PUBLIC_KEY).unwrap_or_default();
        if public.trim_end() != self.verifying_key().to_string() {
            let problem = format!("`{}` is not the store's public key", folder.join(PUBLIC_KEY).display());
            check.push(problem, Some(WRITE_AGAIN));
        }
        let published = match self.published_head(entries, &computed) {
            Ok(published) => published,
            Err(problem) => {
                let problem = format!("`{}` is not what the catalogue says: {problem}", folder.display());
                check.push(problem, Some(WRITE_AGAIN));
                return Ok(());
            }
        };
        let expected = s3t_ledger::tile_files(0, published.size, &computed, &|index| {
            catalogue
                .entry(index)
                .ok()
                .flatten()
                .ok_or(s3t_ledger::LedgerError::Entry { index, problem: String::new() })
        })?;
        for file in expected {
            if self.read_tile(&file.path).ok().as_ref() != Some(&file.bytes) {
                let problem = format!("`{}` is not what the catalogue says", folder.join(&file.path).display());
                check.push(problem, Some(WRITE_AGAIN));
            }
        }
        Ok(())
    }

    fn read_tile(&self, path: &str) -> std::io::Result<Vec<u8>> {
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut folder: Option<crate::folder::Folder> = None;
        for step in folders.split('/') {
            folder = Some(folder.as_ref().unwrap_or(&self.ledger).enter(step)?);
        }
        folder.as_ref().unwrap_or(&self.ledger).read(name)
    }
}

/// The deletions that a ledger tells of, by epoch.
#[derive(Default)]
struct Deletions {
    /// Entry, commitments, records and effect of the acceptance.
    accepted: BTreeMap<Epoch, (u64, Digest, u64, Digest)>,
    effective: BTreeMap<Epoch, u64>,
    erased: BTreeMap<Epoch, u64>,
}

impl Deletions {
    fn read(&mut self, index: u64, event: &Event) {
        match event {
            Event::Accepted { epoch, named, records, effect, .. } => {
                self.accepted.insert(*epoch, (index, *named, *records, *effect));
            }
            Event::Effective { epoch, .. } => drop(self.effective.insert(*epoch, index)),
            Event::Erased { epoch } => drop(self.erased.insert(*epoch, index)),
            _ => {}
        }
    }

    /// The differences between the ledger and the catalogue's requests.
    fn differences(mut self, requests: &[RequestRow]) -> Vec<String> {
        let mut found = Vec::new();
        for row in requests {
            let epoch = row.effect.epoch;
            let named = Receipt::named_digest(&row.named);
            let said = (row.accepted, named, row.effect.records, row.effect.digest());
            if self.accepted.remove(&epoch) != Some(said) {
                found.push(format!("deletion {epoch} is not as the ledger says it was accepted"));
            }
            let done = (self.effective.remove(&epoch), self.erased.remove(&epoch));
            if done != (row.effective, row.erased) {
                found.push(format!("deletion {epoch} is not as far as the ledger says"));
            }
        }
        let others = self.accepted.into_keys().chain(self.effective.into_keys()).chain(self.erased.into_keys());
        found.extend(others.map(|epoch| format!("deletion {epoch} is in the ledger and not among the requests")));
        found
    }
}
