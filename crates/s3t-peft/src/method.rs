//! The trait of PEFT methods and how their parameters reach a block.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Range;

use burn::tensor::Tensor;
use s3t_core::tensors::{BlockTensors, NamedTensors, parameter_name};

use crate::terms::Interchange;
use crate::{Adapters, BlockAdapter, Dropout, LinearSite, PeftError};

/// The description of a block for a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockShape {
    /// The width of the residual stream.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Heads of keys and values; fewer than `heads` with grouped-query attention.
    pub kv_heads: usize,
    /// The width of a head.
    pub head_dim: usize,
    /// The block's linear layers: `(inputs, outputs)`.
    pub linears: BTreeMap<LinearSite, (usize, usize)>,
    /// The module of each linear layer inside the block, as Hugging Face names it, for example `attention.self.query`.
    pub modules: BTreeMap<LinearSite, String>,
}

impl BlockShape {
    /// The linear layers that a list of targets names, in the order of the list. A target is a site (`query`) or, as in
    /// Hugging Face PEFT, the end of a module's path (`q_proj`, `self.query`), which may stand for several layers.
    ///
    /// # Errors
    ///
    /// [`PeftError::InvalidField`] at `field` for an unknown name or a layer that is named twice.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    ///
    /// use s3t_peft::{BlockShape, LinearSite};
    ///
    /// let block = BlockShape {
    ///     hidden: 8,
    ///     heads: 2,
    ///     kv_heads: 2,
    ///     head_dim: 4,
    ///     linears: BTreeMap::from([(LinearSite::Query, (8, 8)), (LinearSite::Value, (8, 8))]),
    ///     modules: BTreeMap::from([(LinearSite::Value, "self_attn.v_proj".to_owned())]),
    /// };
    /// let sites = block.resolve("targets", &["query".to_owned(), "v_proj".to_owned()])?;
    /// assert_eq!(sites, [LinearSite::Query, LinearSite::Value]);
    /// assert!(block.resolve("targets", &["gate".to_owned()]).is_err());
    /// # Ok::<(), s3t_peft::PeftError>(())
    /// ```
    pub fn resolve(&self, field: &str, targets: &[String]) -> Result<Vec<LinearSite>, PeftError> {
        let mut sites: Vec<LinearSite> = Vec::new();
        for target in targets {
            let found = self.sites_of(target);
            if found.is_empty() {
                let known: Vec<&str> = self.linears.keys().map(|site| site.name()).collect();
                let problem = s3t_core::registry::unknown(&format!("target `{target}`"), target, &known);
                let modules: Vec<&str> = self.modules.values().map(String::as_str).collect();
                let modules =
                    if modules.is_empty() { String::new() } else { format!("; modules: {}", modules.join(", ")) };
                return Err(PeftError::field(field, format!("holds an {problem}{modules}")));
            }
            if let Some(site) = found.iter().find(|site| sites.contains(site)) {
                return Err(PeftError::field(field, format!("names `{site}` twice")));
            }
            sites.extend(found);
        }
        Ok(sites)
    }

    /// The layers that one target names; empty for an unknown target.
    fn sites_of(&self, target: &str) -> Vec<LinearSite> {
        if let Some(site) = LinearSite::from_name(target).filter(|site| self.linears.contains_key(site)) {
            return vec![site];
        }
        let ends = |module: &String| module == target || module.ends_with(&format!(".{target}"));
        self.modules.iter().filter(|(_, module)| ends(module)).map(|(site, _)| *site).collect()
    }

    /// The module of a linear layer inside the block, as Hugging Face names it; the site's own name if the model has no name for it.
    pub fn module(&self, site: LinearSite) -> &str {
        self.modules.get(&site).map_or(site.name(), String::as_str)
    }
}

/// The starting values of a parameter. Random numbers are drawn from the stage's seed by the trainer, never by the method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All zero.
    Zeros,
    /// All one.
    Ones,
    /// Uniform in `-bound..bound`.
    Uniform {
        /// The bound.
        bound: f64,
    },
    /// Normal around zero.
    Normal {
        /// The standard deviation.
        std: f64,
    },
    /// The Euclidean norm of each output's weights in a linear layer of the base model: one value an output.
    WeightNorm(LinearSite),
}

/// One parameter of a method in one block.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterSpec {
    /// Its name inside the block, for example `query.lora_A.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its starting values.
    pub init: Init,
}

