//! The rows of the catalogue's tables.

use std::path::{Path, PathBuf};

use rusqlite::types::Type;
use rusqlite::{Connection, params};
use s3t_core::{Digest, SliceAddress, StageKey};
use s3t_ledger::{Effect, Epoch, Opening};
use serde::{Deserialize, Serialize};

/// The number of a slice in the catalogue.
pub(crate) fn slice_number(slices: u32, address: SliceAddress) -> u64 {
    u64::from(address.shard.0) * u64::from(slices) + u64::from(address.slice.0)
}

/// The slice with a number.
pub(crate) fn slice_address(slices: u32, number: u64) -> SliceAddress {
    SliceAddress::new((number / u64::from(slices)) as u32, (number % u64::from(slices)) as u32)
}

pub(super) fn to_digest(bytes: &[u8]) -> rusqlite::Result<Digest> {
    let wrong = |error: std::array::TryFromSliceError| {
        rusqlite::Error::FromSqlConversionFailure(bytes.len(), Type::Blob, Box::new(error))
    };
    bytes.try_into().map(Digest::from_bytes).map_err(wrong)
}

fn from_json<T: serde::de::DeserializeOwned>(column: usize, text: &str) -> rusqlite::Result<T> {
    let wrong = |error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error));
    serde_json::from_str(text).map_err(wrong)
}

/// A value as the catalogue keeps it in a column of text.
pub(super) fn to_json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// Writes a setting.
pub(super) fn set(connection: &Connection, key: &str, value: &[u8]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("INSERT OR REPLACE INTO store (key, value) VALUES (?, ?)")?;
    statement.execute(params![key, value]).map(drop)
}

/// A row of the slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SliceRow {
    pub(crate) number: u64,
    pub(crate) records: u64,
    pub(crate) digest: Option<Digest>,
    pub(crate) generation: u64,
    /// The epoch of the newest accepted deletion whose bytes may still be on disk, or 0.
    pub(crate) hit: u64,
}

impl SliceRow {
    /// Reads `number, records, digest, generation, hit`.
    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        let number = |column| row.get::<_, i64>(column).map(|number| number as u64);
        let digest = row.get::<_, Option<Vec<u8>>>(2)?.map(|bytes| to_digest(&bytes)).transpose()?;
        Ok(Self { number: number(0)?, records: number(1)?, digest, generation: number(3)?, hit: number(4)? })
    }
}

/// A row of the records, beside its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordRow {
    pub(crate) slice: i64,
    pub(crate) subject: Option<i64>,
    pub(crate) copies: Option<i64>,
    /// The epoch of the deletion that takes the record.
    pub(crate) dead: Option<i64>,
}

impl RecordRow {
    /// Reads `slice, subject, copies, dead`.
    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { slice: row.get(0)?, subject: row.get(1)?, copies: row.get(2)?, dead: row.get(3)? })
    }
}

/// A record that a deletion takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marked {
    pub(crate) slice: u64,
    pub(crate) copies: Option<i64>,
}

/// A row of the requests. The last three are indices of ledger entries.
pub(crate) struct RequestRow {
    /// Forgotten when the receipt was handed out.
    pub(crate) opening: Option<Opening>,
    pub(crate) named: Vec<Digest>,
    pub(crate) effect: Effect,
    pub(crate) accepted: u64,
    pub(crate) effective: Option<u64>,
    pub(crate) erased: Option<u64>,
}

impl RequestRow {
    /// Reads `opening, named, effect, accepted, effective, erased`.
    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        let index = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(|index| index as u64));
        let opening = row.get::<_, Option<Vec<u8>>>(0)?.map(|bytes| to_digest(&bytes)).transpose()?;
        Ok(Self {
            opening: opening.map(|digest| Opening::from_bytes(*digest.as_bytes())),
            named: row.get::<_, Vec<u8>>(1)?.as_chunks().0.iter().map(|bytes| Digest::from_bytes(*bytes)).collect(),
            effect: from_json(2, &row.get::<_, String>(2)?)?,
            accepted: row.get::<_, i64>(3)? as u64,
            effective: index(4)?,
            erased: index(5)?,
        })
    }
}

/// A file of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExportedFile {
    pub(crate) name: String,
    pub(crate) length: u64,
    pub(crate) digest: Digest,
}

impl ExportedFile {
    /// `true` if the file describes the adapter and holds no tensors.
    pub(crate) fn is_description(&self) -> bool {
        Path::new(&self.name).extension().is_some_and(|ending| ending == "json")
    }
}

/// A row of the exports: one adapter.
#[derive(Debug, Clone)]
pub(crate) struct ExportRow {
    pub(crate) number: i64,
    pub(crate) folder: PathBuf,
    pub(crate) stages: Vec<StageKey>,
    /// `None` while they are being written, and for exports of format 3.
    pub(crate) files: Option<Vec<ExportedFile>>,
    /// The folder in which the adapter is being written.
    pub(crate) unfinished: Option<PathBuf>,
}

impl ExportRow {
    /// Reads `number, folder, stages, files, unfinished`.
    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        let files: Option<String> = row.get(3)?;
        Ok(Self {
            number: row.get(0)?,
            folder: path_of(row.get_ref(1)?.as_bytes()?.to_vec()),
            stages: from_json(2, &row.get::<_, String>(2)?)?,
            files: files.map(|files| from_json(3, &files)).transpose()?,
            unfinished: row.get::<_, Option<Vec<u8>>>(4)?.map(path_of),
        })
    }
}

/// A path as the catalogue keeps it: bytes, as the system has them.
#[cfg(unix)]
pub(super) fn path_bytes(path: &Path) -> Vec<u8> {
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).to_vec()
}

#[cfg(unix)]
fn path_of(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes))
}

/// A path as the catalogue keeps it: text where the system's paths are no bytes.
#[cfg(not(unix))]
pub(super) fn path_bytes(path: &Path) -> Vec<u8> {
    path.to_string_lossy().into_owned().into_bytes()
}

#[cfg(not(unix))]
fn path_of(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(&bytes).into_owned())
}

/// The epoch in a column.
pub(super) fn epoch(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Epoch> {
    row.get::<_, i64>(column).map(|epoch| Epoch(epoch as u64))
}
