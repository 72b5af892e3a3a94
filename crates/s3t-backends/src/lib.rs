//! Devices and frozen base models.
//!
//! A [`Backbone`] is a base model whose transformer blocks can be run from block i to block j with [`Adapters`] switched
//! on; its weights are never written to. [`load`] reads one from a Hugging Face directory.
//!
//! [`Adapters`]: s3t_peft::Adapters

mod backbone;
mod bert;
mod block;
mod device;
mod error;
pub mod fields;
mod head;
mod huggingface;
mod llama;
mod preprocessing;
mod probe;
mod rotary;
mod text;
mod tokenizer_file;
mod tokenizer_files;
mod vit;
mod weights;

pub use backbone::{Backbone, Hidden, Input, ModuleNames, OwnHead};
pub use block::TransformerBlock;
pub use device::{DeviceKind, DeviceSpec};
pub use error::BackendError;
pub use head::{Head, HeadLayout, head_outputs};
pub use huggingface::{LoadOptions, is_class_for_records, known_classes, load, picture_input};
pub use preprocessing::Preprocessing;
pub use vit::{Vit, VitConfig, random_vit_tensors, write_vit};
pub use weights::{read_safetensors, write_safetensors};

pub use s3t_peft::Device;
