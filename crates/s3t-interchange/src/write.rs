//! Writing an adapter in PEFT's format.

use std::path::Path;

use s3t_core::tensors::{HostTensor, NamedTensors, StageTensors, head_name, parameter_name};
use s3t_core::{BlockRange, Task};
use s3t_models::{Backbone, write_safetensors};
use s3t_peft::PeftMethod;
use serde_json::{Value, json};

use crate::InterchangeError;
use crate::adapter::{CONFIG, WEIGHTS};
use crate::names::{ROOT, shape_with};

/// Writes an adapter as PEFT does, into a folder that is there. `tensors` are a stage chain's, `base_model` is what `base_model_name_or_path` says.
///
/// # Errors
///
/// [`s3t_peft::PeftError::NoInterchange`] for a method that PEFT does not know; [`InterchangeError::Head`] for a model whose
/// head `transformers` would not build; [`InterchangeError::Write`].
pub fn write_adapter(
    directory: &Path,
    backbone: &Backbone,
    method: &dyn PeftMethod,
    blocks: BlockRange,
    tensors: &StageTensors,
    task: Task,
    base_model: &str,
) -> Result<(), InterchangeError> {
    // The newest names: an adapter is for the library that will load it, not for the file that the model came in.
    let Some(names) = backbone.module_names().last() else { return Ok(()) };
    let shape = shape_with(&backbone.block_shape(), names);
    let layout = method.interchange(&shape)?;
    let mut config = layout.config;
    // PEFT takes a target for the end of a path, so a module that is another's end needs its whole path.
    let targets: Vec<&str> = config
        .get("target_modules")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let ambiguous = names.linears.iter().any(|(_, other)| {
        !targets.contains(other) && targets.iter().any(|target| other.ends_with(&format!(".{target}")))
    });
    let limits_layers = config.get("peft_type").is_some_and(|kind| kind == "LORA") && !ambiguous;
    if limits_layers {
        config.insert("layers_to_transform".into(), json!(blocks.range().collect::<Vec<_>>()));
        let pattern = names.blocks.rsplit('.').next().unwrap_or(names.blocks);
        config.insert("layers_pattern".into(), json!(pattern));
    } else {
        // Methods other than LoRA have no field for it: their targets are whole paths.
        for key in ["target_modules", "feedforward_modules"] {
            let Some(Value::Array(items)) = config.get_mut(key) else { continue };
            let paths = items.iter().filter_map(Value::as_str).flat_map(|inside| {
                blocks.range().map(move |block| json!(format!("{}.{block}.{inside}", names.blocks)))
            });
            *items = paths.collect();
        }
    }
    let head = backbone.head();
    let has_head = tensors.head.is_some();
    if let Some(obstacle) = backbone.head_obstacle().filter(|_| has_head) {
        return Err(InterchangeError::Head(obstacle));
    }
    let task_type = match task {
        Task::CausalLm => json!("CAUSAL_LM"),
        _ if backbone.image_input().is_some() => Value::Null,
        _ => json!("SEQ_CLS"),
    };
    config.insert("task_type".into(), task_type);
    // PEFT saves whole modules: of a head with two layers, their parent or both.
    config.insert("modules_to_save".into(), if has_head { json!(head.modules()) } else { Value::Null });
    config.insert("base_model_name_or_path".into(), json!(base_model));
    config.insert("inference_mode".into(), json!(true));
    config.insert("revision".into(), Value::Null);

    let mut file = NamedTensors::new();
    let lacks = |name: &str| InterchangeError::Tensors { path: directory.into(), problem: format!("lacks `{name}`") };
    for block in blocks.range() {
        for tensor in &layout.tensors {
            let found = tensors.blocks.get(&block).and_then(|tensors| tensors.get(&tensor.parameter));
            let found = found.ok_or_else(|| lacks(&parameter_name(block, &tensor.parameter)))?;
            let theirs = format!("{ROOT}{}.{block}.{}", names.blocks, tensor.file);
            file.insert(theirs, HostTensor { shape: tensor.shape.clone(), values: found.values.clone() });
        }
    }
    if let Some(tensors) = &tensors.head {
        for (ours, theirs) in head.names() {
            let tensor = tensors.get(ours).ok_or_else(|| lacks(&head_name(ours)))?;
            file.insert(format!("{ROOT}{theirs}"), tensor.clone());
        }
    }
    let path = directory.join(CONFIG);
    let text = format!("{:#}\n", Value::Object(config));
    std::fs::write(&path, text).map_err(|cause| InterchangeError::Write { path, cause })?;
    Ok(write_safetensors(&directory.join(WEIGHTS), &file)?)
}
