//! LoRA: low-rank updates of linear layers (Hu et al. 2022, arXiv 2106.09685); rsLoRA, the same with a scale that stays
//! right at high ranks (Kalajdzievski 2023, arXiv 2312.03732); and DoRA, which learns the length of each weight vector apart
//! from its direction (Liu et al. 2024, arXiv 2402.09353).

mod dora;
mod lora;
mod low_rank;

pub use dora::Dora;
pub use lora::{Lora, RsLora};
