//! Adapters in the format of Hugging Face PEFT: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! [`read_adapter`] reads one for a base model, whoever made it. [`export`] writes the stages that a store serves with now, one adapter
//! a shard, and says which older exports a deletion has superseded.

mod adapter;
mod error;
mod export;
pub mod fields;
mod names;
mod read;
mod targets;
mod write;

pub use adapter::{Adapter, AdapterPart};
pub use error::InterchangeError;
pub use export::{
    Export, ExportedShard, MANIFEST, Superseded, SupersededExport, export, superseded, superseded_beside,
};
pub use read::read_adapter;
pub use write::write_adapter;
