//! Choosing a device by name.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use burn::tensor::Device;
#[cfg(any(feature = "vulkan", feature = "wgpu"))]
use burn::tensor::DeviceKind as CardKind;
#[cfg(any(feature = "cuda", feature = "vulkan", feature = "wgpu"))]
use burn::tensor::DeviceType;
use s3t_core::NumericEnvironment;
use s3t_kernels::ARITHMETIC;

use crate::{BackendError, probe};

/// The version of the tensor library; part of every stage's lineage.
const LIBRARY: &str = "burn 0.22.1";

/// The digest of the self-test with [`ARITHMETIC`].
const SELF_TEST: &str = "f1780e137367264b";

/// The backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// Burn's maintained CPU backend; the default.
    Flex,
    /// Burn's older CPU backend.
    NdArray,
    /// NVIDIA cards.
    Cuda,
    /// Any card with a Vulkan driver.
    Vulkan,
    /// Any card that runs WebGPU's shaders: by Metal, DirectX 12 or Vulkan, whichever the machine has.
    Wgpu,
}

impl DeviceKind {
    const ALL: [Self; 5] = [Self::Flex, Self::NdArray, Self::Cuda, Self::Vulkan, Self::Wgpu];

    /// The name in pipeline files, and of the cargo feature.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::NdArray => "ndarray",
            Self::Cuda => "cuda",
            Self::Vulkan => "vulkan",
            Self::Wgpu => "wgpu",
        }
    }

    /// True if the backend computes with numbers in bfloat16: Burn's older CPU backend and the shaders of WebGPU have none.
    pub fn has_bf16(self) -> bool {
        !matches!(self, Self::NdArray | Self::Wgpu)
    }

    /// True if the backend is compiled in.
    pub fn is_compiled(self) -> bool {
        match self {
            Self::Flex => cfg!(feature = "flex"),
            Self::NdArray => cfg!(feature = "ndarray"),
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Wgpu => cfg!(feature = "wgpu"),
        }
    }
}

/// A device as it is written in a pipeline file: `flex`, `ndarray`, `cuda`, `cuda:1`, `vulkan`, `wgpu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceSpec {
    kind: DeviceKind,
    index: usize,
}

impl DeviceSpec {
    /// The backend.
    pub fn kind(self) -> DeviceKind {
        self.kind
    }

    /// True if the device computes on the processor, where many jobs run side by side and every bit is reproducible.
    pub fn is_cpu(self) -> bool {
        matches!(self.kind, DeviceKind::Flex | DeviceKind::NdArray)
    }

    /// Opens the device.
    ///
    /// # Errors
    ///
    /// [`BackendError::DeviceNotCompiled`] if its backend was not compiled in, [`BackendError::NoCard`] if the machine has no such card.
    pub fn open(self) -> Result<Device, BackendError> {
        match self.kind {
            #[cfg(feature = "flex")]
            DeviceKind::Flex => Ok(Device::flex()),
            #[cfg(feature = "ndarray")]
            #[allow(deprecated, reason = "it is on offer for as long as upstream has it")]
            DeviceKind::NdArray => Ok(Device::ndarray()),
            #[cfg(feature = "cuda")]
            DeviceKind::Cuda => {
                let found = Device::enumerate(DeviceType::Cuda).len();
                if self.index < found { Ok(Device::cuda(self.index)) } else { Err(self.no_card(found)) }
            }
            #[cfg(feature = "vulkan")]
            DeviceKind::Vulkan => self.card(DeviceType::Vulkan, Device::vulkan),
            #[cfg(feature = "wgpu")]
            DeviceKind::Wgpu => self.card(DeviceType::Wgpu, Device::wgpu),
            #[allow(unreachable_patterns)]
            kind => {
                let compiled: Vec<_> =
                    DeviceKind::ALL.into_iter().filter(|kind| kind.is_compiled()).map(DeviceKind::name).collect();
                Err(BackendError::DeviceNotCompiled { device: kind.name(), compiled: compiled.join(", ") })
            }
        }
    }

    /// The best card that a backend finds, or the discrete card of the index.
    #[cfg(any(feature = "vulkan", feature = "wgpu"))]
    fn card(self, backend: DeviceType, card: fn(CardKind) -> Device) -> Result<Device, BackendError> {
        let found = Device::enumerate(backend);
        let (device, is_there) = match self.index {
            0 => (card(CardKind::DefaultDevice), !found.is_empty()),
            index => {
                let device = card(CardKind::DiscreteGpu(index));
                let is_there = found.contains(&device);
                (device, is_there)
            }
        };
        if is_there { Ok(device) } else { Err(self.no_card(found.len())) }
    }

    #[cfg(any(feature = "cuda", feature = "vulkan", feature = "wgpu"))]
    fn no_card(self, found: usize) -> BackendError {
        BackendError::NoCard { device: self.to_string(), found }
    }

