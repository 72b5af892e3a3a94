//! DoRA.

use s3t_peft::burn::tensor::Tensor;
use s3t_peft::serde_json::{Map, Value};
use s3t_peft::{
    BlockAdapter, BlockParameters, BlockShape, Init, Interchange, Linear, LinearSite, ParameterSpec, PeftError,
    PeftMethod, ReadMethod, Weight, matmul, matmul_frozen, peft_reader, s3t_core,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::low_rank::{Fields, LowRank, tensor};

/// DoRA: a layer computes `m x V / |V| + b` with `V = W + (alpha / rank) A B`, where |V| is the length of each output's weights
/// and m, learnt, starts as that of W. Parameters of a block: `rank (inputs + outputs) + outputs` for each layer.
///
/// # Proof note
///
/// The note of LoRA holds: `W` is read, for the lengths, and never written to. At the start m equals the lengths up to rounding, so the
/// layer starts as the base model's up to rounding.
///
/// *The gradient* is that of the formula above. (The paper, section 4.3, and PEFT treat |V| as a constant in it, to save
/// memory. Here |V|^2 = |W|^2 + 2 s (W^T A) B + s^2 B^T (A^T A) B is taken from products with the rank as a side, which is cheap
/// enough to differentiate.)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dora {
    /// The rank r of the update, at least 1.
    pub rank: usize,
    /// The numerator of the scale `alpha / rank`, above 0.
    pub alpha: f64,
    /// The share of the update's input that is dropped in training, 0 to below 1.
    pub dropout: f64,
    /// The adapted linear layers: query, key, value, output, gate, up, down, or Hugging Face module names.
    pub targets: Vec<String>,
}

impl Default for Dora {
    fn default() -> Self {
        Fields::default().into()
    }
}

impl From<Fields> for Dora {
    fn from(Fields { rank, alpha, dropout, targets }: Fields) -> Self {
        Self { rank, alpha, dropout, targets }
    }
}

impl Dora {
    fn fields(&self) -> Fields {
        Fields { rank: self.rank, alpha: self.alpha, dropout: self.dropout, targets: self.targets.clone() }
    }
}

fn magnitude_name(site: LinearSite) -> String {
    format!("{site}.lora_magnitude_vector")
}

#[typetag::serde(name = "dora")]
impl PeftMethod for Dora {
    fn check(&self, block: &BlockShape) -> Result<(), PeftError> {
        self.fields().check(block)
    }

    fn parameters(&self, block: &BlockShape) -> Vec<ParameterSpec> {
        let fields = self.fields();
        let of_site = |(site, sizes): (LinearSite, (usize, usize))| {
            let [down, up] = fields.parameters(site, sizes);
            [down, up, ParameterSpec::new(magnitude_name(site), [sizes.1], Init::WeightNorm(site))]
        };
        fields.sites(block).flat_map(of_site).collect()
    }

    fn adapter(
        &self,
        block: &BlockShape,
        parameters: &BlockParameters<'_>,
    ) -> Result<Box<dyn BlockAdapter>, PeftError> {
        let fields = self.fields();
        let layer = |(site, sizes): (LinearSite, (usize, usize))| {
            let magnitude = parameters.get(&magnitude_name(site), [1, sizes.1])?;
            Ok((site, Layer { update: fields.low_rank(site, sizes, parameters)?, magnitude }))
        };
        let layers = fields.sites(block).map(layer).collect::<Result<_, PeftError>>()?;
        Ok(Box::new(DoraAdapter { layers, scale: self.alpha / self.rank as f64 }))
    }

    fn interchange(&self, block: &BlockShape) -> Result<Interchange, PeftError> {
        let fields = self.fields();
        let mut interchange = fields.interchange(block, &[("use_rslora", false), ("use_dora", true)]);
        interchange.tensors.extend(fields.sites(block).map(|(site, (_, outputs))| {
            tensor(magnitude_name(site), format!("{}.lora_magnitude_vector", block.module(site)), [outputs])
        }));
        Ok(interchange)
    }
}

s3t_core::plugin!(PeftMethod, "dora", Dora);
peft_reader!("LORA", read);

fn read(config: &Map<String, Value>, block: &BlockShape) -> ReadMethod {
    match Fields::read(config, block) {
        Ok((fields, rank_stabilised, true)) => {
            // DoRA with rsLoRA's scale `alpha / sqrt(rank)` is DoRA with a larger alpha.
            let factor = if rank_stabilised { (fields.rank as f64).sqrt() } else { 1.0 };
            let fields = Fields { alpha: fields.alpha * factor, ..fields };
            Some(Ok(Box::new(Dora::from(fields))))
        }
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    }
}

struct Layer {
    update: LowRank,
    /// `[1, outputs]`.
    magnitude: Tensor<2>,
}

struct DoraAdapter {
    layers: Vec<(LinearSite, Layer)>,
    scale: f64,
}

impl Layer {
    /// The length of each output's weights in `W + s A B`, `[1, outputs]`.
    fn lengths(&self, weight: &Weight, scale: f64) -> Tensor<2> {
        let LowRank { down, up, .. } = &self.update;
        // `[rank, outputs]` and `[rank, rank]`.
        let crossed = matmul_frozen(down.clone().transpose(), weight);
        let squared = matmul(down.clone().transpose(), down.clone());
        let base = weight.squared_lengths();
        let mixed = (crossed * up.clone()).sum_dim(0).mul_scalar(2.0 * scale);
        let own = (matmul(squared, up.clone()) * up.clone()).sum_dim(0).mul_scalar(scale * scale);
        root(base + mixed + own)
    }
}

/// The square root, with its derivative by a division. Burn's own derivative is a power, which libraries of C round differently.
fn root(x: Tensor<2>) -> Tensor<2> {
    let fixed = x.clone().detach();
    let root = fixed.clone().sqrt();
    // The difference is 0, and has the derivative of `x`.
    root.clone() + (x - fixed) / root.mul_scalar(2.0)
}

impl BlockAdapter for DoraAdapter {
    fn linear(&self, site: LinearSite, x: Tensor<2>, base: &Linear) -> Tensor<2> {
        let Some((_, layer)) = self.layers.iter().find(|(other, _)| *other == site) else {
            return base.forward(x);
        };
        let factor = layer.magnitude.clone() / layer.lengths(&base.weight, self.scale);
        let unbiased = Linear { weight: base.weight.clone(), bias: None };
        let y = unbiased.forward(x.clone()) + layer.update.forward(x).mul_scalar(self.scale);
        let y = y * factor;
        match &base.bias {
            Some(bias) => y + bias.clone().unsqueeze::<2>(),
            None => y,
        }
    }
}
