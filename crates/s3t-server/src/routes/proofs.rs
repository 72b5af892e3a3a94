//! The ledger in the common format of transparency logs (C2SP tlog-tiles), for whoever wants to check it: it holds no personal data.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::predict::blocking;
use crate::address::Path;
use crate::app::App;
use crate::refusal::{ErrorBody, Kind, Refusal};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// The entries of a full tile.
const WIDTH: usize = 256;

/// The bytes of a hash.
const HASH: usize = 32;

/// The signed head of the ledger, with the cosignatures of its witnesses.
#[utoipa::path(get, path = "/ledger/checkpoint", operation_id = "get_checkpoint", tag = "proofs", responses(
    (status = 200, description = "A signed note.", body = String, content_type = "text/plain"),
    (status = 404, description = "The ledger is not published yet.", body = ErrorBody),
))]
pub(crate) async fn checkpoint(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let note = move || {
        let (checkpoint, _) = app.service.checkpoint()?.ok_or_else(missing)?;
        let cosigned = app.witnesses.lines(&checkpoint);
        Ok(checkpoint + &cosigned)
    };
    let bytes = blocking(note).await?;
    Ok(([(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))], bytes)
        .into_response())
}

/// The public key of the ledger, one line.
#[utoipa::path(get, path = "/ledger/key.pub", operation_id = "get_ledger_key", tag = "proofs", responses(
    (status = 200, description = "A verifier key of a signed note.", body = String, content_type = "text/plain"),
))]
pub(crate) async fn key(State(app): State<Arc<App>>) -> Response {
    ([(header::CONTENT_TYPE, TEXT)], format!("{}\n", app.service.public_key())).into_response()
}

/// A tile of hashes or a bundle of entries.
///
/// Partial tiles are given for every width up to the newest one.
#[utoipa::path(get, path = "/ledger/tile/{tile}", operation_id = "get_tile", tag = "proofs",
    params(("tile" = String, Path, description = "`LEVEL/NUMBER` or `entries/NUMBER`, for a partial tile with `.p/WIDTH` behind it.")),
    responses(
        (status = 200, description = "The bytes.", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 404, description = "No tile of this name, or not so wide yet.", body = ErrorBody),
    ))]
pub(crate) async fn tile(State(app): State<Arc<App>>, Path(path): Path<String>) -> Result<Response, Refusal> {
    let tile = Tile::parse(&path).ok_or_else(missing)?;
    let bytes = blocking(move || tile.read(&app)?.ok_or_else(missing)).await?;
    let immutable = HeaderValue::from_static("public, max-age=31536000, immutable");
    Ok(([(header::CONTENT_TYPE, BYTES), (header::CACHE_CONTROL, immutable)], bytes).into_response())
}

fn missing() -> Refusal {
    Refusal::not_found("the ledger has no tile of this name")
}

/// A file of the published ledger.
fn file(app: &App, name: &str) -> Result<Option<Vec<u8>>, Refusal> {
    match std::fs::read(app.service.system().store().path().join("ledger").join(name)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound || error.kind() == std::io::ErrorKind::NotADirectory =>
        {
            Ok(None)
        }
        Err(error) => {
            tracing::error!(target: "s3t::ledger", "cannot read the ledger: {error}");
            Err(Refusal::new(Kind::Failed, "the ledger cannot be read; the server's log says why"))
        }
    }
}

/// The name of a tile.
struct Tile {
    /// `entries`, or the level of hashes.
    level: String,
    /// The number, in groups of three digits.
    number: String,
    /// The width of a partial tile.
    width: Option<usize>,
}

impl Tile {
    /// Reads `LEVEL/NUMBER` with or without `.p/WIDTH`. Everything else is no tile, and reaches no file.
    fn parse(path: &str) -> Option<Self> {
        let (level, rest) = path.split_once('/')?;
        let is_level = level.parse::<u8>().is_ok_and(|number| number < 64 && number.to_string() == level);
        if !(is_level || level == "entries") {
            return None;
        }
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => {
                let found = width.parse::<usize>().ok().filter(|found| found.to_string() == width)?;
                (number, Some(found).filter(|width| (1..WIDTH).contains(width))?.into())
            }
            None => (rest, None),
        };
        let groups: Vec<&str> = number.split('/').collect();
        let (last, first) = groups.split_last()?;
        let is_group = |group: &str| group.len() == 3 && group.bytes().all(|byte| byte.is_ascii_digit());
        let is_number = groups.len() <= 6
            && is_group(last)
            && first.iter().all(|group| group.strip_prefix('x').is_some_and(is_group));
        is_number.then(|| Self { level: level.to_owned(), number: number.to_owned(), width })
    }

    fn read(&self, app: &App) -> Result<Option<Vec<u8>>, Refusal> {
        let name = format!("tile/{}/{}", self.level, self.number);
        let Some(width) = self.width else { return file(app, &name) };
        // The files have the widest part only; what a narrower one has is its beginning.
        let wider = match file(app, &name)? {
            Some(full) => Some(full),
            None => {
                let folder = app.service.system().store().path().join("ledger").join(format!("{name}.p"));
                let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
                let widths = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<usize>().ok());
                match widths.max() {
                    Some(widest) => file(app, &format!("{name}.p/{widest}"))?,
                    None => None,
                }
            }
        };
        Ok(wider.and_then(|bytes| self.beginning(bytes, width)))
    }

    /// The first hashes or entries of a wider tile.
    fn beginning(&self, mut bytes: Vec<u8>, width: usize) -> Option<Vec<u8>> {
        let length = if self.level == "entries" {
            let mut at = 0;
            for _ in 0..width {
                let length = u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?);
                at += 2 + usize::from(length);
            }
            at
        } else {
            width * HASH
        };
        (length <= bytes.len()).then(|| {
            bytes.truncate(length);
            bytes
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_tiles_reach_files() {
        for good in ["0/000", "entries/000.p/17", "1/x001/x234/067", "63/999.p/255"] {
            assert!(Tile::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "0",
            "64/000",
            "00/000",
            "0/00",
            "0/0000",
            "entries/../000",
            "0/../../catalogue.db",
            "0/000.p/256",
            "0/000.p/0",
            "0/000.p/01",
            "0/000.p/",
            "0/x000",
            "0/000/001",
            "0/x000//001",
            "entries/000.p/1/2",
            "0/%2e%2e",
        ] {
            assert!(Tile::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_narrower_tile_is_the_beginning_of_a_wider_one() {
        let entries = Tile::parse("entries/000.p/2").unwrap();
        let bundle = [0, 1, 7, 0, 2, 8, 9, 0, 0].to_vec();
        assert_eq!(entries.beginning(bundle.clone(), 2), Some([0, 1, 7, 0, 2, 8, 9].to_vec()));
        assert_eq!(entries.beginning(bundle, 4), None);
        let hashes = Tile::parse("0/000.p/1").unwrap();
        assert_eq!(hashes.beginning(vec![5; 64], 1), Some(vec![5; 32]));
        assert_eq!(hashes.beginning(vec![5; 31], 1), None);
    }
}
