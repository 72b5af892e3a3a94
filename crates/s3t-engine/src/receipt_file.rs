//! The file of a receipt: there before a deletion is accepted, filled afterwards.
//!
//! # Proof note
//!
//! *Before*: a request that asks for a receipt in a file. *After*: the request was not accepted, and no file is left; or it was
//! accepted, and the file holds the receipt or is empty, so that the same command fills it. *Why*: the file is made before the
//! request is sent to the store, is removed only if the store refused the request, and is replaced in one step.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use s3t_ledger::Receipt;
use s3t_store::DeletionRequest;

use crate::checked::CheckedPipeline;
use crate::error::EngineError;
use crate::fulfilment::Deletion;
use crate::system::System;

/// A file that a receipt will be written to.
#[derive(Debug)]
struct ReceiptFile {
    path: PathBuf,
    /// True if this reservation made the file.
    is_new: bool,
}

/// A deletion whose receipt was to be written to a file.
pub struct Delivered {
    /// The system, to look at what is left.
    pub system: System,
    /// The deletion.
    pub deletion: Deletion,
    /// The outcome of the delivery. The deletion stands in either case, and the same request under the same id delivers again.
    pub delivery: Result<(), EngineError>,
}

impl System {
    /// Opens the pipeline's store, does what a request asks for and delivers its receipt to a file: reserved before the request is
    /// accepted, so that a receipt that cannot be written is told while nothing is done, and written after it. Once the receipt is
    /// delivered, or none was asked for, the store forgets the key to the names in it.
    ///
    /// # Errors
    ///
    /// [`EngineError::ReserveReceipt`] and [`EngineError::ReceiptExists`] before anything is done; as
    /// [`open_to_delete`](Self::open_to_delete) and [`fulfil`](Self::fulfil).
    pub fn fulfil_to_file(
        pipeline: CheckedPipeline,
        request: &DeletionRequest,
        receipt: Option<&Path>,
    ) -> Result<Delivered, EngineError> {
        let file = receipt.map(|path| ReceiptFile::reserve(path, request.id.as_deref())).transpose()?;
        let done = Self::open_to_delete(pipeline).and_then(|system| {
            let deletion = system.fulfil(request)?;
            Ok((system, deletion))
        });
        let (system, deletion) = match done {
            Ok(done) => done,
            Err(error) => {
                // After the acceptance the empty file stays: the same command fills it.
                if let Some(file) = file.filter(|_| !matches!(error, EngineError::Unfinished { .. })) {
                    file.give_up();
                }
                return Err(error);
            }
        };
        let written = file.map_or(Ok(()), |file| file.write(&deletion.receipt));
        let delivery = written.and_then(|()| system.receipt_delivered(&deletion));
        Ok(Delivered { system, deletion, delivery })
    }
}

impl ReceiptFile {
    /// Makes the file. A file that is there is taken if it is empty, as an interrupted command leaves it, or holds an earlier
    /// receipt of the same request.
    fn reserve(path: &Path, request: Option<&str>) -> Result<Self, EngineError> {
        match private(path) {
            Ok(_) => return Ok(Self { path: path.into(), is_new: true }),
            Err(cause) if cause.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(EngineError::ReserveReceipt { path: path.into(), cause });
            }
            Err(_) => {}
        }
        let text = if path.is_symlink() { None } else { std::fs::read_to_string(path).ok() };
        let same = |text: &str| {
            text.is_empty() || Receipt::parse(text).is_ok_and(|receipt| Some(&*receipt.request) == request)
        };
        if text.is_some_and(|text| same(&text)) {
            return Ok(Self { path: path.into(), is_new: false });
        }
        Err(EngineError::ReceiptExists(path.into()))
    }

    /// Takes the file back, because the request was not accepted.
    fn give_up(self) {
        if self.is_new {
            drop(std::fs::remove_file(self.path));
        }
    }

    /// Writes the receipt in one step: the file holds what it held, or all of the receipt.
    fn write(self, receipt: &Receipt) -> Result<(), EngineError> {
        let path = self.path;
        let written = || -> std::io::Result<()> {
            #[cfg(unix)]
            use std::io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
            let text = serde_json::to_string_pretty(receipt)?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            writeln!(file, "{text}").and_then(|()| file.as_file().sync_all())?;
            file.persist(&path).map_err(|error| error.error)?;
            // The store forgets the key to the names next: the file must have its name for good by then.
            #[cfg(unix)]
            match std::fs::File::open(folder).and_then(|folder| folder.sync_all()) {
                // A folder that may be written and not read, and file systems that sync none.
                Err(error) if [PermissionDenied, InvalidInput, Unsupported].contains(&error.kind()) => {}
                synced => synced?,
            }
            Ok(())
        };
        let (request, epoch) = (receipt.request.clone(), receipt.effect.epoch);
        written().map_err(|cause| EngineError::DeliverReceipt { request, epoch, path: path.clone(), cause })
    }
}

/// Makes a file that only its owner can read.
fn private(path: &Path) -> std::io::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
