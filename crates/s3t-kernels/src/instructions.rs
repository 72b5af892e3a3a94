//! The vector instructions that the kernels run on. They decide the speed alone: a test compares the bits of all of them.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

/// A set of vector instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Instructions {
    /// The widest that this processor has.
    Native,
    /// AVX2 with fused multiply-adds: vectors of 8 values (x86-64).
    Avx2,
    /// No vectors: one value at a time.
    Scalar,
}

/// The choice of this process: any number of threads may see it change at any time, as no bit depends on it.
static CHOSEN: AtomicU8 = AtomicU8::new(0);

impl Instructions {
    /// All sets, the fastest first.
    pub const ALL: [Self; 3] = [Self::Native, Self::Avx2, Self::Scalar];

    /// The name: `native`, `avx2`, `scalar`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Avx2 => "avx2",
            Self::Scalar => "scalar",
        }
    }

    /// Lets all kernels of this process use this set from now on, or the widest that the processor has if this is missing.
    pub fn choose(self) {
        CHOSEN.store(self as u8, Ordering::Relaxed);
    }

    /// The set that the kernels use.
    pub fn chosen() -> Self {
        Self::ALL[usize::from(CHOSEN.load(Ordering::Relaxed))]
    }
}

impl fmt::Display for Instructions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Instructions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|set| set.name() == text);
        found.ok_or_else(|| format!("`{text}` is no set of instructions: `native`, `avx2` or `scalar`"))
    }
}

/// Runs a kernel on the chosen instructions.
#[cfg(feature = "flex")]
pub(crate) fn dispatch<K: pulp::WithSimd>(kernel: K) -> K::Output {
    match Instructions::chosen() {
        Instructions::Scalar => kernel.with_simd(pulp::Scalar),
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => match pulp::x86::V3::try_new() {
            Some(simd) => pulp::Simd::vectorize(simd, kernel),
            None => pulp::Arch::new().dispatch(kernel),
        },
        _ => pulp::Arch::new().dispatch(kernel),
    }
}

/// The turn of a test that chooses instructions, which are those of the whole process. At its end the widest are chosen again.
#[cfg(test)]
pub(crate) struct Choosing {
    _turn: std::sync::MutexGuard<'static, ()>,
}

#[cfg(test)]
impl Choosing {
    pub(crate) fn take() -> Self {
        static TURNS: std::sync::Mutex<()> = std::sync::Mutex::new(());
        Self { _turn: TURNS.lock().unwrap_or_else(std::sync::PoisonError::into_inner) }
    }
}

#[cfg(test)]
impl Drop for Choosing {
    fn drop(&mut self) {
        Instructions::Native.choose();
    }
}
