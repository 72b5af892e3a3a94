//! The laws that every model family inherits, those of its blocks and those of its files.

use std::path::Path;

use s3t_models::{Device, LoadOptions, load};

use crate::family_laws::{AsWritten, check_blocks};
use crate::file_laws::{check_digest, check_fields};

/// Checks every law on the model in `folder`, which is small and of the family that is checked.
///
/// - The laws of [`check_blocks`].
/// - Fields: a field that a later version of Python's library added, and a field with a value that the family's table does not
///   take, are refused by name. No number, however large, ends the program.
/// - Digest: it changes with every weight that changes a result, and with every field of `config.json` that is honoured.
///
/// # Panics
///
/// If a law does not hold, with the law's name.
pub fn check_model_family(folder: &Path) {
    let backbone = load(folder, LoadOptions::default(), &Device::flex())
        .unwrap_or_else(|error| panic!("the model in {} loads: {error}", folder.display()));
    check_blocks(&backbone, &AsWritten);
    check_fields(folder);
    check_digest(folder);
}
