//! The hooks through which an adapter changes a transformer block.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use burn::tensor::Tensor;
use s3t_kernels::{LowRankFactors, Weight};
use serde::{Deserialize, Serialize};

/// The linear layers of a transformer block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinearSite {
    /// Attention query projection.
    Query,
    /// Attention key projection.
    Key,
    /// Attention value projection.
    Value,
    /// Attention output projection.
    Output,
    /// Gate projection of a gated feed-forward layer.
    Gate,
    /// First projection of the feed-forward layer.
    Up,
    /// Second projection of the feed-forward layer.
    Down,
}

impl LinearSite {
    /// All sites, in the order in which a block runs them.
    pub const ALL: [Self; 7] = [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];

    /// The name in pipeline files and tensor names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Key => "key",
            Self::Value => "value",
            Self::Output => "output",
            Self::Gate => "gate",
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    /// The site with this name.
    ///
    /// ```
    /// use s3t_peft::LinearSite;
    ///
    /// assert_eq!(LinearSite::from_name("value"), Some(LinearSite::Value));
    /// assert_eq!(LinearSite::from_name("v_proj"), None);
    /// ```
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|site| site.name() == name)
    }
}

impl fmt::Display for LinearSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The two sublayers of a transformer block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sublayer {
    /// Attention, after its output projection.
    Attention,
    /// Feed-forward, after its second projection.
    FeedForward,
}

/// A frozen linear layer, `y = x W + b`.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[inputs, outputs]`, in single precision, bfloat16, 8-bit integers or 4-bit numbers: [`matmul_frozen`](s3t_kernels::matmul_frozen) and
    /// [`Weight::full`] for other arithmetic than the layer's.
    pub weight: Weight,
    /// `[outputs]`.
    pub bias: Option<Tensor<1>>,
}

impl Linear {
    /// Applies the layer.
    ///
    /// # Shapes
    ///
    /// - `x`: `[rows, inputs]`
    /// - result: `[rows, outputs]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        s3t_kernels::linear(x, &self.weight, self.bias.as_ref())
    }

    /// Applies the layer with a low-rank update, `x W + b + scale (x A) B`; neither the full weight nor its gradient is made.
    ///
    /// # Shapes
    ///
    /// - `x`: `[rows, inputs]`, `down`: `[inputs, rank]`, `up`: `[rank, outputs]`
    /// - result: `[rows, outputs]`
    pub fn forward_low_rank(&self, x: Tensor<2>, down: Tensor<2>, up: Tensor<2>, scale: f64) -> Tensor<2> {
        s3t_kernels::linear_low_rank(x, &self.weight, self.bias.as_ref(), down, up, scale)
    }
}

/// Keys and values that attention sees before those of the tokens.
#[derive(Debug, Clone)]
pub struct KeyValuePrefix {
    /// `[kv_heads, length, head_dim]`.
    pub keys: Tensor<3>,
    /// `[kv_heads, length, head_dim]`.
    pub values: Tensor<3>,
}

/// An adapter of one block, with its parameters inside. Every hook defaults to leaving the block as it is.
///
/// # Contract
///
/// A hook is a function of its arguments and the adapter's parameters. It treats every row (token of a record) the same
/// way whatever the other rows are, so that a record's result does not depend on what it is batched with.
pub trait BlockAdapter: Send + Sync {
    /// Runs a linear layer. LoRA-like methods add to `base.forward(x)`, scaling methods multiply before or after it, and
    /// methods that need the weight find it in `base`.
    ///
    /// # Shapes
    ///
    /// - `x`: `[rows, inputs]`
    /// - result: `[rows, outputs]`
    fn linear(&self, _site: LinearSite, x: Tensor<2>, base: &Linear) -> Tensor<2> {
        base.forward(x)
    }

