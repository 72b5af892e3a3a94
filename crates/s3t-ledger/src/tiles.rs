//! The files of a log, as [C2SP tlog-tiles](https://c2sp.org/tlog-tiles) lays them out.

use tlog_tiles::Tile;

use crate::LedgerError;
use crate::tree::{HashSource, Reader};

/// Levels of the tree in one tile; 256 hashes or entries in a full one.
const HEIGHT: u8 = 8;

const WIDTH: u64 = 1 << HEIGHT;

/// One file of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TileFile {
    /// Its path inside the log's folder, with slashes: `tile/0/000`, `tile/entries/000.p/17`.
    pub path: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The files that a log of `size` entries has and one of `old_size` entries has not. `entry` gives the bytes of an entry.
///
/// # Errors
///
/// [`LedgerError`] if hashes or entries are missing.
pub fn tile_files(
    old_size: u64,
    size: u64,
    stored: &dyn HashSource,
    entry: &dyn Fn(u64) -> Result<Vec<u8>, LedgerError>,
) -> Result<Vec<TileFile>, LedgerError> {
    let mut files = Vec::new();
    for tile in Tile::new_tiles(HEIGHT, old_size, size) {
        let bytes = tile.read_data(&Reader(stored)).map_err(|error| LedgerError::Proof(error.to_string()))?;
        files.push(TileFile { path: path(&tile.level().to_string(), &tile), bytes });
        if tile.level() == 0 {
            let first = tile.level_index() * WIDTH;
            let mut bytes = Vec::new();
            for index in first..first + u64::from(tile.width()) {
                let entry = entry(index)?;
                let length = u16::try_from(entry.len()).map_err(|_| LedgerError::TooLarge(entry.len()))?;
                bytes.extend(length.to_be_bytes());
                bytes.extend(entry);
            }
            files.push(TileFile { path: path("entries", &tile), bytes });
        }
    }
    Ok(files)
}

/// The entries in a bundle's bytes.
///
/// # Errors
///
/// [`LedgerError::Proof`] if it is cut off.
pub fn read_entries(mut bundle: &[u8]) -> Result<Vec<Vec<u8>>, LedgerError> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bundle.split_first_chunk::<2>() {
        let cut_off = || LedgerError::Proof("an entry bundle is cut off".into());
        let (entry, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or_else(cut_off)?;
        entries.push(entry.to_vec());
        bundle = rest;
    }
    if bundle.is_empty() { Ok(entries) } else { Err(LedgerError::Proof("an entry bundle is cut off".into())) }
}

/// The library names tiles as the Go checksum database does, with their height first; the common format has no height.
fn path(kind: &str, tile: &Tile) -> String {
    let theirs = tile.path();
    let number = theirs.splitn(4, '/').nth(3).unwrap_or_default();
    format!("tile/{kind}/{number}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaf_hash;
    use crate::tree::tests::Memory;

    fn files(log: &Memory, old: u64, size: u64) -> Vec<TileFile> {
        tile_files(old, size, log, &|index| Ok(log.entries[index as usize].clone())).unwrap()
    }

    #[test]
    fn the_layout_is_that_of_the_specification() {
        let mut log = Memory::default();
        (0..600u32).for_each(|leaf| log.push(format!("entry {leaf}").as_bytes()));
        let paths = |old, size| -> Vec<String> { files(&log, old, size).into_iter().map(|file| file.path).collect() };
        assert_eq!(paths(0, 1), ["tile/0/000.p/1", "tile/entries/000.p/1"]);
        assert_eq!(paths(1, 1), [""; 0]);
        let mut all = paths(0, 600);
        all.sort();
        let expected = [
            "tile/0/000",
            "tile/0/001",
            "tile/0/002.p/88",
            "tile/1/000.p/2",
            "tile/entries/000",
            "tile/entries/001",
            "tile/entries/002.p/88",
        ];
        assert_eq!(all, expected);
        // What the tiles hold, read without this crate's tree: leaf hashes and entries in order.
        let of = |path: &str| files(&log, 0, 600).into_iter().find(|file| file.path == path).unwrap().bytes;
        let entries = read_entries(&of("tile/entries/002.p/88")).unwrap();
        assert_eq!((entries.len(), &*entries[87]), (88, b"entry 599".as_slice()));
        let hashes = of("tile/0/002.p/88");
        assert_eq!(hashes[87 * 32..], *leaf_hash(b"entry 599").as_bytes());
        assert!(read_entries(&of("tile/entries/000")[..20]).is_err());
    }
}
