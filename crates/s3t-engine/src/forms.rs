//! The forms of numbers that devices have.

use s3t_backends::{DeviceKind, DeviceSpec};
use s3t_models::{Precision, WeightFormat};

/// Checks that a device has a form of frozen weights.
///
/// # Errors
///
/// The problem in words, which follow the name of the field.
///
/// ```
/// use s3t_engine::check_weights;
/// use s3t_models::WeightFormat;
///
/// assert!(check_weights(WeightFormat::Int8, "flex".parse()?).is_ok());
/// let problem = check_weights(WeightFormat::Int8, "ndarray".parse()?).unwrap_err();
/// assert_eq!(problem, "is \"int8\", which is for the device `flex`, and the device is `ndarray`; use \"full\"");
/// # Ok::<(), s3t_backends::BackendError>(())
/// ```
pub fn check_weights(weights: WeightFormat, device: DeviceSpec) -> Result<(), String> {
    if weights.is_full() || device.kind() == DeviceKind::Flex {
        return Ok(());
    }
    let name = weights.name();
    Err(format!("is \"{name}\", which is for the device `flex`, and the device is `{device}`; use \"full\""))
}

/// Checks that a device has products in a precision.
///
/// # Errors
///
/// The problem in words, which follow the name of the field.
pub fn check_precision(precision: Precision, device: DeviceSpec) -> Result<(), String> {
    if precision.is_f32() || device.kind().has_bf16() {
        return Ok(());
    }
    Err(format!("is \"bf16\", which the device `{device}` does not have; use \"f32\", or the device `flex`"))
}
