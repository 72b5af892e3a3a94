//! IA3: learnt scales of keys, values and feed-forward activations (Liu et al. 2022, arXiv 2205.05638).
//!
//! # Proof note
//!
//! *Before*: the base weights are frozen and shared. *After* [`Ia3::adapter`] is dropped: the block computes what it
//! computed before, bit for bit. *Why*: the factors multiply what goes into or comes out of a linear layer and are never
//! merged into its weight, so there is nothing to undo. At the start they are one, and a product with one is exact.

use s3t_peft::burn::tensor::Tensor;
use s3t_peft::{
    BlockAdapter, BlockParameters, BlockShape, Init, Linear, LinearSite, ParameterSpec, PeftError, PeftMethod, s3t_core,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// IA3: multiplies the output of the targeted linear layers, and the input of the feed-forward ones, by one learnt factor a
/// channel. Parameters of a block: the outputs of `targets` plus the inputs of `feed_forward`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ia3 {
    /// The linear layers whose output is scaled: query, key, value, output, gate, up, down.
    pub targets: Vec<String>,
    /// The linear layers whose input is scaled.
    pub feed_forward: Vec<String>,
}

impl Default for Ia3 {
    fn default() -> Self {
        Self { targets: vec!["key".into(), "value".into()], feed_forward: vec!["down".into()] }
    }
}

impl Ia3 {
    /// The scaled sites: whether the input is scaled, the site, and the number of factors.
    fn sites<'a>(&'a self, block: &'a BlockShape) -> impl Iterator<Item = (bool, LinearSite, usize)> + 'a {
        let outputs = self.targets.iter().map(|name| (false, name));
        let inputs = self.feed_forward.iter().map(|name| (true, name));
        outputs.chain(inputs).filter_map(|(input, name)| {
            let site = LinearSite::from_name(name)?;
            let (inputs, outputs) = *block.linears.get(&site)?;
            Some((input, site, if input { inputs } else { outputs }))
        })
    }
}

fn name(site: LinearSite) -> String {
    format!("{site}.ia3_l")
}

#[typetag::serde(name = "ia3")]
impl PeftMethod for Ia3 {
    fn check(&self, block: &BlockShape) -> Result<(), PeftError> {
        let known: Vec<&str> = block.linears.keys().map(|site| site.name()).collect();
        let mut seen: Vec<&str> = Vec::new();
        for (field, names) in [("targets", &self.targets), ("feed_forward", &self.feed_forward)] {
            for name in names {
                if !known.contains(&name.as_str()) {
                    let problem = s3t_core::registry::unknown(&format!("target `{name}`"), name, &known);
                    return Err(PeftError::field(field, format!("holds an {problem}")));
                }
                if seen.contains(&name.as_str()) {
                    return Err(PeftError::field(
                        field,
                        format!("names `{name}` a second time; a layer is scaled once"),
                    ));
                }
                seen.push(name);
            }
        }
        if seen.is_empty() {
            return Err(PeftError::field("targets", format!("is empty; this model has {}", known.join(", "))));
        }
        Ok(())
    }

    fn parameters(&self, block: &BlockShape) -> Vec<ParameterSpec> {
        self.sites(block).map(|(_, site, factors)| ParameterSpec::new(name(site), [factors], Init::Ones)).collect()
    }

    fn adapter(
        &self,
        block: &BlockShape,
        parameters: &BlockParameters<'_>,
    ) -> Result<Box<dyn BlockAdapter>, PeftError> {
        let scales = self
            .sites(block)
            .map(|(input, site, factors)| Ok((site, input, parameters.get(&name(site), [1, factors])?)))
            .collect::<Result<_, PeftError>>()?;
        Ok(Box::new(Scales(scales)))
    }
}

s3t_core::plugin!(PeftMethod, "ia3", Ia3);

/// For each scaled site whether its input is scaled, and the factors, `[1, channels]`.
struct Scales(Vec<(LinearSite, bool, Tensor<2>)>);

impl BlockAdapter for Scales {
    fn linear(&self, site: LinearSite, x: Tensor<2>, base: &Linear) -> Tensor<2> {
        match self.0.iter().find(|(other, ..)| *other == site) {
            Some((_, true, factors)) => base.forward(x * factors.clone()),
            Some((_, false, factors)) => base.forward(x) * factors.clone(),
            None => base.forward(x),
        }
    }
}
