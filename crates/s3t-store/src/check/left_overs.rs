//! Files and keys that the catalogue does not name: copies that somebody made, and what crashes left.

use std::collections::HashSet;
use std::path::Path;

use s3t_core::StageKey;

use super::StoreCheck;
use crate::disk::names;
use crate::names::{Generation, finished, of_unfinished, parse_stage_name};
use crate::{Snapshot, Store, StoreError, layout};

const REMOVE_FILE: &str = "removes the file";
const RESTRICT: &str = "lets only their owner use them";

impl Store {
    /// Files that are not the store's, for example copies that somebody made, and what crashes left.
    pub(super) fn check_names(&self, held: bool, check: &mut StoreCheck) -> Result<(), StoreError> {
        let snapshot = self.snapshot()?;
        layout::foreign(&self.folder)?.iter().for_each(|path| foreign(check, path));
        self.keys.foreign()?.iter().for_each(|path| foreign(check, path));
        for address in self.settings().shape.addresses().filter(|_| self.is_encrypted()) {
            if let Err(error) = self.keys.check_slice(snapshot.generation(address)) {
                check.push(error.to_string(), None);
            }
        }
        let (writable, readable) = self.keys.exposed()?;
        for path in writable {
            check.push(format!("`{}` can be changed by others than its owner", path.display()), Some(RESTRICT));
        }
        if let Some(first) = readable.first() {
            check.notes.push(format!(
                "{} key files can be read by others than their owner, for example `{}`; `--repair` {RESTRICT}",
                readable.len(),
                first.display()
            ));
        }
        if !held {
            return Ok(());
        }
        // Files and keys that a killed erasure left belong to the deletion that is waiting, and go with it.
        if snapshot.unerased().is_empty() {
            self.check_unnamed_slices(&snapshot, check)?;
        }
        let unnamed = self.unnamed_stages(|key| snapshot.has_stage(key))?;
        if !unnamed.is_empty() {
            self.check_unnamed_stages(&unnamed, check)?;
        }
        Ok(())
    }

    /// Files and keys of slices that the catalogue does not name, while no deletion waits for its erasure.
    fn check_unnamed_slices(&self, snapshot: &Snapshot, check: &mut StoreCheck) -> Result<(), StoreError> {
        let named = self.slice_files(snapshot);
        for name in names(&self.records)? {
            let is_own = Generation::of_records(finished(&name)).is_some();
            if is_own && !named.contains(&name) {
                left_over(check, &self.records.path_of(&name));
            }
        }
        for generation in self.keys.slices()? {
            let shape = self.settings().shape;
            let inside = generation.slice.shard.0 < shape.shards && generation.slice.slice.0 < shape.slices;
            if self.is_encrypted() && (!inside || snapshot.generation(generation.slice) != generation) {
                let problem = format!("the key of {} before its last erasure is still there", generation.slice);
                check.push(problem, Some("destroys the key"));
            }
        }
        if self.keys.has_unfinished()? {
            // Written under another name until it is whole: no file was ever sealed with it.
            check.waiting.push(
                "a key file was left unfinished by a process that was killed; the next command that changes the store destroys it"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// The files of stages that are not among these, and unfinished ones.
    fn unnamed_stages(&self, is_named: impl Fn(&StageKey) -> bool) -> Result<HashSet<String>, StoreError> {
        let unnamed = |name: &String| match of_unfinished(name) {
            Some(finished) => parse_stage_name(finished).is_some(),
            None => parse_stage_name(name).is_some_and(|key| !is_named(&key)),
        };
        Ok(names(&self.stages)?.into_iter().filter(unnamed).collect())
    }

    /// Looks at unnamed stages again while nobody can add one: those that are still there were left by a crash. A live stage of the
    /// plan was being built: nothing deleted is in its file, which goes when the stage is built or its slices are hit.
    fn check_unnamed_stages(&self, unnamed: &HashSet<String>, check: &mut StoreCheck) -> Result<(), StoreError> {
        let _adding = match self.lock_adding() {
            Err(StoreError::Adding { holder, .. }) => {
                check.notes.push(format!("{holder} is adding a stage, so left-overs among them were not looked for"));
                return Ok(());
            }
            // Where it cannot be written, nobody can.
            Err(StoreError::Io { .. }) => None,
            lock => Some(lock?),
        };
        let snapshot = self.present()?;
        // Stages that a deletion has cut off are waiting to be erased.
        if !snapshot.unerased().is_empty() {
            return Ok(());
        }
        let is_live = |name: &str| parse_stage_name(finished(name)).is_some_and(|key| snapshot.is_live(&key));
        let now = self.unnamed_stages(|key| snapshot.has_stage(key))?;
        let mut left: Vec<(bool, &String)> = now.intersection(unnamed).map(|name| (is_live(name), name)).collect();
        left.sort();
        for (is_live, name) in left {
            let path = self.stages.path_of(name);
            if is_live {
                check.waiting.push(format!(
                    "`{}` was left by a build that was killed; the next command that changes the store removes it",
                    path.display()
                ));
            } else {
                left_over(check, &path);
            }
        }
        Ok(())
    }
}

fn foreign(check: &mut StoreCheck, path: &Path) {
    let problem =
        format!("`{}` is in the store but not the store's; if it is a copy, erasures do not reach it", path.display());
    check.push(problem, None);
}

fn left_over(check: &mut StoreCheck, path: &Path) {
    check.push(format!("`{}` is named by nothing: a crash left it", path.display()), Some(REMOVE_FILE));
}
