//! The file of one slice: its records, then the BLAKE3 checksum of what stands before it.

use std::path::Path;

use s3t_core::Record;

use crate::StoreError;
use crate::files::write_atomically;

const CHECKSUM: usize = blake3::OUT_LEN;

pub(crate) fn write(path: &Path, records: &[Record]) -> Result<(), StoreError> {
    let damaged = |error: postcard::Error| StoreError::Damaged { path: path.into(), problem: error.to_string() };
    let mut bytes = postcard::to_stdvec(records).map_err(damaged)?;
    bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
    write_atomically(path, &bytes)
}

pub(crate) fn read(path: &Path) -> Result<Vec<Record>, StoreError> {
    let bytes = std::fs::read(path).map_err(StoreError::io("read", path))?;
    let damaged = |problem: &str| StoreError::Damaged { path: path.into(), problem: problem.to_owned() };
    let length = bytes.len().checked_sub(CHECKSUM).ok_or_else(|| damaged("it is too short"))?;
    let (body, checksum) = bytes.split_at(length);
    if blake3::hash(body).as_bytes() != checksum {
        return Err(damaged("its checksum does not match"));
    }
    postcard::from_bytes(body).map_err(|error| damaged(&error.to_string()))
}
