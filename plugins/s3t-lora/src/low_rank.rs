//! The parts that the methods of this family share: targets, checks, the two factors, and their names in PEFT's files.

use s3t_peft::burn::tensor::Tensor;
use s3t_peft::serde_json::{Map, Value, json};
use s3t_peft::{
    BlockParameters, BlockShape, Dropout, Init, Interchange, InterchangeTensor, Linear, LinearSite, ParameterSpec,
    PeftError, interchange, matmul,
};

/// The fields that all methods of the family have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fields {
    pub(crate) rank: usize,
    pub(crate) alpha: f64,
    pub(crate) dropout: f64,
    pub(crate) targets: Vec<String>,
}

impl Default for Fields {
    fn default() -> Self {
        Self { rank: 8, alpha: 16.0, dropout: 0.0, targets: vec!["query".into(), "value".into()] }
    }
}

impl Fields {
    pub(crate) fn check(&self, block: &BlockShape) -> Result<(), PeftError> {
        if self.rank == 0 {
            return Err(PeftError::field("rank", "is 0; use at least 1"));
        }
        // Compared as f32, in which the scale is multiplied.
        if !(self.alpha as f32).is_normal() || self.alpha <= 0.0 {
            let range = format!("from {:e} to {:e}", f32::MIN_POSITIVE, f32::MAX);
            return Err(PeftError::field("alpha", format!("is {:?}; use a number {range}", self.alpha)));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(PeftError::field("dropout", format!("is {}; use a share from 0 to below 1", self.dropout)));
        }
        if self.targets.is_empty() {
            let known: Vec<&str> = block.linears.keys().map(|site| site.name()).collect();
            return Err(PeftError::field("targets", format!("is empty; this model has {}", known.join(", "))));
        }
        for site in block.resolve("targets", &self.targets)? {
            let (inputs, outputs) = block.linears[&site];
            if self.rank > inputs.min(outputs) {
                let problem = format!("is {}, more than `{site}` ({inputs} x {outputs}) can have", self.rank);
                return Err(PeftError::field("rank", problem));
            }
        }
        Ok(())
    }

    /// The adapted layers with their sizes; empty for targets that were not checked.
    pub(crate) fn sites<'a>(&self, block: &'a BlockShape) -> impl Iterator<Item = (LinearSite, (usize, usize))> + 'a {
        let sites = block.resolve("targets", &self.targets).unwrap_or_default();
        sites.into_iter().map(|site| (site, block.linears[&site]))
    }

    /// The two factors of one layer.
    pub(crate) fn parameters(&self, site: LinearSite, (inputs, outputs): (usize, usize)) -> [ParameterSpec; 2] {
        // Kaiming uniform with a = sqrt(5), as in the reference implementations: the bound is 1 / sqrt(inputs).
        let bound = 1.0 / (inputs.max(1) as f64).sqrt();
        [
            ParameterSpec::new(down_name(site), [self.rank, inputs], Init::Uniform { bound }),
            ParameterSpec::new(up_name(site), [outputs, self.rank], Init::Zeros),
        ]
    }

    pub(crate) fn low_rank(
        &self,
        site: LinearSite,
        (inputs, outputs): (usize, usize),
        parameters: &BlockParameters<'_>,
    ) -> Result<LowRank, PeftError> {
        Ok(LowRank {
            down: parameters.get(&down_name(site), [self.rank, inputs])?.transpose(),
            up: parameters.get(&up_name(site), [outputs, self.rank])?.transpose(),
            dropout: parameters.dropout(site.name(), self.dropout),
        })
    }

    /// The method in PEFT's terms, with `flags` beside the fields of the family.
    pub(crate) fn interchange(&self, block: &BlockShape, flags: &[(&str, bool)]) -> Interchange {
        let modules: Vec<&str> = self.sites(block).map(|(site, _)| block.module(site)).collect();
        let mut config = Map::from_iter([
            ("peft_type".to_owned(), json!("LORA")),
            ("r".to_owned(), json!(self.rank)),
            ("lora_alpha".to_owned(), json!(self.alpha)),
            ("lora_dropout".to_owned(), json!(self.dropout)),
            ("bias".to_owned(), json!("none")),
            ("fan_in_fan_out".to_owned(), json!(false)),
            ("target_modules".to_owned(), json!(modules)),
        ]);
        config.extend(flags.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
        let tensors = self.sites(block).flat_map(|(site, (inputs, outputs))| {
            let module = block.module(site);
            [
                tensor(down_name(site), format!("{module}.lora_A.weight"), [self.rank, inputs]),
                tensor(up_name(site), format!("{module}.lora_B.weight"), [outputs, self.rank]),
            ]
        });
        Interchange { config, tensors: tensors.collect() }
    }

    /// The fields in a PEFT configuration, with its two switches: rsLoRA's scale, and DoRA. (The table of PEFT's fields has refused
    /// other values before.)
    pub(crate) fn read(config: &Map<String, Value>, block: &BlockShape) -> Result<(Self, bool, bool), PeftError> {
        let rank = match config.get("r") {
            None | Some(Value::Null) => 8,
            Some(rank) => rank
                .as_u64()
                .filter(|rank| (1..=1 << 20).contains(rank))
                .ok_or_else(|| PeftError::field("r", format!("is {rank}; use a whole number of at least 1")))?,
        };
        let targets = interchange::sites(config, "target_modules", block)?;
        let fields = Self {
            rank: rank as usize,
            alpha: interchange::number(config, "lora_alpha", 8.0)?,
            dropout: interchange::number(config, "lora_dropout", 0.0)?,
            targets: targets.into_iter().map(|site| site.name().to_owned()).collect(),
        };
        Ok((fields, interchange::switch(config, "use_rslora")?, interchange::switch(config, "use_dora")?))
    }
}

/// The factors of one layer's update.
pub(crate) struct LowRank {
    /// `[inputs, rank]`.
    pub(crate) down: Tensor<2>,
    /// `[rank, outputs]`.
    pub(crate) up: Tensor<2>,
    dropout: Dropout,
}

impl LowRank {
    /// `x A B`, `[rows, inputs]` to `[rows, outputs]`.
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        matmul(matmul(self.dropout.apply(x), self.down.clone()), self.up.clone())
    }

    /// `base(x) + scale x A B`, `[rows, inputs]` to `[rows, outputs]`.
    pub(crate) fn beside(&self, base: &Linear, x: Tensor<2>, scale: f64) -> Tensor<2> {
        if self.dropout.drops() {
            // The update sees another input than the layer does.
            return base.forward(x.clone()) + self.forward(x).mul_scalar(scale);
        }
        base.forward_low_rank(x, self.down.clone(), self.up.clone(), scale)
    }
}

pub(crate) fn tensor(parameter: String, file: String, shape: impl Into<Vec<usize>>) -> InterchangeTensor {
    InterchangeTensor { parameter, file, shape: shape.into() }
}

fn down_name(site: LinearSite) -> String {
    format!("{site}.lora_A.weight")
}

fn up_name(site: LinearSite) -> String {
    format!("{site}.lora_B.weight")
}
