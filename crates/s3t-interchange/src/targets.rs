//! The layers that an `adapter_config.json` adapts, found as PEFT finds them: by the whole names of modules.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use s3t_models::{Backbone, ModuleNames};
use s3t_peft::LinearSite;
use serde_json::{Map, Value};

/// The name of a linear layer's module in a model for a task.
pub(crate) fn module(names: &ModuleNames, block: usize, inside: &str) -> String {
    format!("{}.{block}.{inside}", names.blocks)
}

/// The layers that an adapter adapts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Targets {
    /// The layers of each adapted block.
    pub(crate) blocks: BTreeMap<usize, BTreeSet<LinearSite>>,
    /// `true` if the layer between the last block and the head is adapted.
    pub(crate) pooler: bool,
}

/// The layers that `target_modules` names, without those of `exclude_modules`, in the blocks of `layers_to_transform`.
///
/// # Errors
///
/// In words: a field of another kind, a pattern that is not a regular expression, a block that the model has not, or no layer
/// at all.
pub(crate) fn resolve(
    config: &Map<String, Value>,
    names: &ModuleNames,
    backbone: &Backbone,
) -> Result<Targets, String> {
    let excluded = Matcher::read(config, "exclude_modules")?;
    let saved = saved_modules(config)?;
    let wanted = Matcher::read(config, "target_modules")?;
    let layers = Layers::read(config, backbone.blocks())?;
    if matches!(wanted, Matcher::Pattern(_)) && layers.blocks.is_some() {
        return Err("`layers_to_transform` is for a list of `target_modules`, not for a regular expression".into());
    }
    if let Matcher::Names(targets) = &wanted {
        known(targets, names, backbone)?;
    }
    let is_target = |name: &str| {
        let saved = saved.iter().any(|pattern| pattern.is_match(name));
        // A target that is a module's whole name is adapted in whatever block.
        let is_whole = matches!(&wanted, Matcher::Names(targets) if targets.iter().any(|target| target == name));
        !saved && !excluded.matches(name) && wanted.matches(name) && (is_whole || layers.contain(name))
    };
    let mut targets = Targets::default();
    for block in 0..backbone.blocks() {
        let sites = names.linears.iter().filter(|(site, _)| backbone.linear(block, *site).is_some());
        let chosen: BTreeSet<LinearSite> =
            sites.filter(|(_, inside)| is_target(&module(names, block, inside))).map(|(site, _)| *site).collect();
        if !chosen.is_empty() {
            targets.blocks.insert(block, chosen);
        }
    }
    targets.pooler = backbone.pooler().is_some_and(|(name, _)| is_target(name));
    if targets.blocks.is_empty() && !targets.pooler {
        return Err("it adapts no layer of this model".into());
    }
    Ok(targets)
}

/// Refuses a target that names no module of the model, as it would be adapted in Python elsewhere.
fn known(targets: &[String], names: &ModuleNames, backbone: &Backbone) -> Result<(), String> {
    let modules: Vec<&str> = names.linears.iter().map(|(_, module)| *module).collect();
    let in_blocks = (0..backbone.blocks()).flat_map(|block| modules.iter().map(move |inside| (block, inside)));
    let mut all: Vec<String> = in_blocks.map(|(block, inside)| module(names, block, inside)).collect();
    all.extend(backbone.pooler().map(|(name, _)| name.to_owned()));
    // The head's layers are saved whole where they are named, or refused by their tensors.
    all.extend(
        backbone.head().names().into_iter().filter_map(|(_, name)| Some(name.strip_suffix(".weight")?.to_owned())),
    );
    for target in targets {
        if !all.iter().any(|module| ends(std::slice::from_ref(target), module)) {
            let unknown = s3t_core::registry::unknown(&format!("target `{target}`"), target, &modules);
            return Err(format!("`target_modules` holds an {unknown}"));
        }
    }
    Ok(())
}

/// The choice of modules by names or by a pattern.
enum Matcher {
    Nothing,
    All,
    Names(Vec<String>),
    Pattern(Regex),
}

