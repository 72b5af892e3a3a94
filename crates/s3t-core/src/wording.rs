//! Words of messages.

/// A number with commas between its thousands.
///
/// ```
/// use s3t_core::wording::with_commas;
///
/// assert_eq!([0, 999, 1000, 1_234_567].map(with_commas), ["0", "999", "1,000", "1,234,567"]);
/// ```
pub fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

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
