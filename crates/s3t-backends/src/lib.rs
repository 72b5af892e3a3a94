//! Devices and frozen base models.
//!
//! A [`Backbone`] is a base model whose transformer blocks can be run from block i to block j with [`Adapters`] switched
//! on; its weights are never written to. [`load`] reads one from a Hugging Face directory.
//!
//! [`Adapters`]: s3t_peft::Adapters

mod backbone;
mod block;
mod device;
mod error;
mod huggingface;
mod probe;
mod vit;

pub use backbone::{Backbone, Classifier, Hidden};
pub use block::TransformerBlock;
pub use device::{DeviceKind, DeviceSpec};
pub use error::BackendError;
pub use huggingface::{Preprocessing, load};
pub use vit::{Vit, VitConfig, random_vit_tensors, write_vit};

pub use s3t_peft::Device;
