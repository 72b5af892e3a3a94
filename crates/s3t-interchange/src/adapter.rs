//! One adapter in PEFT's format.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use s3t_backends::{Backbone, Device, ModuleNames, head_outputs, read_safetensors, write_safetensors};
use s3t_core::limits::{read_text_at_most, shown};
use s3t_core::{BlockRange, Limits, Task};
use s3t_peft::tensors::on_device;
use s3t_peft::{HostTensor, NamedTensors, PeftMethod, interchange, parameter_name};
use s3t_train::StageModel;
use serde_json::{Map, Value, json};

use crate::InterchangeError;
use crate::names::{ROOT, shape_with, split};

const CONFIG: &str = "adapter_config.json";
/// The most bytes of the configuration.
const MOST_CONFIG_BYTES: u64 = 4 << 20;
const WEIGHTS: &str = "adapter_model.safetensors";

/// An adapter of a base model.
#[derive(Debug)]
pub struct Adapter {
    /// The method.
    pub method: Box<dyn PeftMethod>,
    /// The blocks that have an adapter.
    pub blocks: BTreeSet<usize>,
    /// The parameters by the names of a stage's tensors, and the head's if there is one.
    pub tensors: NamedTensors,
}

impl Adapter {
    /// The outputs of the adapter's own head; 0 if it has none.
    pub fn outputs(&self) -> usize {
        head_outputs(&self.tensors)
    }

    /// The model of this adapter on its base, with the adapter's head or, if it has none, the base model's.
    ///
    /// # Errors
    ///
    /// [`InterchangeError::Train`] if a head is needed and neither has one.
    pub fn model(&self, backbone: &dyn Backbone, device: &Device, task: Task) -> Result<StageModel, InterchangeError> {
        let mut tensors = on_device(&self.tensors, device);
        if let Some(own) = backbone.classifier().filter(|_| task != Task::CausalLm && self.outputs() == 0) {
            tensors.extend(on_device(own, device));
        }
        Ok(StageModel::of_blocks(backbone, &*self.method, &self.blocks, task.outputs(), &tensors)?)
    }
}

