//! Other spellings of ids: which of the ids in a store a person cannot tell apart.
//!
//! The catalogue knows ids by their keyed digests, so that spellings can only be looked for in the records themselves. That is for
//! ids that are not there, for audits, and once for a store from before such ids were refused; nothing else waits for it.

use std::collections::{BTreeSet, HashMap};
use std::fs;

use s3t_core::spelling::{ConfusableIds, comparison_form, confusable};
use s3t_core::{Record, SubjectId};
use s3t_ledger::Named;

use crate::{Store, StoreError};

/// The key under which a catalogue says that no two ids in the store can be taken for each other.
pub(crate) const DISTINCT: &str = "ids are distinct";

/// The bytes of records that are read at most to look for other spellings of an unknown id: some seconds' work.
const LOOKED_THROUGH: u64 = 1 << 30;

/// Other spellings of a name that are in a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OtherSpellings {
    /// The spellings, in order.
    pub found: Vec<String>,
    /// The slices that were looked through.
    pub looked_through: usize,
    /// The slices that there are.
    pub slices: usize,
}

impl Store {
    /// The other spellings of each name that are in the store.
    ///
    /// # Errors
    ///
    /// [`StoreError::BeingErased`], or what is wrong with a slice.
    pub fn other_spellings(&self, names: &[Named<'_>]) -> Result<Vec<Vec<String>>, StoreError> {
        let mut wanted = Wanted::new(names);
        for address in self.settings().shape.addresses() {
            self.records(address)?.iter().for_each(|(_, record)| wanted.look_at(record));
        }
        Ok(wanted.found())
    }

    /// The error for a name that is not there. It names the other spellings that are in the first gigabyte of the records.
    pub fn unknown(&self, name: Named<'_>) -> StoreError {
        let spellings = self.spellings_nearby(name, LOOKED_THROUGH).unwrap_or_default();
        if spellings.found.is_empty() && spellings.looked_through == spellings.slices {
            return match name {
                Named::Record(record) => StoreError::UnknownRecord(record.clone()),
                Named::Subject(subject) => StoreError::UnknownSubject(subject.clone()),
            };
        }
        StoreError::OtherSpelling { kind: name.kind(), id: name.as_str().to_owned(), spellings }
    }

    /// The other spellings of a name in so many bytes of the records, or in one slice if that is more. Slices that cannot be read
    /// are passed over.
    fn spellings_nearby(&self, name: Named<'_>, bytes: u64) -> Result<OtherSpellings, StoreError> {
        let snapshot = self.snapshot()?;
        let mut wanted = Wanted::new(&[name]);
        let (mut spellings, mut read) = (OtherSpellings::default(), 0);
        for address in self.settings().shape.addresses() {
            spellings.slices += 1;
            let size = fs::metadata(self.slice_path(snapshot.generation(address))).map_or(0, |file| file.len());
            if read > 0 && read + size > bytes {
                continue;
            }
            read += size;
            if let Ok(records) = self.records(address) {
                spellings.looked_through += 1;
                records.iter().for_each(|(_, record)| wanted.look_at(record));
            }
        }
        spellings.found = wanted.found().swap_remove(0);
        Ok(spellings)
    }

    /// The ids in the store that a person cannot tell apart, in groups. A store that was made since such ids are refused has none.
    ///
    /// # Errors
    ///
    /// [`StoreError::BeingErased`], or what is wrong with a slice.
    pub fn confusable_ids(&self) -> Result<Vec<ConfusableIds<&'static str>>, StoreError> {
        confusable(|each| {
            for address in self.settings().shape.addresses() {
                for (_, record) in self.records(address)? {
                    each("record", record.id.as_str());
                    record.subject.iter().for_each(|subject| each("subject", subject.as_str()));
                }
            }
            Ok(())
        })
    }

    /// `true` if the store is known to hold no two ids that can be taken for each other: it was made since such ids are refused, or was
    /// looked through.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`].
    pub fn ids_are_distinct(&self) -> Result<bool, StoreError> {
        Ok(self.inner().catalogue.get(DISTINCT)?.is_some())
    }

    /// Remembers that the store was looked through and holds no two ids that can be taken for each other. None is ever added.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`] or [`StoreError::Io`].
    pub fn note_distinct_ids(&self) -> Result<(), StoreError> {
        self.change(|change, _| change.set(DISTINCT, &[1]))
    }
}

/// Names whose other spellings are looked for.
struct Wanted<'a> {
    names: Vec<Named<'a>>,
    /// The names of each kind and comparison form.
    forms: HashMap<(&'static str, String), Vec<usize>>,
    found: Vec<BTreeSet<String>>,
}

impl<'a> Wanted<'a> {
    fn new(names: &[Named<'a>]) -> Self {
        let mut forms: HashMap<_, Vec<usize>> = HashMap::new();
        for (index, name) in names.iter().enumerate() {
            forms.entry((name.kind(), comparison_form(name.as_str()).into_owned())).or_default().push(index);
        }
        Self { names: names.to_vec(), forms, found: vec![BTreeSet::new(); names.len()] }
    }

    fn look_at(&mut self, record: &Record) {
        let ids = [("record", Some(record.id.as_str())), ("subject", record.subject.as_ref().map(SubjectId::as_str))];
        for (kind, id) in ids {
            let Some(id) = id else { continue };
            for index in self.forms.get(&(kind, comparison_form(id).into_owned())).into_iter().flatten() {
                if self.names[*index].as_str() != id && !self.found[*index].contains(id) {
                    self.found[*index].insert(id.to_owned());
                }
            }
        }
    }

    fn found(self) -> Vec<Vec<String>> {
        self.found.into_iter().map(|found| found.into_iter().collect()).collect()
    }
}
