//! Remembered outputs of the frozen blocks.
//!
//! # Proof note
//!
//! *Before*: an entry for (record, block, precision) is the input of that block for that record in the base model, rounded to the
//! precision: a function of the base model, the record and the precision alone. *After*: whether an entry is found or computed again changes no bit of what is
//! trained. *Why*: a chunk always has the same number of rows (short ones are filled up) of the same number of tokens (a
//! function of the record), and each record's rows go through the blocks independently of the others', so an entry depends
//! neither on which records were asked for together nor on how many. A law in the tests holds the backend to that.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Device, Tensor, TensorData};
use s3t_core::Digest;
use s3t_models::{Backbone, Hidden, Input};
use s3t_peft::Adapters;
use s3t_peft::tensors::to_host;

use crate::Precision;
use crate::batches::by_padded_length;
use crate::remembered::Remembered;
use crate::spill::{Spill, Spilled};

/// Records that go through the frozen blocks together.
const CHUNK: usize = 32;

/// The inputs of some blocks for some records: in memory up to a limit, then in a file up to another, and computed again beyond.
pub struct ActivationCache {
    limit: usize,
    spill: Option<Spill>,
    state: Mutex<State>,
}

/// A record's digest and its prepared content.
pub(crate) type Prepared<'a> = (Digest, Input<'a>);

/// The kind of an entry among a record's entries: the input of a block, `[tokens, hidden]`, in a precision.
type Place = (usize, Precision);

type Entry = (Place, Held);

/// The values of an entry, or their place on disk.
#[derive(Clone)]
enum Held {
    Memory(Remembered),
    Disk(Arc<Spilled>),
}

impl Held {
    /// Bytes of memory.
    fn memory(&self) -> usize {
        match self {
            Self::Memory(values) => values.bytes(),
            Self::Disk(_) => 0,
        }
    }
}

#[derive(Default)]
struct State {
    bytes: usize,
    /// By record, then by block: a deletion finds all entries of a record at once.
    entries: HashMap<Digest, Vec<Entry>>,
    /// Records that are gone: what a job still computes of them is not remembered.
    forgotten: HashSet<Digest>,
}

impl ActivationCache {
    /// A cache of at most `limit` bytes of activations.
    pub fn new(limit: usize) -> Self {
        Self { limit, spill: None, state: Mutex::default() }
    }

    /// The same cache with a file of at most `limit` bytes in `folder` for what does not fit into memory; without one if it cannot
    /// be made. The file has no name, is sealed, and is gone with the process.
    #[must_use]
    pub fn with_spill(self, folder: &Path, limit: u64) -> Self {
        let spill = (limit > 0).then(|| Spill::new(folder, limit));
        Self { spill, ..self }
    }

    /// Bytes of activations held on disk.
    pub fn spilled_bytes(&self) -> usize {
        let of_entry = |(_, held): &Entry| match held {
            Held::Memory(_) => 0,
            Held::Disk(entry) => entry.bytes(),
        };
        self.lock().entries.values().flatten().map(of_entry).sum()
    }

    /// Bytes of activations held in memory.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Drops all entries of a record, for good.
    pub fn forget(&self, record: &Digest) {
        let mut state = self.lock();
        state.forgotten.insert(*record);
        if let Some(entries) = state.entries.remove(record) {
            state.bytes -= entries.iter().map(|(_, held)| held.memory()).sum::<usize>();
        }
    }

    /// Drops all entries.
    pub fn forget_all(&self) {
        let mut state = self.lock();
        state.entries.clear();
        state.bytes = 0;
    }