impl Matcher {
    fn read(config: &Map<String, Value>, key: &str) -> Result<Self, String> {
        match config.get(key) {
            None | Some(Value::Null) => Ok(Self::Nothing),
            Some(Value::String(text)) if text.is_empty() => Ok(Self::Nothing),
            Some(Value::String(all)) if key == "target_modules" && all.to_lowercase() == "all-linear" => Ok(Self::All),
            Some(Value::String(pattern)) => Ok(Self::Pattern(whole(key, pattern)?)),
            Some(Value::Array(items)) => {
                let names: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
                names.map(Self::Names).ok_or_else(|| format!("`{key}` is not a list of module names"))
            }
            Some(other) => Err(format!("`{key}` is {other}, not a list of module names or a regular expression")),
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Names(names) => ends(names, name),
            Self::Pattern(pattern) => pattern.is_match(name),
        }
    }
}

/// Tells if any of the names is this module's, or the end of it.
fn ends(names: &[String], module: &str) -> bool {
    names.iter().any(|name| name == module || module.ends_with(&format!(".{name}")))
}

/// A pattern of Python that has to match a whole name.
fn whole(key: &str, pattern: &str) -> Result<Regex, String> {
    expression(key, pattern, &format!("^(?:{pattern})$"))
}

/// A regular expression, made of a pattern that the configuration gives.
fn expression(key: &str, given: &str, pattern: &str) -> Result<Regex, String> {
    // Sets inside sets mean something else in Python.
    let differs = ["[[", "&&", "--", "~~"].iter().any(|part| given.contains(part));
    match Regex::new(pattern) {
        Ok(pattern) if !differs => Ok(pattern),
        _ => Err(format!(
            "`{key}` holds `{given}`, which is not a regular expression that is read here (without looking around, references or sets \
             inside sets)"
        )),
    }
}

/// Checks that the modules of `modules_to_save` are the head, the layer before it, or heads of other models, which PEFT always
/// names; the file has the tensors of those that the model has.
pub(crate) fn check_saved(
    config: &Map<String, Value>,
    backbone: &Backbone,
    has_head: bool,
    has_pooler: bool,
) -> Result<(), String> {
    let Matcher::Names(names) = Matcher::read(config, "modules_to_save")? else { return Ok(()) };
    let head = backbone.head().modules();
    let pooler = backbone.pooler().map(|(name, _)| name);
    for name in &names {
        let is_pooler = pooler.is_some_and(|whole| {
            let module = whole.strip_suffix(".dense").unwrap_or(whole);
            name.ends_with("pooler") && ends(std::slice::from_ref(name), module)
        });
        let is_head = head.contains(&name.as_str());
        let lacks = if is_head { !has_head } else { is_pooler && !has_pooler };
        if lacks {
            return Err(format!("`modules_to_save` names `{name}`, but the adapter's file has no tensors of it"));
        }
        if !is_head && !is_pooler && !["classifier", "score"].contains(&name.as_str()) {
            return Err(format!("`modules_to_save` names `{name}`, which is neither the head nor the layer before it"));
        }
    }
    Ok(())
}

/// The patterns of `modules_to_save`: a module that is saved whole is not adapted.
fn saved_modules(config: &Map<String, Value>) -> Result<Vec<Regex>, String> {
    let key = "modules_to_save";
    let Matcher::Names(names) = Matcher::read(config, key)? else { return Ok(Vec::new()) };
    names.iter().map(|name| expression(key, name, &format!(r"^(?:(?:^|.*\.){name}(?:$|\..*))"))).collect()
}

/// The blocks of `layers_to_transform`.
struct Layers {
    /// `None` for all.
    blocks: Option<BTreeSet<usize>>,
    /// The pattern that finds the number of a block in a name.
    patterns: Vec<Regex>,
}

