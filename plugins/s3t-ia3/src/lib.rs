//! IA3: learnt scales of keys, values and feed-forward activations (Liu et al. 2022, arXiv 2205.05638).
//!
//! # Proof note
//!
//! *Before*: the base weights are frozen and shared. *After* [`Ia3::adapter`] is dropped: the block computes what it
//! computed before, bit for bit. *Why*: the factors multiply what goes into or comes out of a linear layer and are never
//! merged into its weight, so there is nothing to undo. At the start they are one, and a product with one is exact.

use s3t_peft::burn::tensor::Tensor;
use s3t_peft::serde_json::{Map, Value, json};
use s3t_peft::{
    BlockAdapter, BlockParameters, BlockShape, Init, Interchange, InterchangeTensor, Linear, LinearSite, ParameterSpec,
    PeftError, PeftMethod, ReadMethod, interchange, peft_reader, s3t_core,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// IA3: multiplies the output of the targeted linear layers, and the input of the feed-forward ones, by one learnt factor a
/// channel. Parameters of a block: the outputs of `targets` plus the inputs of `feed_forward`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ia3 {
    /// The linear layers whose output is scaled: query, key, value, output, gate, up, down, or Hugging Face module names.
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
        let resolve = |names: &[String]| block.resolve("targets", names).unwrap_or_default();
        let outputs = resolve(&self.targets).into_iter().map(|site| (false, site));
        let inputs = resolve(&self.feed_forward).into_iter().map(|site| (true, site));
        outputs.chain(inputs).map(|(input, site)| {
            let (inputs, outputs) = block.linears[&site];
            (input, site, if input { inputs } else { outputs })
        })
    }
}

fn name(site: LinearSite) -> String {
    format!("{site}.ia3_l")
}

#[typetag::serde(name = "ia3")]
impl PeftMethod for Ia3 {
    fn check(&self, block: &BlockShape) -> Result<(), PeftError> {
        let outputs = block.resolve("targets", &self.targets)?;
        let inputs = block.resolve("feed_forward", &self.feed_forward)?;
        if let Some(site) = inputs.iter().find(|site| outputs.contains(site)) {
            return Err(PeftError::field(
                "feed_forward",
                format!("names `{site}` a second time; a layer is scaled once"),
            ));
        }
        if outputs.is_empty() && inputs.is_empty() {
            let known: Vec<&str> = block.linears.keys().map(|site| site.name()).collect();
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

    fn interchange(&self, block: &BlockShape) -> Result<Interchange, PeftError> {
        let modules = |only_inputs: bool| -> Vec<&str> {
            let sites = self.sites(block).filter(|(input, ..)| *input || !only_inputs);
            sites.map(|(_, site, _)| block.module(site)).collect()
        };
        let config = Map::from_iter([
            ("peft_type".to_owned(), json!("IA3")),
            ("fan_in_fan_out".to_owned(), json!(false)),
            ("target_modules".to_owned(), json!(modules(false))),
            ("feedforward_modules".to_owned(), json!(modules(true))),
        ]);
        let tensor = |(input, site, factors): (bool, LinearSite, usize)| InterchangeTensor {
            parameter: name(site),
            file: format!("{}.ia3_l", block.module(site)),
            shape: if input { vec![1, factors] } else { vec![factors, 1] },
        };
        Ok(Interchange { config, tensors: self.sites(block).map(tensor).collect() })
    }
}

peft_reader!("IA3", read);

#[expect(clippy::unnecessary_wraps, reason = "other methods share their `peft_type`")]
fn read(config: &Map<String, Value>, block: &BlockShape) -> ReadMethod {
    let sites = |key: &str| interchange::sites(config, key, block);
    let read = || {
        let (all, inputs) = (sites("target_modules")?, sites("feedforward_modules")?);
        let names = |chosen: &mut dyn Iterator<Item = &LinearSite>| chosen.map(|site| site.name().to_owned()).collect();
        Ok(Box::new(Ia3 {
            targets: names(&mut all.iter().filter(|site| !inputs.contains(site))),
            feed_forward: names(&mut all.iter().filter(|site| inputs.contains(site))),
        }) as Box<dyn PeftMethod>)
    };
    Some(read())
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
