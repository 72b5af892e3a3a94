//! Checks that every function makes of its inputs.

use crate::AttackError;

pub fn finite(what: &'static str, values: &[f64]) -> Result<(), AttackError> {
    if values.is_empty() {
        return Err(AttackError::Empty { what });
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(position) => Err(AttackError::NotFinite { what, position, value: values[position] }),
        None => Ok(()),
    }
}

pub fn same_length(what: &'static str, found: usize, of: &'static str, expected: usize) -> Result<(), AttackError> {
    if found == expected { Ok(()) } else { Err(AttackError::Length { what, found, expected, of }) }
}

pub fn within(what: &'static str, value: f64, allowed: &'static str, is_allowed: bool) -> Result<(), AttackError> {
    if is_allowed { Ok(()) } else { Err(AttackError::OutOfRange { what, value, allowed }) }
}

/// A probability strictly between 0 and 1.
pub fn open_unit(what: &'static str, value: f64) -> Result<(), AttackError> {
    within(what, value, "above 0 and below 1", value > 0.0 && value < 1.0)
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
