//! The file of one stage: safetensors, with the lineage and a digest of the tensors as metadata.

use std::collections::HashMap;
use std::path::Path;

use s3t_core::{Digest, Lineage};
use s3t_peft::{HostTensor, NamedTensors, tensors};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::StoreError;
use crate::files::write_atomically;

/// The metadata key. One key only, so that the same stage always makes the same bytes.
const METADATA: &str = "s3t";

#[derive(Serialize, Deserialize)]
struct Metadata {
    lineage: Lineage,
    tensors: Digest,
}

pub(crate) fn write(path: &Path, lineage: &Lineage, named: &NamedTensors) -> Result<(), StoreError> {
    let invalid = |problem: String| StoreError::Damaged { path: path.into(), problem };
    let metadata = Metadata { lineage: lineage.clone(), tensors: tensors::digest(named) };
    let metadata = serde_json::to_string(&metadata).map_err(|error| invalid(error.to_string()))?;
    let bytes: Vec<Vec<u8>> = named.values().map(HostTensor::to_bytes).collect();
    let mut views = Vec::with_capacity(named.len());
    for ((name, tensor), bytes) in named.iter().zip(&bytes) {
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes);
        views.push((name, view.map_err(|error| invalid(error.to_string()))?));
    }
    let file = safetensors::serialize(views, Some(HashMap::from([(METADATA.to_owned(), metadata)])))
        .map_err(|error| invalid(error.to_string()))?;
    write_atomically(path, &file)
}

pub(crate) fn read(path: &Path) -> Result<(Lineage, NamedTensors), StoreError> {
    let bytes = std::fs::read(path).map_err(StoreError::io("read", path))?;
    let damaged = |problem: String| StoreError::Damaged { path: path.into(), problem };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| damaged(error.to_string()))?;
    let text = header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA));
    let text = text.ok_or_else(|| damaged("it has no lineage".into()))?;
    let metadata: Metadata = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| damaged(error.to_string()))?;
    let mut named = NamedTensors::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(damaged(format!("tensor `{name}` is not F32")));
        }
        let value = |bytes: &[u8]| f32::from_le_bytes(std::array::from_fn(|index| bytes[index]));
        let values = view.data().chunks_exact(4).map(value).collect();
        named.insert(name, HostTensor { shape: view.shape().to_vec(), values });
    }
    if tensors::digest(&named) != metadata.tensors {
        return Err(damaged("its tensors do not match their digest".into()));
    }
    Ok((metadata.lineage, named))
}
