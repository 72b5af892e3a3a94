//! Parts of an audit by attack in words, for tables and pages.

use s3t::core::wording::with_commas;
use s3t::eval::attack::MembershipAudit;
use s3t::eval::report::{Estimate, LowFpr, OracleComparison, Performance, TprAtFpr};

/// A true positive rate with its interval, or what it would need.
pub(crate) fn low_rate(rate: &LowFpr) -> String {
    match rate {
        LowFpr::Measured(TprAtFpr { tpr, interval, .. }) => {
            format!("{:.1} % [{:.1}, {:.1}]", 100.0 * tpr, 100.0 * interval.low, 100.0 * interval.high)
        }
        LowFpr::TooFewNonMembers { needed, found, .. } => format!("needs {needed} non-members, has {found}"),
    }
}

/// PrivLeak in percent.
pub(crate) fn priv_leak(comparison: &OracleComparison) -> String {
    comparison.priv_leak.map_or_else(|| "has no value".to_owned(), |leak| format!("{leak:.2} %"))
}

/// The records of an audit, in a sentence.
pub(crate) fn told(audit: &MembershipAudit) -> String {
    let count = with_commas;
    let repaired = if audit.settings.repair { ", repaired afterwards" } else { "" };
    let copied = match audit.copy_equal {
        Some(true) => " Before, the copy answered with the bits of the store.",
        Some(false) => " Before, the copy did NOT answer with the bits of the store.",
        None => "",
    };
    format!(
        "{} records ({} subjects) of {} slices were deleted from a copy{repaired}, and told from {} held-out records; {} of {} shards \
         answer after the deletion.{copied} Intervals in brackets are of {} % confidence.",
        count(audit.members),
        count(audit.subjects),
        count(audit.slices),
        count(audit.non_members),
        audit.shards[1],
        audit.shards[0],
        100.0 * audit.settings.confidence,
    )
}

/// The comparison with the oracle, in a sentence.
pub(crate) fn oracle(audit: &MembershipAudit) -> String {
    let of = &audit.oracle;
    match &of.difference {
        None => format!(
            "Oracle: {} answers and {} stages are equal, bit for bit, to those of a system that was trained without the records.",
            with_commas(of.answers),
            with_commas(of.stages)
        ),
        Some(difference) => {
            format!("Oracle: the system DIFFERS from one that was trained without the records: {difference}.")
        }
    }
}

/// The area under a curve with its interval.
pub(crate) fn auc(performance: &Performance) -> String {
    let Estimate { value, interval } = performance.auc;
    format!("{value:.3} [{:.3}, {:.3}]", interval.low, interval.high)
}
