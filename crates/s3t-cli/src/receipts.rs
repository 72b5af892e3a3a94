//! `s3t receipt`: reading and checking receipts.

use std::fs::File;
use std::path::Path;

use s3t::core::limits::read_text_at_most;
use s3t::core::spelling::{DIFFERENCES, beside};
use s3t::core::{CoreError, RecordId, SubjectId};
use s3t::ledger::{LedgerError, Named, Receipt, VerifyingKey};

use crate::ReceiptCommand;
use crate::commands::Outcome;
use crate::exit::{self, Failure};
use crate::output::{Output, plural, say, table, time};

pub(crate) fn receipt(command: &ReceiptCommand, output: &mut Output) -> Outcome {
    match command {
        ReceiptCommand::Show { receipt } => {
            let receipt = read(receipt)?;
            show(&receipt, output);
            Ok(0)
        }
        ReceiptCommand::Verify { receipt, key, record, subject } => {
            verify(&read(receipt)?, key, record, subject, output)
        }
    }
}

/// The file that a receipt will be written to. It is there before the deletion is accepted, so that a receipt that cannot be written
/// is told while nothing is done yet.
pub(crate) struct ReceiptFile<'a> {
    path: &'a Path,
    /// Whether it was made now.
    is_new: bool,
}

impl<'a> ReceiptFile<'a> {
    /// Makes the file. One that is there is taken if it is empty, as an interrupted command leaves it, or holds an earlier receipt
    /// of the same request.
    pub(crate) fn reserve(path: &'a Path, request: Option<&str>) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(
                exit::FAILED,
                format!("cannot write the receipt `{}`: {error}; nothing was done", path.display()),
            )
        };
        match private(path) {
            Ok(_) => return Ok(Self { path, is_new: true }),
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(error)),
            Err(_) => {}
        }
        let is_link = path.is_symlink();
        let text = if is_link { None } else { std::fs::read_to_string(path).ok() };
        let same = |text: &str| {
            text.is_empty() || Receipt::parse(text).is_ok_and(|receipt| Some(&*receipt.request) == request)
        };
        if text.is_some_and(|text| same(&text)) {
            return Ok(Self { path, is_new: false });
        }
        let message =
            format!("`{}` exists already; a receipt is a new file, or the one of the same request", path.display());
        Err(Failure::new(exit::REFUSED, message))
    }

    /// Takes the file back, because nothing was accepted.
    pub(crate) fn give_up(self) {
        if self.is_new {
            drop(std::fs::remove_file(self.path));
        }
    }

    /// Writes the receipt in one step: the file holds what it held, or all of the receipt.
    pub(crate) fn write(self, receipt: &Receipt) -> Result<(), Failure> {
        use std::io::Write as _;
        let failed = |error: &dyn std::fmt::Display| {
            let message = format!(
                "deletion {} stands: it is accepted and in effect; but its receipt `{}` cannot be written: {error}; the same request \
                 under the same id gives it again",
                receipt.effect.epoch,
                self.path.display()
            );
            Failure::new(exit::FAILED, message)
        };
        let text = serde_json::to_string_pretty(receipt).map_err(|error| failed(&error))?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|error| failed(&error))?;
        let written = writeln!(file, "{text}").and_then(|()| file.as_file().sync_all());
        written.map_err(|error| failed(&error))?;
        file.persist(self.path).map_err(|error| failed(&error.error))?;
        Ok(())
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

/// A public key, from its line or a file that holds it.
pub(crate) fn parse_key(key: &str) -> Result<VerifyingKey, Failure> {
    let line = if Path::new(key).is_file() { read_text(Path::new(key), MOST_LINE_BYTES)? } else { key.to_owned() };
    line.parse().map_err(|error: LedgerError| Failure::new(exit::REFUSED, error.to_string()))
}

/// The most bytes of a receipt, which names some hundred thousand records, and of a checkpoint or key.
const MOST_RECEIPT_BYTES: u64 = 16 << 20;
pub(crate) const MOST_LINE_BYTES: u64 = 64 << 10;

