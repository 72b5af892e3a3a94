//! The system, the stream and the extent of a simulation.

use s3t_core::{PartitionShape, PerShard, Sequence};

use crate::{SimulationError, Stream};

/// The largest number of trials: their results are held in memory.
const MAX_TRIALS: usize = 10_000_000;

/// A system, a stream of requests, and the number of trials.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulation {
    /// Shards and slices.
    pub shape: PartitionShape,
    /// The sequences of each shard.
    pub sequences: PerShard<Vec<Sequence>>,
    /// The stream of requests.
    pub stream: Stream,
    /// With the records of each slice of each shard, each request of a uniform stream deletes one of them for good; without,
    /// slices never run out.
    pub records: Option<PerShard<Vec<u64>>>,
    /// Independent streams.
    pub trials: usize,
    /// The seed.
    pub seed: u64,
    /// Requests after which a trial is given up.
    pub max_requests: u64,
}

impl Simulation {
    /// Checks everything that does not depend on the stream.
    pub(crate) fn check(&self) -> Result<(), SimulationError> {
        let PartitionShape { shards, slices } = self.shape;
        let field = |field: &str, problem: String| Err(SimulationError::field(field, problem));
        let total = u64::from(shards) * u64::from(slices);
        if total == 0 || total > u64::from(u32::MAX) {
            return field("shards", format!("x slices is {total}; it takes 1 to {}", u32::MAX));
        }
        self.sequences.check("sequences", shards)?;
        if let Some(wrong) = self.sequences.entries().iter().flatten().find(|one| one.slices().len() != slices as usize)
        {
            return field("sequences", format!("hold `{wrong}`, which is not an order of {slices} slices"));
        }
        if !(1..=MAX_TRIALS).contains(&self.trials) {
            return field("trials", format!("is {}; it takes 1 to {MAX_TRIALS}", self.trials));
        }
        Ok(())
    }

    /// The position of each slice in each sequence, `[slice x sequences + sequence]`.
    pub(crate) fn positions(&self) -> PerShard<Vec<u32>> {
        let of_shard = |sequences: &Vec<Sequence>| {
            let mut positions = vec![0; sequences.len() * self.shape.slices as usize];
            for (number, sequence) in sequences.iter().enumerate() {
                for (position, slice) in (0..).zip(sequence.slices()) {
                    if let Some(place) = positions.get_mut(slice.index() * sequences.len() + number) {
                        *place = position;
                    }
                }
            }
            positions
        };
        self.sequences.map(of_shard)
    }
}
