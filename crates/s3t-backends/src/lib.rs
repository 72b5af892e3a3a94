//! Devices and the numeric environment that results depend on.
//!
//! A [`DeviceSpec`] is a device by its name. [`DeviceSpec::open`] opens it, and [`DeviceSpec::environment`] describes the
//! arithmetic that results on it come from: two machines with equal environments are expected to train equal bits.
//!
//! ```
//! use s3t_backends::DeviceSpec;
//!
//! let device: DeviceSpec = "cuda:1".parse()?;
//! assert_eq!(device.to_string(), "cuda:1");
//! assert!(!device.is_cpu());
//! let refused = "gpu".parse::<DeviceSpec>().unwrap_err();
//! assert!(refused.to_string().contains("known: flex, ndarray, cuda"));
//! # Ok::<(), s3t_backends::BackendError>(())
//! ```

mod device;
mod error;
mod probe;

pub use burn::tensor::Device;
pub use device::{DeviceKind, DeviceSpec};
pub use error::BackendError;
pub use s3t_kernels::Instructions;