    /// The name of the card and what its kernels are compiled for, as in `NVIDIA H200, ptx_sm90`; `None` for a processor, and where there is
    /// no card.
    fn card_name(self) -> Option<String> {
        #[cfg(any(feature = "cuda", feature = "vulkan", feature = "wgpu"))]
        if !self.is_cpu() {
            let identity = self.open().ok()?.identity()?;
            return Some(format!("{}, {}", identity.name, identity.fingerprint));
        }
        None
    }

    /// The arithmetic that results on this device and machine come from.
    ///
    /// On `flex` it is [`ARITHMETIC`] on every machine. A machine that fails the self-test, because it computes something else than
    /// others for a reason that nobody foresaw, has an environment of its own, which no other store is of. On a card the architecture is the
    /// card's: another card gives other bits.
    pub fn environment(self) -> NumericEnvironment {
        let (backend, precision, probe) = (self.kind.name().to_owned(), "f32".to_owned(), self.probe());
        if self.kind == DeviceKind::Flex {
            return NumericEnvironment {
                backend,
                library: ARITHMETIC.to_owned(),
                architecture: NumericEnvironment::ANY.to_owned(),
                instructions: Vec::new(),
                precision,
                probe: if probe == SELF_TEST { String::new() } else { probe },
            };
        }
        NumericEnvironment {
            backend,
            library: format!("{LIBRARY}, {ARITHMETIC}"),
            architecture: self.card_name().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            instructions: if self.is_cpu() { vector_instructions() } else { Vec::new() },
            precision,
            probe,
        }
    }

    /// The digest of what the processor computes; empty for cards, whose bits are not promised.
    fn probe(self) -> String {
        static PROBES: [OnceLock<String>; 2] = [const { OnceLock::new() }; 2];
        let probe = match self.kind {
            DeviceKind::Flex => &PROBES[0],
            DeviceKind::NdArray => &PROBES[1],
            DeviceKind::Cuda | DeviceKind::Vulkan | DeviceKind::Wgpu => return String::new(),
        };
        probe
            .get_or_init(|| {
                self.open()
                    .map_or_else(|_| String::new(), |device| probe::digest(&device, self.kind == DeviceKind::Flex))
            })
            .clone()
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if self.index > 0 { write!(f, ":{}", self.index) } else { Ok(()) }
    }
}

impl FromStr for DeviceSpec {
    type Err = BackendError;

    fn from_str(text: &str) -> Result<Self, BackendError> {
        let unknown = || BackendError::UnknownDevice(text.to_owned());
        let (name, index) = match text.split_once(':') {
            Some((card @ ("cuda" | "vulkan" | "wgpu"), index)) => (card, index.parse().map_err(|_| unknown())?),
            Some(_) => return Err(unknown()),
            None => (text, 0),
        };
        let kind = DeviceKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(unknown)?;
        Ok(Self { kind, index })
    }
}

/// The vector instructions by which the CPU kernels choose their code path, and so the order of their additions.
fn vector_instructions() -> Vec<String> {
    #[cfg(target_arch = "x86_64")]
    {
        let found = [
            ("avx2", std::arch::is_x86_feature_detected!("avx2")),
            ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
            ("fma", std::arch::is_x86_feature_detected!("fma")),
        ];
        found.into_iter().filter(|(_, present)| *present).map(|(name, _)| name.to_owned()).collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_print() {
        for name in ["flex", "ndarray", "cuda", "cuda:1", "vulkan", "vulkan:1", "wgpu", "wgpu:1"] {
            assert_eq!(name.parse::<DeviceSpec>().unwrap().to_string(), name);
        }
        for name in ["gpu", "cuda:x", "wgpu:", "flex:0", ""] {
            assert!(name.parse::<DeviceSpec>().unwrap_err().to_string().contains("known: flex"), "{name}");
        }
    }

    #[cfg(feature = "flex")]
    #[test]
    fn every_set_of_instructions_passes_the_self_test() {
        let device = "flex".parse::<DeviceSpec>().unwrap();
        for set in s3t_kernels::Instructions::ALL {
            set.choose();
            assert_eq!(probe::digest(&device.open().unwrap(), true), SELF_TEST, "{set}");
        }
        s3t_kernels::Instructions::Native.choose();
        assert_eq!(device.environment().to_string(), "s3t-arithmetic 1, f32");
    }

    #[test]
    fn the_library_in_lineages_is_the_linked_version() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock")).unwrap();
        let (name, version) = LIBRARY.split_once(' ').unwrap();
        assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"")), "{LIBRARY}");
    }

    #[test]
    fn devices_that_were_not_compiled_in_are_refused() {
        for kind in DeviceKind::ALL.into_iter().filter(|kind| !kind.is_compiled()) {
            let message = DeviceSpec { kind, index: 0 }.open().unwrap_err().to_string();
            assert!(message.contains(&format!("--features {}", kind.name())), "{message}");
        }
    }
}