/// Reads the adapter in a folder for a base model.
///
/// # Errors
///
/// [`InterchangeError`] naming the file and what is wrong: an unreadable file, a method that no linked plugin reads, a field
/// without meaning here, tensors that are missing, left over or of another shape.
pub fn read_adapter(directory: &Path, backbone: &dyn Backbone) -> Result<Adapter, InterchangeError> {
    let path = directory.join(CONFIG);
    let read = File::open(&path).and_then(|file| read_text_at_most(file, MOST_CONFIG_BYTES));
    let text = read.map_err(|source| InterchangeError::Read { path: path.clone(), source })?;
    let refuse = |problem: String| InterchangeError::Config { path: path.clone(), problem };
    // An adapter is read with the limits of a model whose pipeline says nothing.
    let limits = Limits::default();
    limits.check_json(text.as_bytes()).map_err(refuse)?;
    let config: Map<String, Value> =
        serde_json::from_str(&text).map_err(|error| refuse(format!("not a JSON object: {error}")))?;
    // Versions of `transformers` name modules differently; the names that the configuration fits are those it was made with.
    let mut problems = Vec::new();
    for names in backbone.module_names() {
        let mut config = config.clone();
        let blocks = match blocks_of(&mut config, names, backbone.blocks()) {
            Ok(blocks) => blocks,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let shape = shape_with(&backbone.block_shape(), names);
        match interchange::read_config(&config, &shape) {
            Ok(method) => return read_tensors(directory, backbone, names, method, blocks),
            Err(error) => problems.push(error.to_string()),
        }
    }
    Err(refuse(problems.swap_remove(0)))
}

/// The blocks that a configuration adapts. Targets with the whole path of a module are cut to the path inside a block.
fn blocks_of(config: &mut Map<String, Value>, names: &ModuleNames, all: usize) -> Result<BTreeSet<usize>, String> {
    let mut of_paths: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for key in ["target_modules", "feedforward_modules"] {
        let Some(Value::Array(items)) = config.get_mut(key) else { continue };
        for item in items {
            let Some((block, inside)) = item.as_str().and_then(|path| split(path, names.blocks)) else { continue };
            of_paths.entry(inside.to_owned()).or_default().insert(block);
            // A whole path is one layer, though its end may be the end of another's too: BERT's `output.dense`.
            let site = names.linears.iter().find(|(_, module)| *module == inside);
            *item = json!(site.map_or(inside, |(site, _)| site.name()));
        }
    }
    let mut sets = of_paths.into_values();
    let mut blocks = match sets.next() {
        Some(first) if sets.all(|other| other == first) => first,
        Some(_) => return Err("its `target_modules` differ from block to block, which is not supported".into()),
        None => (0..all).collect(),
    };
    match config.get("layers_to_transform") {
        None | Some(Value::Null) => {}
        Some(Value::Number(block)) => blocks.retain(|own| Some(*own as u64) == block.as_u64()),
        Some(Value::Array(items)) => {
            let named: BTreeSet<usize> = items.iter().filter_map(Value::as_u64).map(|block| block as usize).collect();
            if named.len() != items.len() {
                return Err("`layers_to_transform` is not a list of distinct block numbers".into());
            }
            blocks = named;
        }
        Some(other) => {
            let other = shown(&other.to_string());
            return Err(format!("`layers_to_transform` is {other}, not a list of block numbers"));
        }
    }
    match blocks.last() {
        Some(last) if *last < all => Ok(blocks),
        Some(last) => Err(format!("it adapts block {last}, but the model has the blocks 0 to {}", all - 1)),
        None => Err("it adapts no block of this model".into()),
    }
}

fn read_tensors(
    directory: &Path,
    backbone: &dyn Backbone,
    names: &ModuleNames,
    method: Box<dyn PeftMethod>,
    blocks: BTreeSet<usize>,
) -> Result<Adapter, InterchangeError> {
    let path = directory.join(WEIGHTS);
    let refuse = |problem: String| InterchangeError::Tensors { path: path.clone(), problem };
    let mut inside: BTreeMap<(usize, String), HostTensor> = BTreeMap::new();
    let mut tensors = NamedTensors::new();
    let head = backbone.head().names();
    for (name, tensor) in read_safetensors(&path)? {
        let short = name.strip_prefix(ROOT).unwrap_or(&name);
        if let Some((block, rest)) = split(short, names.blocks) {
            inside.insert((block, rest.to_owned()), tensor);
        } else if let Some((ours, _)) = head.iter().find(|(_, theirs)| theirs == short) {
            tensors.insert((*ours).to_owned(), tensor);
        } else {
            return Err(refuse(format!(
                "holds `{}`, which is neither in a block nor in the head of this model",
                shown(&name)
            )));
        }
    }
    let layout = method.interchange(&shape_with(&backbone.block_shape(), names))?;
    for block in &blocks {
        for tensor in &layout.tensors {
            let Some(found) = inside.remove(&(*block, tensor.file.clone())) else {
                return Err(refuse(format!("lacks `{ROOT}{}.{block}.{}`", names.blocks, tensor.file)));
            };
            if found.shape.iter().product::<usize>() != tensor.shape.iter().product::<usize>() {
                let problem = format!(
                    "`{}` of block {block} has the shape {:?}, not {:?}",
                    tensor.file, found.shape, tensor.shape
                );
                return Err(refuse(problem));
            }
            tensors.insert(parameter_name(*block, &tensor.parameter), found);
        }
    }
    match inside.keys().next() {
        Some((block, rest)) => {
            Err(refuse(format!("holds `{rest}` of block {block}, which the configuration does not ask for")))
        }
        None => Ok(Adapter { method, blocks, tensors }),
    }
}

/// Writes an adapter as PEFT does. `tensors` are a stage chain's, `base_model` is what `base_model_name_or_path` says.
///
/// # Errors
///
/// [`s3t_peft::PeftError::NoInterchange`] for a method that PEFT does not know; [`InterchangeError::Head`] for a model whose
/// head `transformers` would not build; [`InterchangeError::Write`].
pub fn write_adapter(
    directory: &Path,
    backbone: &dyn Backbone,
    method: &dyn PeftMethod,
    blocks: BlockRange,
    tensors: &NamedTensors,
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
    // PEFT saves a whole module: of a head with two layers, their parent.
    let module = head.output.split('.').next().unwrap_or(head.output);
    let has_head = tensors.keys().any(|name| name.starts_with(s3t_backends::HEAD_PREFIX));
    if let Some(obstacle) = backbone.head_obstacle().filter(|_| has_head) {
        return Err(InterchangeError::Head(obstacle));
    }
    let task_type = match task {
        Task::CausalLm => json!("CAUSAL_LM"),
        _ if backbone.image_input().is_some() => Value::Null,
        _ => json!("SEQ_CLS"),
    };
    config.insert("task_type".into(), task_type);
    config.insert("modules_to_save".into(), if has_head { json!([module]) } else { Value::Null });
    config.insert("base_model_name_or_path".into(), json!(base_model));
    config.insert("inference_mode".into(), json!(true));
    config.insert("revision".into(), Value::Null);

    let mut file = NamedTensors::new();
    let lacks = |name: &str| InterchangeError::Tensors { path: directory.into(), problem: format!("lacks `{name}`") };
    for block in blocks.range() {
        for tensor in &layout.tensors {
            let name = parameter_name(block, &tensor.parameter);
            let values = tensors.get(&name).ok_or_else(|| lacks(&name))?.values.clone();
            let theirs = format!("{ROOT}{}.{block}.{}", names.blocks, tensor.file);
            file.insert(theirs, HostTensor { shape: tensor.shape.clone(), values });
        }
    }
    for (ours, theirs) in head.names().iter().filter(|_| has_head) {
        let tensor = tensors.get(*ours).ok_or_else(|| lacks(ours))?;
        file.insert(format!("{ROOT}{theirs}"), tensor.clone());
    }
    let write = |source| InterchangeError::Write { path: directory.into(), source };
    std::fs::create_dir_all(directory).map_err(write)?;
    let path = directory.join(CONFIG);
    let text = format!("{:#}\n", Value::Object(config));
    std::fs::write(&path, text).map_err(|source| InterchangeError::Write { path, source })?;
    Ok(write_safetensors(&directory.join(WEIGHTS), &file)?)
}