impl ParameterSpec {
    /// A parameter.
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>, init: Init) -> Self {
        Self { name: name.into(), shape: shape.into(), init }
    }

    /// The number of values.
    ///
    /// ```
    /// use s3t_peft::{Init, ParameterSpec};
    ///
    /// assert_eq!(ParameterSpec::new("query.lora_A.weight", [4, 16], Init::Zeros).len(), 64);
    /// ```
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True if it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A parameter-efficient fine-tuning method.
///
/// # Contract
///
/// - [`parameters`](Self::parameters) is a function of the fields and the block's shape.
/// - With its parameters as they start, the adapter leaves the block's function unchanged, or its documentation says not.
/// - An adapter that is not inserted leaves no trace: the base weights are never written to.
#[typetag::serde(tag = "type")]
pub trait PeftMethod: Debug + Send + Sync {
    /// Checks the fields against the blocks they will be used in.
    ///
    /// # Errors
    ///
    /// [`PeftError::InvalidField`] naming the field, what is wrong and what is allowed.
    fn check(&self, block: &BlockShape) -> Result<(), PeftError>;

    /// The parameters the method adds to a block of this shape.
    fn parameters(&self, block: &BlockShape) -> Vec<ParameterSpec>;

    /// Makes the adapter of one block from its parameters.
    ///
    /// # Errors
    ///
    /// [`PeftError::MissingParameter`] or [`PeftError::WrongShape`] if they are not those that
    /// [`parameters`](Self::parameters) declares.
    fn adapter(&self, block: &BlockShape, parameters: &BlockParameters<'_>)
    -> Result<Box<dyn BlockAdapter>, PeftError>;

    /// The method as the files of Hugging Face PEFT hold it, for blocks of this shape.
    ///
    /// # Errors
    ///
    /// [`PeftError::NoInterchange`] with the reason if PEFT has no such method; the default.
    fn interchange(&self, _block: &BlockShape) -> Result<Interchange, PeftError> {
        Err(PeftError::NoInterchange {
            method: self.typetag_name().into(),
            reason: "it does not know this method".into(),
        })
    }
}

/// The parameters of one block, by the names that the method gave them.
#[derive(Debug)]
pub struct BlockParameters<'a> {
    block: usize,
    tensors: &'a NamedTensors<Tensor<1>>,
    /// The seed of this training step; `None` when answering.
    step: Option<u64>,
}

impl BlockParameters<'_> {
    /// A parameter as a tensor of rank `D`.
    ///
    /// # Errors
    ///
    /// [`PeftError::MissingParameter`] if it is not there, [`PeftError::WrongShape`] if it has another number of values.
    pub fn get<const D: usize>(&self, name: &str, shape: [usize; D]) -> Result<Tensor<D>, PeftError> {
        let full = |name: &str| parameter_name(self.block, name);
        let Some(tensor) = self.tensors.get(name) else {
            let present = self.tensors.keys().map(|name| full(name)).collect();
            return Err(PeftError::MissingParameter { name: full(name), present });
        };
        let found = tensor.dims()[0];
        if found != shape.iter().product::<usize>() {
            let name = full(name);
            return Err(PeftError::WrongShape { name, found: vec![found], expected: shape.to_vec() });
        }
        Ok(tensor.clone().reshape(shape))
    }

    /// Dropout of this share of values, 0 to below 1: in a training step seeded from the step, the block and `name`; when
    /// answering, none.
    pub fn dropout(&self, name: &str, share: f64) -> Dropout {
        Dropout::new(share, self.step.map(|step| (step, parameter_name(self.block, name))))
    }
}

/// Makes the adapters of the blocks `range` from flat parameter tensors. `step` seeds the dropout of a training step; `None`
/// switches it off.
///
/// # Errors
///
/// The errors of [`PeftMethod::adapter`].
pub fn bind(
    method: &dyn PeftMethod,
    shape: &BlockShape,
    range: Range<usize>,
    tensors: &BlockTensors<Tensor<1>>,
    step: Option<u64>,
) -> Result<Adapters, PeftError> {
    let mut adapters = Adapters::none();
    // A block of a method without parameters has no entry.
    let empty = NamedTensors::new();
    for block in range {
        let tensors = tensors.get(&block).unwrap_or(&empty);
        adapters.insert(block, method.adapter(shape, &BlockParameters { block, tensors, step })?);
    }
    Ok(adapters)
}
