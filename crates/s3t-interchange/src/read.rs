//! Reading an adapter in PEFT's format.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use s3t_core::Limits;
use s3t_core::limits::read_text_at_most;
use s3t_core::tensors::{BlockTensors, HostTensor, NamedTensors, StageTensors};
use s3t_models::{
    Backbone, ModelError, ModuleNames, head_outputs, is_class_for_records, known_classes, open_file, read_safetensors,
    safetensors_names,
};
use s3t_peft::tensors::{on_device, to_host};
use s3t_peft::{BlockShape, Linear, LinearSite, Tensor, bind, interchange};
use serde_json::{Map, Value, json};

use crate::adapter::{CONFIG, WEIGHTS};
use crate::names::{ROOT, shape_with, split};
use crate::targets::{self, FeedForward, Patterns, Targets};
use crate::{Adapter, AdapterPart, InterchangeError, fields};

/// Blocks with equal settings: the fields of their configuration, the layers that it changes, and the blocks.
type OfBlocks = (Map<String, Value>, BTreeSet<LinearSite>, BTreeSet<usize>);

/// The largest size of the configuration, in bytes.
const MOST_CONFIG_BYTES: u64 = 4 << 20;

/// The fields that decide which tensors an adapter has.
const ASKING: &str = "the fields of adapter_config.json (`peft_type`, `target_modules`, `exclude_modules`, `layers_to_transform`, `use_dora`, \
                      `modules_to_save`)";

/// Reads the adapter in a folder for a base model. Fields in `accepted` are passed over although they are refused or unknown.
///
/// # Errors
///
/// [`InterchangeError`] naming the file and what is wrong: an unreadable file, a method that no linked plugin reads, a field or
/// a task without meaning here, tensors that are missing, left over, of another shape or not finite, a head on a base model
/// whose layer before the head is missing.
pub fn read_adapter(directory: &Path, backbone: &Backbone, accepted: &[String]) -> Result<Adapter, InterchangeError> {
    let path = directory.join(CONFIG);
    let read_text = open_file(&path).and_then(|file| read_text_at_most(file, MOST_CONFIG_BYTES));
    let text = read_text.map_err(|cause| InterchangeError::Read { path: path.clone(), cause })?;
    let refuse = |problem: String| InterchangeError::Config { path: path.clone(), problem };
    // An adapter is read with the limits of a model whose pipeline says nothing.
    Limits::default().check_json(text.as_bytes()).map_err(refuse)?;
    let mut config: Map<String, Value> =
        serde_json::from_str(&text).map_err(|error| refuse(format!("not a JSON object: {error}")))?;
    let peft_type = config.get("peft_type").and_then(Value::as_str).unwrap_or_default();
    if let Some(table) = fields::of_adapter(peft_type) {
        table.check(&config, accepted).map_err(|error| refuse(error.to_string()))?;
    }
    config.retain(|name, _| name == "peft_type" || !accepted.contains(name));
    // The model's own message is about a model's folder.
    let of_adapter = |error| match error {
        ModelError::Read { path, cause } => InterchangeError::Read { path, cause },
        other => other.into(),
    };
    let weights = directory.join(WEIGHTS);
    let held = safetensors_names(&weights).map_err(of_adapter)?;
    let read_all = || read_safetensors(&weights).map_err(of_adapter);
    let adapter = read(directory, &config, &held, read_all, backbone, refuse)?;
    let saved_pooler = adapter.pooler.is_some();
    targets::check_saved(&config, backbone, adapter.outputs() > 0, saved_pooler).map_err(refuse)?;
    check_task(&config, &adapter, backbone).map_err(refuse)?;
    if let Some(obstacle) = backbone.head_obstacle().filter(|_| adapter.outputs() > 0) {
        return Err(refuse(format!("the adapter has a head, but {obstacle}")));
    }
    Ok(adapter)
}