impl Layers {
    fn read(config: &Map<String, Value>, all: usize) -> Result<Self, String> {
        let key = "layers_to_transform";
        let refuse = |value: &Value| format!("`{key}` is {value}, not a list of block numbers");
        let blocks: Option<BTreeSet<usize>> = match config.get(key) {
            None | Some(Value::Null) => None,
            Some(Value::Array(items)) if items.is_empty() => None,
            Some(value) => {
                let items = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
                let numbers = items.iter().map(|item| item.as_u64().map(|block| block as usize));
                Some(numbers.collect::<Option<_>>().ok_or_else(|| refuse(value))?)
            }
        };
        if let Some(block) = blocks.iter().flatten().find(|block| **block >= all) {
            return Err(format!("`{key}` names block {block}, but the model has the blocks 0 to {}", all - 1));
        }
        let names = match config.get("layers_pattern") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(name)) if name.is_empty() => Vec::new(),
            Some(Value::String(name)) => vec![name.clone()],
            Some(_) => match Matcher::read(config, "layers_pattern")? {
                Matcher::Names(names) => names,
                _ => Vec::new(),
            },
        };
        let mut patterns = Vec::new();
        if blocks.is_none() && !names.is_empty() {
            return Err("`layers_pattern` is for `layers_to_transform`, which names no block; leave it out".into());
        }
        for name in &names {
            patterns.push(expression("layers_pattern", name, &format!(r"^(?:^|.*?\.){name}\.(?P<idx>[0-9]+)\."))?);
        }
        if names.is_empty() {
            patterns.push(expression("layers_pattern", "", r"^.*?\.[^.]*\.(?P<idx>[0-9]+)\.")?);
        }
        Ok(Self { blocks, patterns })
    }

    fn contain(&self, name: &str) -> bool {
        let Some(blocks) = &self.blocks else { return true };
        let found = self.patterns.iter().find_map(|pattern| pattern.captures(name));
        let number = found.and_then(|found| found.name("idx")?.as_str().parse().ok());
        number.is_some_and(|number| blocks.contains(&number))
    }
}

/// The values of a field by patterns of module names: `rank_pattern`, `alpha_pattern`.
pub(crate) struct Patterns {
    key: &'static str,
    values: Vec<(Regex, Value)>,
}

/// The largest number of patterns of a field: adapters with a rank for each layer have one for each.
const MOST_PATTERNS: usize = 10_000;

impl Patterns {
    /// Reads the field.
    ///
    /// # Errors
    ///
    /// In words: a field of another kind, too many patterns, or one that is no regular expression.
    pub(crate) fn read(config: &Map<String, Value>, key: &'static str) -> Result<Self, String> {
        let patterns = match config.get(key) {
            None | Some(Value::Null) => return Ok(Self { key, values: Vec::new() }),
            Some(Value::Object(patterns)) => patterns,
            Some(other) => return Err(format!("`{key}` is {other}, not values by module")),
        };
        if patterns.len() > MOST_PATTERNS {
            return Err(format!("`{key}` has {} patterns; it takes up to {MOST_PATTERNS}", patterns.len()));
        }
        let compiled = |(pattern, value): (&String, &Value)| {
            Ok((expression(key, pattern, &format!(r"^(?:.*\.)?(?:{pattern})$"))?, value.clone()))
        };
        Ok(Self { key, values: patterns.iter().map(compiled).collect::<Result<_, String>>()? })
    }

    /// The value for a module; `None` if no pattern matches it.
    ///
    /// # Errors
    ///
    /// In words: patterns with different values that match the module. (Which of them counts is in the order of the file, which JSON
    /// does not promise.)
    pub(crate) fn value(&self, module: &str) -> Result<Option<Value>, String> {
        let mut matching = self.values.iter().filter(|(pattern, _)| pattern.is_match(module)).map(|(_, value)| value);
        let first = matching.next();
        if matching.any(|other| Some(other) != first) {
            let key = self.key;
            return Err(format!("`{key}` has several values for `{module}`; leave one pattern that matches it"));
        }
        Ok(first.cloned())
    }
}

/// The layers whose input IA3 scales: as in PEFT by any end of the name, even within a word.
pub(crate) struct FeedForward(Matcher);

impl FeedForward {
    /// Reads `feedforward_modules`.
    ///
    /// # Errors
    ///
    /// In words: a field of another kind, or a pattern that is no regular expression.
    pub(crate) fn read(config: &Map<String, Value>) -> Result<Self, String> {
        Matcher::read(config, "feedforward_modules").map(Self)
    }

    /// `true` for such a layer.
    pub(crate) fn has(&self, module: &str) -> bool {
        match &self.0 {
            Matcher::Names(names) => names.iter().any(|name| module.ends_with(name.as_str())),
            matcher => matcher.matches(module),
        }
    }
}
