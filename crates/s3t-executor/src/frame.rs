//! Messages as frames: a header, the message in postcard, and a digest of both.
//!
//! # Proof note
//!
//! *Before*: a frame was written. *After*: it is read as it was written, or refused. *Why*: the header has a check of its own, so that
//! a damaged length is not waited for; the digest at the end (BLAKE3) covers the header and the message.

use std::io::{ErrorKind, Read};

use s3t_core::Digest;
use s3t_core::digest::DigestBuilder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::ExecutorError;

/// The version of frames and messages.
pub const FRAME_VERSION: u16 = 4;

/// The max length of a message in bytes: 64 gigabytes.
pub const MAX_FRAME_BYTES: u64 = 1 << 36;

const MAGIC: [u8; 4] = *b"S3TF";

/// The magic, the version, the length of the message, and the first bytes of the digest of these.
const HEADER: usize = 4 + 2 + 8 + CHECK;
const CHECK: usize = 8;
const DIGEST: usize = 32;

/// A message as a frame. The bytes are overwritten when they are dropped.
///
/// # Errors
///
/// [`ExecutorError::Damaged`] for a message that has no bytes, such as a path that is not UTF-8, or is above [`MAX_FRAME_BYTES`].
///
/// ```
/// use s3t_executor::{Answer, read_frame, write_frame};
///
/// let mut frame = write_frame(&Answer::Alive)?;
/// assert_eq!(read_frame::<Answer>(&mut frame.as_slice())?, Some(Answer::Alive));
/// frame[20] ^= 1;
/// assert!(read_frame::<Answer>(&mut frame.as_slice()).is_err());
/// # Ok::<(), s3t_executor::ExecutorError>(())
/// ```
pub fn write_frame(message: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, ExecutorError> {
    let failed = |error: postcard::Error| ExecutorError::Damaged(format!("the message cannot be written ({error})"));
    // The length is known first, so that the bytes are written to one place of memory and to no other.
    let length = postcard::experimental::serialized_size(message).map_err(failed)?;
    if length as u64 > MAX_FRAME_BYTES {
        return Err(ExecutorError::Damaged(format!("the message has {length} bytes; use smaller slices")));
    }
    let mut frame = Vec::with_capacity(HEADER + length + DIGEST);
    frame.extend(MAGIC);
    frame.extend(FRAME_VERSION.to_le_bytes());
    frame.extend((length as u64).to_le_bytes());
    frame.extend(header_check(&frame));
    let mut frame = Zeroizing::new(postcard::to_extend(message, frame).map_err(failed)?);
    let digest = digest(&frame[..HEADER], &frame[HEADER..]);
    frame.extend(digest.as_bytes());
    Ok(frame)
}

/// The next message; `None` where the stream ends between two frames.
///
/// # Errors
///
/// [`ExecutorError::Damaged`] for bytes that are not a whole, unchanged frame, [`ExecutorError::OtherVersion`].
pub fn read_frame<M: DeserializeOwned>(reader: &mut impl Read) -> Result<Option<M>, ExecutorError> {
    let mut header = [0; HEADER];
    if !fill(reader, &mut header)? {
        return Ok(None);
    }
    let (fields, check) = header.split_at(HEADER - CHECK);
    let (magic, rest) = fields.split_at(MAGIC.len());
    let (version, length) = rest.split_at(2);
    if magic != MAGIC || check != header_check(fields) {
        return Err(ExecutorError::Damaged("its header is not that of a frame".into()));
    }
    let found = u16::from_le_bytes([version[0], version[1]]);
    if found != FRAME_VERSION {
        return Err(ExecutorError::OtherVersion { found, expected: FRAME_VERSION });
    }
    let length = length.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    if length > MAX_FRAME_BYTES {
        return Err(ExecutorError::Damaged(format!("it has {length} bytes, and at most {MAX_FRAME_BYTES} are read")));
    }
    let mut message = Zeroizing::new(Vec::new());
    let too_large = |_| ExecutorError::Damaged(format!("its {length} bytes do not fit into memory"));
    message.try_reserve_exact(length as usize).map_err(too_large)?;
    let read = reader.take(length).read_to_end(&mut message).map_err(|error| unreadable(&error))?;
    let mut expected = [0; DIGEST];
    if (read as u64) < length || !fill(reader, &mut expected)? {
        return Err(ExecutorError::Damaged("it ends too early".into()));
    }
    if digest(&header, &message) != Digest::from_bytes(expected) {
        return Err(ExecutorError::Damaged("its digest is not that of its bytes".into()));
    }
    let message = postcard::from_bytes(&message)
        .map_err(|error| ExecutorError::Damaged(format!("its message cannot be read ({error})")))?;
    Ok(Some(message))
}

/// Fills a buffer; `false` if the stream ended before its first byte.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> Result<bool, ExecutorError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(ExecutorError::Damaged("it ends too early".into())),
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(&error)),
        }
    }
    Ok(true)
}

fn unreadable(error: &std::io::Error) -> ExecutorError {
    ExecutorError::Damaged(format!("it cannot be read: {error}"))
}

fn header_check(fields: &[u8]) -> [u8; CHECK] {
    let digest = DigestBuilder::new("frame header").bytes(fields).finish();
    let mut check = [0; CHECK];
    check.copy_from_slice(&digest.as_bytes()[..CHECK]);
    check
}

fn digest(header: &[u8], message: &[u8]) -> Digest {
    DigestBuilder::new("frame").bytes(header).bytes(message).finish()
}