fn read(
    directory: &Path,
    config: &Map<String, Value>,
    held: &[String],
    read_all: impl FnOnce() -> Result<NamedTensors, InterchangeError>,
    backbone: &Backbone,
    refuse: impl Fn(String) -> InterchangeError,
) -> Result<Adapter, InterchangeError> {
    // Versions of `transformers` name modules differently; the names that fit the tensors are those it was made with.
    let all = backbone.module_names();
    let in_block = |names: &&ModuleNames| held.iter().any(|name| split(bare(name), names.blocks).is_some());
    let fits = |names: &&ModuleNames| {
        let known = |inside: &str| names.linears.iter().any(|(_, module)| inside.starts_with(&format!("{module}.")));
        held.iter().any(|name| split(bare(name), names.blocks).is_some_and(|(_, inside)| known(inside)))
    };
    let names = all.iter().find(fits).or_else(|| all.iter().find(in_block)).or_else(|| all.last());
    let Some(names) = names else { return Err(refuse("this model type has no adapters".into())) };
    // A method that nobody reads is named before its targets are looked for.
    let peft_type = config.get("peft_type").and_then(Value::as_str).unwrap_or_default();
    if !interchange::known_types().contains(&peft_type) {
        interchange::read_config(config, &backbone.block_shape()).map_err(|error| refuse(error.to_string()))?;
    }
    let targets = targets::resolve(config, names, backbone).map_err(&refuse)?;
    let parts = parts_of(config, &targets, names, backbone).map_err(&refuse)?;
    let pooler = targets.pooler.then(|| backbone.pooler()).flatten().map(|(name, _)| name);
    let of_pooler = pooler.map(|name| pooler_config(config, name)).transpose().map_err(&refuse)?;
    // Embeddings and language heads, which adapters are saved with too, are large: they are refused before anything is read.
    let head = backbone.head().names();
    let has_place = |name: &&String| {
        let short = bare(name);
        let of_pooler = backbone.pooler().is_some_and(|(module, _)| short.starts_with(&format!("{module}.")));
        split(short, names.blocks).is_some() || of_pooler || head.iter().any(|(_, theirs)| *theirs == short)
    };
    if let Some(name) = held.iter().find(|name| !has_place(name)) {
        let problem = format!(
            "holds `{name}`, which is neither in a block nor in the head of this model (see `target_modules` and `modules_to_save`)"
        );
        return Err(InterchangeError::Tensors { path: directory.join(WEIGHTS), problem });
    }
    place(directory, backbone, names, parts, of_pooler, read_all()?)
}

/// A name without PEFT's prefix.
fn bare(name: &str) -> &str {
    name.strip_prefix(ROOT).unwrap_or(name)
}

