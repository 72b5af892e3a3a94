//! Pieces of digests that the catalogue's file keeps of rows that were deleted.
//!
//! `secure_delete` writes zeros over a row that is deleted, where the row is. Before that, the row may have moved within its page or to
//! another, when SQLite balanced them, and the gaps between rows keep what was there. So the file is searched for what was deleted, and
//! where a piece is found every page is written anew.
//!
//! The pages are read through SQLite. Whoever opens and closes the file beside it gives up the locks that the process has on it, and
//! another process would take its log away.

use std::collections::HashSet;

use rusqlite::MAIN_DB;

use super::Catalogue;
use crate::StoreError;

/// Bytes in a row that tell a digest: eight of them occur by chance once in 2^64 places.
const PIECE: usize = 8;

/// Digests beyond which writing anew takes less than searching.
const MOST: usize = 200_000;

impl Catalogue {
    /// Leaves no piece of these digests in the file, which were in rows that are deleted by now: the log must have been truncated. `all` says
    /// that there may be others.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`], [`StoreError::Reading`]; the pieces may then be there.
    pub(crate) fn sweep(&self, digests: &[Vec<u8>], all: bool) -> Result<(), StoreError> {
        if self.write_anew_if_left(digests, all)? { self.truncate_log() } else { Ok(()) }
    }

    /// Writes every page anew if a piece of these digests is left, and the log has the pages as they were: `true` if it did.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`].
    pub(crate) fn write_anew_if_left(&self, digests: &[Vec<u8>], all: bool) -> Result<bool, StoreError> {
        let is_clean = !all
            && (digests.is_empty()
                || digests.len() <= MOST
                    // What has no room in memory is not searched.
                    && self.connection.serialize(MAIN_DB).is_ok_and(|pages| !holds_piece(&pages, digests)));
        if !is_clean {
            self.write_anew()?;
        }
        Ok(!is_clean)
    }

    /// Writes every page anew, so that nothing is between the rows.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`].
    pub(crate) fn write_anew(&self) -> Result<(), StoreError> {
        self.connection.execute_batch("VACUUM").map_err(|error| self.failed(error))
    }
}

/// `true` if the bytes hold a piece of one of the digests.
fn holds_piece(bytes: &[u8], digests: &[Vec<u8>]) -> bool {
    let pieces = |digest: &Vec<u8>| digest.windows(PIECE).map(number).collect::<Vec<u64>>();
    let pieces: HashSet<u64> = digests.iter().flat_map(pieces).filter(|piece| *piece != 0).collect();
    // Few places get past the table, so that the set is seldom asked.
    let mask = ((pieces.len() * 16).next_power_of_two().max(1 << 16) - 1) as u64;
    let place = |piece: u64| usize::try_from(piece & mask).unwrap_or_default();
    let mut table = vec![false; mask as usize + 1];
    for piece in &pieces {
        table[place(*piece)] = true;
    }
    let mut found = bytes.windows(PIECE).map(number).filter(|piece| table[place(*piece)]);
    found.any(|piece| pieces.contains(&piece))
}

fn number(piece: &[u8]) -> u64 {
    u64::from_be_bytes(piece.try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_found_wherever_it_is() {
        let digest: Vec<u8> = (1..=16).collect();
        let found = |bytes: &[u8]| holds_piece(bytes, std::slice::from_ref(&digest));
        let mut bytes = vec![99; 1 << 16];
        assert!(!found(&bytes));
        for place in [0, 5000, (1 << 16) - 8] {
            for first in 0..=8 {
                bytes[place..place + 8].copy_from_slice(&digest[first..first + 8]);
                assert!(found(&bytes), "{place} {first}");
                bytes[place + 7] = 0;
                assert!(!found(&bytes), "{place} {first}");
                bytes[place..place + 8].fill(99);
            }
        }
    }
}