    /// Computes what is not remembered yet of the inputs of a block, in as few chunks as can be, up to the limit.
    pub(crate) fn prepare(&self, backbone: &Backbone, records: &[&Prepared<'_>], place: Place) {
        let size = |record: &Prepared<'_>| record.1.tokens * backbone.hidden() * place.1.bytes();
        let on_disk = self.spill.as_ref().map_or(0, |spill| spill.room() as usize);
        let mut room = self.limit.saturating_sub(self.bytes()).saturating_add(on_disk);
        let missing = (0..records.len()).filter(|index| self.find(&records[*index].0, place).is_none());
        let fitting = missing.take_while(|index| {
            let fits = size(records[*index]) <= room;
            room = room.saturating_sub(size(records[*index]));
            fits
        });
        let fitting: Vec<usize> = fitting.collect();
        self.compute(backbone, records, fitting, place, |_, _| {});
    }

    /// The input of a block in the base model for each record, padded with zeros to the longest.
    pub(crate) fn inputs(
        &self,
        backbone: &Backbone,
        device: &Device,
        records: &[&Prepared<'_>],
        place: Place,
    ) -> Hidden {
        let mut found: Vec<Option<Remembered>> = records.iter().map(|(digest, _)| self.get(digest, place)).collect();
        let missing: Vec<usize> = (0..records.len()).filter(|index| found[*index].is_none()).collect();
        self.compute(backbone, records, missing, place, |index, values| found[index] = Some(values));
        let lengths: Vec<usize> = records.iter().map(|(_, input)| input.tokens).collect();
        let (tokens, hidden) = (lengths.iter().copied().max().unwrap_or(0), backbone.hidden());
        let mut values = Vec::with_capacity(records.len() * tokens * hidden);
        for (row, entry) in (1..).zip(found.into_iter().flatten()) {
            entry.append_to(&mut values);
            values.resize(row * tokens * hidden, 0.0);
        }
        let states = Tensor::from_data(TensorData::new(values, [records.len(), tokens, hidden]), device);
        let lengths: Vec<usize> = records.iter().map(|(_, input)| input.length).collect();
        Hidden::new(states, lengths)
    }

    /// Computes the inputs of a block for the records at `missing`, remembers them up to the limit, and hands each over.
    fn compute(
        &self,
        backbone: &Backbone,
        records: &[&Prepared<'_>],
        missing: Vec<usize>,
        place: Place,
        mut take: impl FnMut(usize, Remembered),
    ) {
        for chunk in by_padded_length(missing.into_iter().map(|index| (index, records[index].1.padded)), CHUNK) {
            let of_chunk: Vec<&Input<'_>> = chunk.iter().map(|index| &records[*index].1).collect();
            for (index, values) in chunk.into_iter().zip(compute(backbone, &of_chunk, place)) {
                self.insert(records[index].0, place, &values);
                take(index, values);
            }
        }
    }

    fn get(&self, record: &Digest, place: Place) -> Option<Remembered> {
        match self.find(record, place)? {
            Held::Memory(values) => Some(values),
            // An entry that cannot be read is computed again.
            Held::Disk(entry) => self.spill.as_ref()?.read(&entry),
        }
    }

    fn find(&self, record: &Digest, place: Place) -> Option<Held> {
        let state = self.lock();
        let entries = state.entries.get(record)?;
        entries.iter().find(|(other, _)| *other == place).map(|(_, held)| held.clone())
    }

    fn insert(&self, record: Digest, place: Place, values: &Remembered) {
        let bytes = values.bytes();
        let mut state = self.lock();
        // Two jobs may compute the same entry side by side; both find the same bits.
        let is_there = |state: &State| {
            state.entries.get(&record).is_some_and(|entries| entries.iter().any(|(other, _)| *other == place))
        };
        if is_there(&state) {
            return;
        }
        let held = if state.bytes + bytes <= self.limit {
            Held::Memory(values.clone())
        } else {
            // Not while the others wait.
            drop(state);
            let Some(entry) = self.spill.as_ref().and_then(|spill| spill.write(values)) else { return };
            state = self.lock();
            Held::Disk(Arc::new(entry))
        };
        // A deletion may have come in between; dropping the entry destroys its key.
        if state.forgotten.contains(&record) || is_there(&state) {
            return;
        }
        state.bytes += held.memory();
        state.entries.entry(record).or_default().push((place, held));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Entries are added whole, so a panic elsewhere leaves no half of an entry behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The input of a block for each input of one padded length, computed in one chunk of a fixed number of rows.
fn compute(backbone: &Backbone, inputs: &[&Input<'_>], (block, precision): Place) -> Vec<Remembered> {
    let Some(first) = inputs.first() else { return Vec::new() };
    let (mut filled, padded) = (inputs.to_vec(), first.padded);
    filled.resize(CHUNK, first);
    let hidden = backbone.run(backbone.embed(&filled, padded), 0..block, &Adapters::none());
    let values = to_host(hidden.states);
    let width = backbone.hidden();
    let rows = values.chunks_exact(padded * width).zip(inputs);
    rows.map(|(row, input)| Remembered::new(&row[..input.tokens * width], precision)).collect()
}