    /// Changes the output of a sublayer before it is added to the residual stream: the place of bottleneck adapters.
    ///
    /// # Shapes
    ///
    /// - `y` and result: `[rows, hidden]`
    fn sublayer(&self, _place: Sublayer, y: Tensor<2>) -> Tensor<2> {
        y
    }

    /// Keys and values put before those of the tokens: prefix tuning.
    fn key_value_prefix(&self) -> Option<KeyValuePrefix> {
        None
    }

    /// Tokens `[length, hidden]` put before the block's input and taken off its output: deep prompt tuning.
    fn prompt(&self) -> Option<Tensor<2>> {
        None
    }

    /// The adapter as low-rank updates of linear layers' outputs, if it is that and nothing else: then the adapters of several
    /// shards answer in one pass through the base model's layers. `None` is always right, and slower.
    fn low_rank(&self) -> Option<&dyn LowRankAdapter> {
        None
    }
}

/// An adapter that adds low-rank updates to the outputs of linear layers and changes nothing else.
///
/// # Contract
///
/// For every site, [`BlockAdapter::linear`] is `base.forward(x)`, with the update of [`factors`](Self::factors) added if there are
/// any, up to rounding; the other hooks are the defaults.
pub trait LowRankAdapter: Send + Sync {
    /// The update of a layer; `None` where the layer stays as it is.
    fn factors(&self, site: LinearSite) -> Option<LowRankFactors>;
}

/// The adapters of several shards on equal parts of the rows, one after the other: each layer of the base model runs once for all.
pub struct StackedAdapter<'a>(pub Vec<Option<&'a dyn LowRankAdapter>>);

impl BlockAdapter for StackedAdapter<'_> {
    fn linear(&self, site: LinearSite, x: Tensor<2>, base: &Linear) -> Tensor<2> {
        let factors = |part: Option<&dyn LowRankAdapter>| part.and_then(|part| part.factors(site));
        let parts: Vec<Option<LowRankFactors>> = self.0.iter().copied().map(factors).collect();
        if parts.iter().all(Option::is_none) {
            return base.forward(x);
        }
        s3t_kernels::linear_low_rank_parts(&x, &base.weight, base.bias.as_ref(), &parts)
    }
}

/// Adapters of one block that adapt different linear layers and do nothing else, each with its layers.
pub struct AdaptersBySite(pub Vec<(BTreeSet<LinearSite>, Box<dyn BlockAdapter>)>);

impl AdaptersBySite {
    fn of(&self, site: LinearSite) -> Option<&dyn BlockAdapter> {
        self.0.iter().find(|(sites, _)| sites.contains(&site)).map(|(_, adapter)| &**adapter)
    }
}

impl BlockAdapter for AdaptersBySite {
    fn linear(&self, site: LinearSite, x: Tensor<2>, base: &Linear) -> Tensor<2> {
        match self.of(site) {
            Some(adapter) => adapter.linear(site, x, base),
            None => base.forward(x),
        }
    }
}

/// The adapters that are switched on, by block index. Blocks that are not named run as in the base model.
#[derive(Default)]
pub struct Adapters(BTreeMap<usize, Box<dyn BlockAdapter>>);

impl Adapters {
    /// No adapters: the base model.
    pub fn none() -> Self {
        Self::default()
    }

    /// Switches an adapter on; a former one of the same block is dropped.
    pub fn insert(&mut self, block: usize, adapter: Box<dyn BlockAdapter>) {
        self.0.insert(block, adapter);
    }

    /// The adapter of a block.
    pub fn get(&self, block: usize) -> Option<&dyn BlockAdapter> {
        self.0.get(&block).map(Box::as_ref)
    }

    /// Takes the adapter of a block out.
    pub fn remove(&mut self, block: usize) -> Option<Box<dyn BlockAdapter>> {
        self.0.remove(&block)
    }

    /// Adds all adapters of `other`.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

impl fmt::Debug for Adapters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Adapters").field(&self.0.keys().collect::<Vec<_>>()).finish()
    }
}