/// Reads a text file of at most so many bytes.
pub(crate) fn read_text(file: &Path, most: u64) -> Result<String, Failure> {
    let read = File::open(file).and_then(|opened| read_text_at_most(opened, most));
    read.map_err(|error| Failure::new(exit::REFUSED, format!("cannot read `{}`: {error}", file.display())))
}

/// Reads a receipt.
pub(crate) fn read(file: &Path) -> Result<Receipt, Failure> {
    let text = read_text(file, MOST_RECEIPT_BYTES)?;
    Receipt::parse(&text).map_err(|error| Failure::new(exit::REFUSED, format!("`{}`: {error}", file.display())))
}

fn show(receipt: &Receipt, output: &mut Output) {
    output.result("receipt", receipt, || {
        let effect = &receipt.effect;
        let slices: Vec<String> = effect.slices.iter().map(ToString::to_string).collect();
        say!(
            "request {}, deletion {}: {} in {}",
            receipt.request,
            effect.epoch,
            plural(effect.records as usize, "record"),
            slices.join(", ")
        );
        for key in &effect.cut {
            say!("cut: stage {key}");
        }
        let row = |shard: &s3t::ledger::ShardServes| {
            let stage =
                shard.stage.as_ref().map_or_else(|| "nothing".to_owned(), |key| format!("stage {}", key.short()));
            vec![format!("shard {}", shard.shard), stage, shard.depth.to_string()]
        };
        table(&["", "serves then with", "depth"], effect.serves.iter().map(row).collect(), 2);
        let opening = if receipt.opening.is_some() { "with" } else { "without" };
        say!("{} to names, {opening} the key that opens them", plural(receipt.named.len(), "commitment"));
    });
}

fn verify(receipt: &Receipt, key: &str, records: &[String], subjects: &[String], output: &mut Output) -> Outcome {
    let refuse = |error: &dyn std::fmt::Display| Failure::new(exit::REFUSED, error.to_string());
    let key = parse_key(key)?;
    let records: Vec<RecordId> =
        records.iter().map(RecordId::new).collect::<Result<_, CoreError>>().map_err(|error| refuse(&error))?;
    let subjects: Vec<SubjectId> =
        subjects.iter().map(SubjectId::new).collect::<Result<_, CoreError>>().map_err(|error| refuse(&error))?;
    let verified = receipt.verify(&key).map_err(|error| Failure::new(exit::DIFFERENT, error.to_string()))?;
    let named = records.iter().map(Named::Record).chain(subjects.iter().map(Named::Subject));
    for name in named {
        if !receipt.names(name).map_err(|error| Failure::new(exit::DIFFERENT, error.to_string()))? {
            let other: Vec<String> = receipt
                .opening
                .and_then(|opening| name.spelling_among(|named| receipt.named.contains(named), &opening))
                .into_iter()
                .collect();
            let (shown, list) = beside(name.as_str(), &other);
            let but = if other.is_empty() {
                String::new()
            } else {
                format!(", but {list}, which differs from it only in {DIFFERENCES}")
            };
            let problem = format!("the request does not name the {} `{shown}`{but}", name.kind());
            return Err(Failure::new(exit::DIFFERENT, problem));
        }
    }
    output.result("verified", &verified, || {
        say!("verified: signed by {}, {} of the ledger", verified.log, plural(verified.entries as usize, "entry"));
        let at = |moment: Option<u64>| moment.map_or_else(|| "not yet, when it was made".to_owned(), time);
        table(
            &["request", "when"],
            vec![
                vec!["accepted".into(), time(verified.accepted)],
                vec!["in no answer".into(), at(verified.effective)],
                vec!["erased".into(), at(verified.erased)],
            ],
            2,
        );
        if !verified.request_checked {
            say!("its id was not checked: the receipt was made after the erasure, which destroys the key for it");
        }
        let named = records.len() + subjects.len();
        if named > 0 {
            say!("it names {}", plural(named, "given name"));
        }
    });
    Ok(0)
}
