//! The trait crate of PEFT methods.
//!
//! A method declares, for one transformer block, which named parameters it needs ([`PeftMethod::parameters`]), and turns
//! their tensors into hooks that the block calls while it runs ([`BlockAdapter`]). It never sees a model, a record, a file
//! or another block: [`BlockShape`] describes the layers that it adapts, so it works with every backbone.
//!
//! This is the one crate that a third party's PEFT plugin depends on; the tensor library and the plugin macro are
//! re-exported.

mod adapter;
mod dropout;
mod error;
pub mod interchange;
mod method;
pub mod tensors;
mod terms;

pub use adapter::{
    Adapters, AdaptersBySite, BlockAdapter, KeyValuePrefix, Linear, LinearSite, LowRankAdapter, StackedAdapter,
    Sublayer,
};
pub use dropout::Dropout;
pub use error::PeftError;
pub use interchange::{Interchange, InterchangeTensor, PeftReader, ReadMethod};
pub use method::{BlockParameters, BlockShape, Init, ParameterSpec, PeftMethod, bind};

pub use burn::tensor::{Device, Tensor};
pub use s3t_core::tensors::{BlockTensors, HostTensor, NamedTensors, StageTensors};
pub use s3t_kernels::{Activation, LowRankFactors, Weight, activate, matmul, matmul_frozen};
pub use {burn, s3t_core, serde_json, typetag};