/// The configuration of some layers alone: their names as targets, and their own rank and scale.
fn config_of(
    config: &Map<String, Value>,
    sites: &[LinearSite],
    inputs: &[LinearSite],
    own: &Own,
) -> Map<String, Value> {
    let mut config = config.clone();
    let of_patterns = ["exclude_modules", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern"];
    config.retain(|name, _| !of_patterns.contains(&name.as_str()));
    let list = |sites: &[LinearSite]| json!(sites.iter().map(|site| site.name()).collect::<Vec<_>>());
    config.insert("target_modules".into(), list(sites));
    config.insert("feedforward_modules".into(), list(inputs));
    for (key, value) in own {
        if let Some(value) = value {
            config.insert((*key).into(), value.clone());
        }
    }
    config
}

/// The fields of a module that a pattern gives another value than the configuration's.
type Own = [(&'static str, Option<Value>); 2];

/// The fields of a configuration that are values by module.
struct ByModule {
    ranks: Patterns,
    alphas: Patterns,
    feed_forward: FeedForward,
}

impl ByModule {
    fn read(config: &Map<String, Value>) -> Result<Self, String> {
        let [ranks, alphas] = ["rank_pattern", "alpha_pattern"].map(|key| Patterns::read(config, key));
        Ok(Self { ranks: ranks?, alphas: alphas?, feed_forward: FeedForward::read(config)? })
    }

    fn own(&self, module: &str) -> Result<Own, String> {
        Ok([("r", self.ranks.value(module)?), ("lora_alpha", self.alphas.value(module)?)])
    }
}

/// The targets as methods, each on the blocks and layers that share its fields.
fn parts_of(
    config: &Map<String, Value>,
    targets: &Targets,
    names: &ModuleNames,
    backbone: &Backbone,
) -> Result<Vec<AdapterPart>, String> {
    let by_module = ByModule::read(config)?;
    let mut of_blocks: BTreeMap<String, OfBlocks> = BTreeMap::new();
    for (block, sites) in &targets.blocks {
        let mut alike: BTreeMap<String, (Own, Vec<LinearSite>, Vec<LinearSite>)> = BTreeMap::new();
        for (site, inside) in names.linears.iter().filter(|(site, _)| sites.contains(site)) {
            let module = targets::module(names, *block, inside);
            let own = by_module.own(&module)?;
            let key = format!("{own:?}");
            let entry = alike.entry(key).or_insert_with(|| (own, Vec::new(), Vec::new()));
            entry.1.push(*site);
            if by_module.feed_forward.has(&module) {
                entry.2.push(*site);
            }
        }
        for (own, sites, inputs) in alike.into_values() {
            let config = config_of(config, &sites, &inputs, &own);
            let key = Value::Object(config.clone()).to_string();
            let entry = of_blocks.entry(key).or_insert_with(|| (config, sites.into_iter().collect(), BTreeSet::new()));
            entry.2.insert(*block);
        }
    }
    let shape = shape_with(&backbone.block_shape(), names);
    let part = |(config, sites, blocks): (Map<String, Value>, BTreeSet<LinearSite>, BTreeSet<usize>)| {
        let method = interchange::read_config(&config, &shape).map_err(|error| error.to_string())?;
        Ok(AdapterPart { method, blocks, sites })
    };
    of_blocks.into_values().map(part).collect()
}

/// The configuration of the layer before the head, as if it were the query of a block.
fn pooler_config(config: &Map<String, Value>, module: &str) -> Result<Map<String, Value>, String> {
    let by_module = ByModule::read(config)?;
    let own = by_module.own(module)?;
    let inputs = if by_module.feed_forward.has(module) { vec![LinearSite::Query] } else { Vec::new() };
    Ok(config_of(config, &[LinearSite::Query], &inputs, &own))
}

/// Puts every tensor of the file in its place.
fn place(
    directory: &Path,
    backbone: &Backbone,
    names: &ModuleNames,
    parts: Vec<AdapterPart>,
    of_pooler: Option<Map<String, Value>>,
    file: NamedTensors,
) -> Result<Adapter, InterchangeError> {
    let path = directory.join(WEIGHTS);
    let refuse = |problem: String| InterchangeError::Tensors { path: path.clone(), problem };
    let mut inside: BTreeMap<(usize, String), HostTensor> = BTreeMap::new();
    let mut before_head: BTreeMap<String, HostTensor> = BTreeMap::new();
    let mut tensors = StageTensors::default();
    let head = backbone.head().names();
    let pooler = backbone.pooler();
    for (name, tensor) in file {
        let short = bare(&name);
        let is_second;
        let of_pooler = pooler.and_then(|(module, _)| short.strip_prefix(module)?.strip_prefix('.'));
        if let Some((block, rest)) = split(short, names.blocks) {
            is_second = inside.insert((block, rest.to_owned()), tensor).is_some();
        } else if let Some(rest) = of_pooler {
            is_second = before_head.insert(rest.to_owned(), tensor).is_some();
        } else if let Some((ours, _)) = head.iter().find(|(_, theirs)| theirs == short) {
            is_second = tensors.head.as_ref().is_some_and(|head| head.contains_key(*ours));
            tensors.insert_head(*ours, tensor);
        } else {
            // Names without a place were refused before the tensors were read.
            continue;
        }
        if is_second {
            return Err(refuse(format!(
                "holds the tensor `{short}` twice, with and without the prefix `{ROOT}`; leave one"
            )));
        }
    }
    if let Some(head) = &mut tensors.head {
        complete_head(head, backbone);
    }
    check_head(tensors.head.as_ref(), backbone).map_err(refuse)?;
    for part in &parts {
        let layout = part.method.interchange(&shape_with(&backbone.block_shape(), names))?;
        for (block, tensor) in
            part.blocks.iter().flat_map(|block| layout.tensors.iter().map(move |tensor| (block, tensor)))
        {
            let whole = format!("{ROOT}{}", targets::module(names, *block, &tensor.file));
            let found = inside.remove(&(*block, tensor.file.clone()));
            let found = found.ok_or_else(|| refuse(format!("lacks `{whole}`, which {ASKING} ask for")))?;
            check_shape(&whole, &found, &tensor.shape).map_err(refuse)?;
            tensors.insert(*block, &tensor.parameter, found);
        }
    }
    if let Some((block, rest)) = inside.keys().next() {
        return Err(refuse(format!("holds `{rest}` of block {block}, which {ASKING} do not ask for")));
    }
    let pooler = match pooler {
        Some((module, base)) => before(module, base, of_pooler, &mut before_head, refuse)?,
        None => None,
    };
    match before_head.keys().next() {
        Some(rest) => {
            Err(refuse(format!("holds `{rest}` of the layer before the head, which {ASKING} do not ask for")))
        }
        None => Ok(Adapter { parts, tensors, pooler }),
    }
}

fn check_shape(name: &str, tensor: &HostTensor, expected: &[usize]) -> Result<(), String> {
    if tensor.shape == expected {
        return Ok(());
    }
    Err(format!("`{name}` has the shape {:?}, not {expected:?}", tensor.shape))
}

/// Adds the base model's own tensors of a module of the head that the adapter did not save. PEFT saves modules whole and leaves
/// the others as they are.
fn complete_head(head: &mut NamedTensors, backbone: &Backbone) {
    let (Some(own), modules) = (backbone.classifier(), backbone.head().modules()) else { return };
    let names = backbone.head().names();
    for module in modules {
        let of_module = |theirs: &str| theirs.split('.').next() == Some(module);
        let ours: Vec<&str> = names.iter().filter(|(_, theirs)| of_module(theirs)).map(|(ours, _)| *ours).collect();
        if ours.iter().all(|name| !head.contains_key(*name)) {
            head.extend(ours.iter().filter_map(|name| Some(((*name).to_owned(), own.get(*name)?.clone()))));
        }
    }
}

/// Checks that the head of an adapter that has a head is complete and that its tensors have the shapes of the model's layout.
fn check_head(head: Option<&NamedTensors>, backbone: &Backbone) -> Result<(), String> {
    let layout = backbone.head();
    let Some(tensors) = head else { return Ok(()) };
    for (spec, (_, theirs)) in
        layout.parameters(head_outputs(tensors).max(1), backbone.hidden()).iter().zip(layout.names())
    {
        match tensors.get(&spec.name) {
            Some(tensor) => check_shape(&format!("{ROOT}{theirs}"), tensor, &spec.shape)?,
            None => return Err(format!("holds a part of a head, but lacks `{ROOT}{theirs}`")),
        }
    }
    Ok(())
}

/// The layer before the head as an adapter changes it: saved whole, or with the method's update put into the weight, which is
/// how the method acts on a layer.
fn before(
    module: &str,
    base: &Linear,
    config: Option<Map<String, Value>>,
    tensors: &mut BTreeMap<String, HostTensor>,
    refuse: impl Fn(String) -> InterchangeError,
) -> Result<Option<(HostTensor, HostTensor)>, InterchangeError> {
    let [inputs, outputs] = base.weight.dims();
    let base_bias = HostTensor { shape: vec![outputs], values: base.bias.clone().map(to_host).unwrap_or_default() };
    if let Some(config) = config {
        let shape = BlockShape {
            hidden: inputs,
            heads: 1,
            kv_heads: 1,
            head_dim: inputs,
            linears: BTreeMap::from([(LinearSite::Query, (inputs, outputs))]),
            modules: BTreeMap::from([(LinearSite::Query, module.to_owned())]),
        };
        let method = interchange::read_config(&config, &shape)?;
        let mut own = NamedTensors::new();
        for tensor in method.interchange(&shape)?.tensors {
            let rest = tensor.file.strip_prefix(module).and_then(|rest| rest.strip_prefix('.')).unwrap_or(&tensor.file);
            let found = tensors.remove(rest).ok_or_else(|| refuse(format!("lacks `{ROOT}{}`", tensor.file)))?;
            check_shape(&tensor.file, &found, &tensor.shape).map_err(&refuse)?;
            own.insert(tensor.parameter, found);
        }
        let device = base.weight.device();
        let adapters = bind(&*method, &shape, 0..1, &BlockTensors::from([(0, on_device(&own, &device))]), None)?;
        let Some(adapter) = adapters.get(0) else { return Ok(None) };
        // The rows of the identity, with and without the bias, give weight and bias of the changed layer.
        let layer = |x: Tensor<2>| to_host(adapter.linear(LinearSite::Query, x, base));
        let bias = layer(Tensor::zeros([1, inputs], &device));
        let rows = layer(Tensor::eye(inputs, &device));
        let mut values = vec![0.0; inputs * outputs];
        for (input, row) in rows.chunks_exact(outputs).enumerate() {
            for (output, value) in row.iter().enumerate() {
                values[output * inputs + input] = value - bias[output];
            }
        }
        let weight = HostTensor { shape: vec![outputs, inputs], values };
        return Ok(Some((weight, HostTensor { shape: vec![outputs], values: bias })));
    }
    let Some(weight) = tensors.remove("weight") else { return Ok(None) };
    check_shape(&format!("{ROOT}{module}.weight"), &weight, &[outputs, inputs]).map_err(&refuse)?;
    let bias = tensors.remove("bias").unwrap_or(base_bias);
    check_shape(&format!("{ROOT}{module}.bias"), &bias, &[outputs]).map_err(&refuse)?;
    Ok(Some((weight, bias)))
}

/// Checks that the adapter was made for the task that its head, or the base model's, answers.
fn check_task(config: &Map<String, Value>, adapter: &Adapter, backbone: &Backbone) -> Result<(), String> {
    let class = config.get("auto_mapping").and_then(|mapping| mapping.get("base_model_class")).and_then(Value::as_str);
    if let Some(class) = class.filter(|class| !is_class_for_records(class)) {
        return Err(format!(
            "`auto_mapping` says that its base model is a `{class}`, whose task is not supported; known: {}",
            known_classes(backbone.model_type())
                .into_iter()
                .filter(|class| is_class_for_records(class))
                .collect::<Vec<_>>()
                .join(", ")
        ));
    }
    let classifies = adapter.outputs() > 0 || backbone.classifier().is_some() || !backbone.has_language_head();
    match config.get("task_type") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(task)) if task == "SEQ_CLS" && classifies => Ok(()),
        Some(Value::String(task)) if task == "CAUSAL_LM" && !classifies => Ok(()),
        Some(task) => {
            let does = if classifies { "SEQ_CLS" } else { "CAUSAL_LM" };
            Err(format!(
                "`task_type` is {task}, but this base model and adapter answer as {does}; accepted: {does}, null"
            ))
        }
    }
}
