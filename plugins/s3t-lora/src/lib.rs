//! LoRA: low-rank updates of linear layers (Hu et al. 2022, arXiv 2106.09685); rsLoRA, the same with a scale that stays
//! right at high ranks (Kalajdzievski 2023, arXiv 2312.03732); and DoRA, which learns the length of each weight vector apart
//! from its direction (Liu et al. 2024, arXiv 2402.09353).
//!
//! # Proof note
//!
//! *Before*: the base weights are frozen and shared. *After* an adapter is dropped: the block computes what it
//! computed before, bit for bit. *Why*: the update `x A B` is computed beside `x W` and added to its result; `W` is never
//! merged into nor written to, so there is nothing to undo. At the start `B` is zero, so `x A B` is exactly zero.

mod dora;
mod lora;
mod low_rank;

pub use dora::Dora;
pub use lora::{Lora, RsLora};
