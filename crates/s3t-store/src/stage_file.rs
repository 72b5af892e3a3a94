//! The content of a stage's file: safetensors, with the lineage and a digest of the tensors as metadata.

use std::collections::HashMap;

use s3t_core::tensors::{HostTensor, NamedTensors, StageTensors};
use s3t_core::{Digest, Lineage};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

/// The metadata key. One key only, so that the same stage always makes the same bytes.
const METADATA: &str = "s3t";

#[derive(Serialize, Deserialize)]
struct Metadata {
    lineage: Lineage,
    tensors: Digest,
}

pub(crate) fn to_bytes(lineage: &Lineage, tensors: &StageTensors) -> Result<Vec<u8>, String> {
    let metadata = Metadata { lineage: lineage.clone(), tensors: tensors.digest() };
    let metadata = serde_json::to_string(&metadata).map_err(|error| error.to_string())?;
    let named = tensors.named();
    let bytes: Vec<Vec<u8>> = named.values().map(|tensor| tensor.to_bytes()).collect();
    let mut views = Vec::with_capacity(named.len());
    for ((name, tensor), bytes) in named.iter().zip(&bytes) {
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes);
        views.push((name, view.map_err(|error| error.to_string())?));
    }
    safetensors::serialize(views, Some(HashMap::from([(METADATA.to_owned(), metadata)])))
        .map_err(|error| error.to_string())
}

/// Reads the content of a stage's file: the lineage, and the tensors, which match the digest beside them.
///
/// The caller checks that the lineage makes the key that it expects.
///
/// # Errors
///
/// The problem, as in "its tensors do not match their digest".
pub fn from_bytes(bytes: &[u8]) -> Result<(Lineage, StageTensors), String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let text = header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA)).ok_or("it has no lineage")?;
    let metadata: Metadata = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let mut named = NamedTensors::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(format!("tensor `{name}` is not F32"));
        }
        let values = view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        named.insert(name, HostTensor { shape: view.shape().to_vec(), values });
    }
    let tensors = StageTensors::from_named(named).map_err(|error| error.to_string())?;
    if tensors.digest() != metadata.tensors {
        return Err("its tensors do not match their digest".into());
    }
    Ok((metadata.lineage, tensors))
}
