//! Words of messages.

/// A number with its noun in the singular or plural.
///
/// ```
/// use s3t_core::wording::counted;
///
/// assert_eq!(counted(1, "stage"), "1 stage");
/// assert_eq!(counted(0, "stage"), "0 stages");
/// assert_eq!(counted(12, "ledger entry"), "12 ledger entries");
/// assert_eq!(counted(2, "day"), "2 days");
/// ```
pub fn counted(number: usize, noun: &str) -> String {
    match noun.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'o', 'u'])) {
        Some(stem) if number != 1 => format!("{number} {stem}ies"),
        _ => format!("{number} {noun}{}", if number == 1 { "" } else { "s" }),
    }
}
