/// A device that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// An unknown device name.
    #[error("unknown device `{0}`; known: flex, ndarray, cuda, cuda:N, vulkan")]
    UnknownDevice(String),
    /// A device whose backend was not compiled in.
    #[error("device `{device}` is not compiled in; build with `--features {device}` or use one of: {compiled}")]
    DeviceNotCompiled {
        /// The device.
        device: &'static str,
        /// The devices that were compiled in.
        compiled: String,
    },
}
