//! Stages that were written outside the store.
//!
//! # Proof note
//!
//! *Before*: stages were exported to a folder, and a deletion cut one of them. *After* an erasure: the files that this store wrote
//! there are gone, or the export is named by the deletion's result, by `status` and by `check`; no other file was touched. *Why*:
//! the catalogue holds a keyed digest of each file from before the folder got its name, a file is removed only if its bytes have
//! one of these digests and the adapter's tensors are beside it, no link is followed, and the row stays until the folder was opened
//! and the tensors are not in it.
//!
//! An export is written in a folder with a random name beside its place, which is renamed when it is whole and while no deletion
//! can be accepted. So everything in a folder of such a name is the store's.

mod dead;
mod unfinished;
mod writing;

use s3t_core::Digest;
use s3t_core::digest::DigestBuilder;

use crate::catalogue::ExportRow;
use crate::{Store, StoreError};

pub use writing::NewExport;

impl Store {
    fn forget_row(&self, row: &ExportRow) -> Result<(), StoreError> {
        self.change(|change, _| change.forget_export(row))
    }

    fn digest_of_file(&self, bytes: &[u8]) -> Digest {
        DigestBuilder::keyed(&self.secret, "exported file").bytes(bytes).finish()
    }
}
