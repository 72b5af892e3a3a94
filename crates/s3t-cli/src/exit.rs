//! Exit codes: a table over the kinds of error.

use s3t::api::{ErrorKind, Reply};

/// The failure of a command.
pub(crate) use s3t::api::ApiError as Failure;

/// The exit code of a command that was done, as far as its answer goes; or its failure.
pub(crate) type Outcome = Result<u8, Failure>;

pub(crate) const FAILED: ErrorKind = ErrorKind::Failed;
pub(crate) const REFUSED: ErrorKind = ErrorKind::Refused;

/// The exit code of a kind of error.
pub(crate) const fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Failed => 1,
        ErrorKind::Refused => 2,
        ErrorKind::Unknown => 3,
        ErrorKind::RequestIdTaken => 4,
        ErrorKind::DoesNotHold => 5,
        ErrorKind::Store => 6,
        ErrorKind::NothingServes => 7,
        ErrorKind::Interrupted => 130,
    }
}

/// The exit code of an answer.
pub(crate) fn code_of(answer: &impl Reply) -> u8 {
    answer.failure().map_or(0, exit_code)
}

/// The table of exit codes, as the help prints it.
pub(crate) fn table() -> String {
    let row = |code: u8, meaning: &str| format!("  {code:<5}{meaning}");
    let rows = ErrorKind::ALL.iter().map(|kind| row(exit_code(*kind), kind.meaning()));
    std::iter::once(row(0, "done")).chain(rows).collect::<Vec<_>>().join("\n")
}

/// The message of a failure: a field of a request is called by its flag.
pub(crate) fn message(failure: &Failure) -> String {
    match failure.refused_field() {
        Some(field) => format!("--{} {}", field.replace('_', "-"), failure.problem()),
        None => failure.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_kinds_share_an_exit_code_and_none_has_that_of_success() {
        let mut codes: Vec<u8> = ErrorKind::ALL.iter().map(|kind| exit_code(*kind)).collect();
        codes.push(0);
        codes.sort_unstable();
        assert!(codes.windows(2).all(|pair| pair[0] < pair[1]), "{codes:?}");
    }

    #[test]
    fn the_quickstart_has_the_table_of_exit_codes() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/quickstart.md");
        let page = std::fs::read_to_string(page).unwrap();
        for kind in ErrorKind::ALL {
            let row = format!("| {} | {} |", exit_code(kind), kind.meaning());
            assert!(page.contains(&row), "docs/guide/quickstart.md lacks the row\n{row}");
        }
    }

    #[test]
    fn a_field_of_a_request_is_called_by_its_flag() {
        let failure = Failure::field("below_depth", "is 2; it takes a share from 0 to 1");
        assert_eq!(message(&failure), "--below-depth is 2; it takes a share from 0 to 1");
    }
}
