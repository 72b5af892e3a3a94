//! Bottleneck adapters (Houlsby et al. 2019, arXiv 1902.00751; Pfeiffer et al. 2021, arXiv 2005.00247).
//!
//! # Proof note
//!
//! *Before*: the base weights are frozen and shared. *After* [`Bottleneck::adapter`] is dropped: the block computes what it
//! computed before, bit for bit. *Why*: the small network works on a sublayer's output and touches no weight of the base.
//! At the start its last layer is zero, so what it adds is exactly zero.

use s3t_peft::burn::tensor::{Tensor, activation};
use s3t_peft::{
    BlockAdapter, BlockParameters, BlockShape, Init, ParameterSpec, PeftError, PeftMethod, Sublayer, matmul, s3t_core,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The places of the small networks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// After attention and after the feed-forward layer.
    #[default]
    Houlsby,
    /// After the feed-forward layer only.
    Pfeiffer,
}

/// Bottleneck adapters: adds `relu(y D + d) U + u` to a sublayer's output y, with D to a width of `size` and U back. Parameters
/// of a block: `2 size hidden + size + hidden` for each sublayer that is adapted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Bottleneck {
    /// The width of the bottleneck, at least 1.
    pub size: usize,
    /// The places of the small networks: `houlsby` (after both sublayers) or `pfeiffer` (after the feed-forward layer).
    pub placement: Placement,
}

impl Default for Bottleneck {
    fn default() -> Self {
        Self { size: 16, placement: Placement::default() }
    }
}

impl Bottleneck {
    fn places(&self) -> &'static [(Sublayer, &'static str)] {
        const BOTH: [(Sublayer, &str); 2] =
            [(Sublayer::FeedForward, "feed_forward"), (Sublayer::Attention, "attention")];
        match self.placement {
            Placement::Houlsby => &BOTH,
            Placement::Pfeiffer => &BOTH[..1],
        }
    }
}

#[typetag::serde(name = "bottleneck")]
impl PeftMethod for Bottleneck {
    fn check(&self, block: &BlockShape) -> Result<(), PeftError> {
        if self.size == 0 || self.size > block.hidden {
            let problem = format!("is {}; it takes 1 to the model's width {}", self.size, block.hidden);
            return Err(PeftError::field("size", problem));
        }
        Ok(())
    }

    fn parameters(&self, block: &BlockShape) -> Vec<ParameterSpec> {
        let bound = 1.0 / (block.hidden.max(1) as f64).sqrt();
        let of_place = |(_, place): &(Sublayer, &str)| {
            [
                ParameterSpec::new(format!("{place}.down.weight"), [self.size, block.hidden], Init::Uniform { bound }),
                ParameterSpec::new(format!("{place}.down.bias"), [self.size], Init::Zeros),
                ParameterSpec::new(format!("{place}.up.weight"), [block.hidden, self.size], Init::Zeros),
                ParameterSpec::new(format!("{place}.up.bias"), [block.hidden], Init::Zeros),
            ]
        };
        self.places().iter().flat_map(of_place).collect()
    }

    fn adapter(
        &self,
        block: &BlockShape,
        parameters: &BlockParameters<'_>,
    ) -> Result<Box<dyn BlockAdapter>, PeftError> {
        let network = |place: &str| -> Result<Network, PeftError> {
            let (hidden, size) = (block.hidden, self.size);
            Ok(Network {
                down: parameters.get(&format!("{place}.down.weight"), [size, hidden])?.transpose(),
                down_bias: parameters.get(&format!("{place}.down.bias"), [1, size])?,
                up: parameters.get(&format!("{place}.up.weight"), [hidden, size])?.transpose(),
                up_bias: parameters.get(&format!("{place}.up.bias"), [1, hidden])?,
            })
        };
        let networks = self
            .places()
            .iter()
            .map(|(sublayer, place)| Ok((*sublayer, network(place)?)))
            .collect::<Result<_, PeftError>>()?;
        Ok(Box::new(Networks(networks)))
    }
}

s3t_core::plugin!(PeftMethod, "bottleneck", Bottleneck);

struct Network {
    /// `[hidden, size]`.
    down: Tensor<2>,
    /// `[1, size]`.
    down_bias: Tensor<2>,
    /// `[size, hidden]`.
    up: Tensor<2>,
    /// `[1, hidden]`.
    up_bias: Tensor<2>,
}

struct Networks(Vec<(Sublayer, Network)>);

impl BlockAdapter for Networks {
    fn sublayer(&self, place: Sublayer, y: Tensor<2>) -> Tensor<2> {
        match self.0.iter().find(|(other, _)| *other == place) {
            Some((_, Network { down, down_bias, up, up_bias })) => {
                let inner = activation::relu(matmul(y.clone(), down.clone()) + down_bias.clone());
                y + matmul(inner, up.clone()) + up_bias.clone()
            }
            None => y,
        }
    }
}
