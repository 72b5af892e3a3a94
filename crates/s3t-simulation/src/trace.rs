//! Recorded request streams.

use std::collections::HashMap;
use std::path::Path;

use s3t_core::SliceAddress;
use s3t_core::limits::shown;

use crate::SimulationError;

/// The most requests of a trace, and the most bytes: ids are held in memory.
const MAX_REQUESTS: usize = 4_000_000;
const MAX_BYTES: u64 = 256 << 20;

/// Requests in the order in which they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trace {
    /// Whose request it was, numbered from 0 in order of appearance. Each trial places every subject anew.
    Ids(Vec<u32>),
    /// The slices that were hit.
    Addresses(Vec<SliceAddress>),
}

impl Trace {
    /// Reads a CSV file with a header. It has the columns `shard` and `slice`, or a column `subject` or `record`.
    ///
    /// `check` gets the kind (`subject` or `record`), the id and the line of every id when it occurs first, and may refuse it: for
    /// ids that a person cannot tell apart, which take Unicode's tables to find.
    ///
    /// # Errors
    ///
    /// [`SimulationError::Trace`] naming the file and line.
    pub fn read(
        path: &Path,
        mut check: impl FnMut(&'static str, &str, u64) -> Result<(), String>,
    ) -> Result<Self, SimulationError> {
        let refuse = |line: u64, problem: String| SimulationError::Trace { path: path.into(), line, problem };
        let file = std::fs::File::open(path).map_err(|error| refuse(1, error.to_string()))?;
        // One more than the limit tells a file that was cut off from one that ends there.
        let mut reader = csv::Reader::from_reader(std::io::Read::take(file, MAX_BYTES + 1));
        let header = reader.headers().map_err(|error| refuse(1, error.to_string()))?.clone();
        let column = |name: &str| header.iter().position(|column| column.trim() == name);
        let address = column("shard").zip(column("slice"));
        let Some(id) = column("subject").or_else(|| column("record")).or(address.map(|(shard, _)| shard)) else {
            let found: Vec<&str> = header.iter().collect();
            let problem = format!(
                "the columns are {}; a trace has `shard` and `slice`, or `subject`, or `record`",
                shown(&found.join(", "))
            );
            return Err(refuse(1, problem));
        };
        let too_long = || format!("a trace has at most {MAX_REQUESTS} requests in {} MB", MAX_BYTES >> 20);
        let (mut numbers, mut ids, mut addresses) = (HashMap::new(), Vec::new(), Vec::new());
        let kind = if column("subject").is_some() { "subject" } else { "record" };
        let mut row = csv::StringRecord::new();
        loop {
            let more = reader.read_record(&mut row).map_err(|error| {
                refuse(error.position().map_or(1, csv::Position::line), format!("not CSV: {error}"))
            })?;
            if reader.position().byte() > MAX_BYTES {
                return Err(refuse(reader.position().line(), too_long()));
            }
            if !more {
                break;
            }
            let line = row.position().map_or(1, csv::Position::line);
            if addresses.len().max(ids.len()) >= MAX_REQUESTS {
                return Err(refuse(line, too_long()));
            }
            let value = |column: usize| row.get(column).unwrap_or_default();
            if let Some((shard, slice)) = address {
                let number = |column: usize| {
                    let text = value(column).trim();
                    text.parse::<u32>()
                        .map_err(|_| refuse(line, format!("`{}` is not the number of a shard or slice", shown(text))))
                };
                addresses.push(SliceAddress::new(number(shard)?, number(slice)?));
            } else if value(id).is_empty() {
                return Err(refuse(line, "the id is empty".into()));
            } else {
                let next = numbers.len() as u32;
                let number = *numbers.entry(value(id).to_owned()).or_insert(next);
                if number == next {
                    check(kind, value(id), line).map_err(|problem| refuse(line, problem))?;
                }
                ids.push(number);
            }
        }
        if ids.is_empty() && addresses.is_empty() {
            return Err(refuse(1, "there is no request in it".into()));
        }
        Ok(if address.is_some() { Self::Addresses(addresses) } else { Self::Ids(ids) })
    }

    /// The number of requests.
    pub fn len(&self) -> usize {
        match self {
            Self::Ids(ids) => ids.len(),
            Self::Addresses(addresses) => addresses.len(),
        }
    }

    /// `true` if there is no request.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
