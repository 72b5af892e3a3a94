/// A device that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// An unknown device name.
    #[error("unknown device `{0}`; known: flex, ndarray, cuda, cuda:N, vulkan, vulkan:N, wgpu, wgpu:N")]
    UnknownDevice(String),
    /// A device whose backend was not compiled in.
    #[error("device `{device}` is not compiled in; build with `--features {device}` or use one of: {compiled}")]
    DeviceNotCompiled {
        /// The device.
        device: &'static str,
        /// The devices that were compiled in.
        compiled: String,
    },
    /// A card that the machine does not have, or has no driver for.
    #[error(
        "device `{device}`: no such card among the {found} that its drivers offer; install a driver, or use `flex`"
    )]
    NoCard {
        /// The device.
        device: String,
        /// The number of cards that there are, software ones included.
        found: usize,
    },
}
