//! Training settings: part of every stage's lineage.

use s3t_models::Precision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::batches::BatchSize;

/// The largest number of epochs: with `batch_tokens` the batches of all are counted before the first step.
const MOST_EPOCHS: usize = 100_000;

/// The fall of the learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// No fall.
    Constant,
    /// In a straight line to zero.
    #[default]
    Linear,
    /// Along half a cosine to zero.
    Cosine,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_one(count: &usize) -> bool {
    *count == 1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// The settings of training: `AdamW`, its state fresh in every stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingConfig {
    /// Passes over the records of a stage.
    pub epochs: usize,
    /// Records of a batch.
    pub batch_size: usize,
    /// Tokens of a batch, in place of `batch_size`: as many records as have so many tokens with the padding to the longest of them,
    /// and a longer record by itself. For texts of unlike length.
    // Left out of a lineage where it is not set, so that the keys of older stores stay; the same for `accumulate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_tokens: Option<usize>,
    /// Batches whose gradients are added up for a step of the optimiser, in their order: a step is then the same, up to rounding,
    /// as with one batch of them all. The last step of a pass has what is left.
    #[serde(skip_serializing_if = "is_one")]
    pub accumulate: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// The share of the steps in which the learning rate rises from zero, 0 to 1.
    pub warmup: f64,
    /// The fall of the learning rate after the warm-up: `constant`, `linear` or `cosine`.
    pub decay: Decay,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Decay of the first moment, 0 to below 1.
    pub beta1: f64,
    /// Decay of the second moment, 0 to below 1.
    pub beta2: f64,
    /// The number that is added to the square root of the second moment.
    pub epsilon: f64,
    /// The precision of embeddings and frozen blocks' outputs in training, `f32` or `bf16`: with `bf16` twice as many fit into
    /// `resources.activation_memory_mb`. Changing it changes every stage, so a store has to be made anew; answers are computed in full
    /// precision either way.
    // Left out of a lineage where it is the default, so that the keys of older stores stay.
    #[serde(skip_serializing_if = "Precision::is_f32")]
    pub activations: Precision,
    /// The precision of the products with frozen weights, in training and in answers: `f32`, or `bf16` for operands in bfloat16 and sums
    /// in single precision, which takes half of the memory for the weights and is faster where the processor has fast instructions
    /// for it (AMD's `avx512_bf16`). Adapters, normalisations, attention and losses stay in single precision. The bits are the same on every
    /// machine either way. Changing it changes every stage. The devices `ndarray` and `wgpu` have no `bf16`. With `model.weights` in
    /// `int8` or `nf4` it concerns the language head alone.
    #[serde(skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
    /// Keeps in each stage the mean of the frozen base model's embeddings of its records, for the aggregator `stage-routed`. It takes a pass of
    /// the base model over the stage's records more, and `hidden` numbers. Changing it changes every stage, so a store has to be made anew.
    // Left out of a lineage where it is not set, so that the keys of older stores stay.
    #[serde(skip_serializing_if = "is_false")]
    pub centroid: bool,
    /// Changes every random number of training.
    pub seed: u64,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            epochs: 3,
            batch_size: 32,
            batch_tokens: None,
            accumulate: 1,
            learning_rate: 2e-3,
            warmup: 0.1,
            decay: Decay::Linear,
            weight_decay: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            activations: Precision::F32,
            precision: Precision::F32,
            centroid: false,
            seed: 0,
        }
    }
}

impl TrainingConfig {
    /// Checks every field.
    ///
    /// # Errors
    ///
    /// [`TrainError::InvalidField`] for the first that cannot be used.
    pub fn check(&self) -> Result<(), TrainError> {
        let refuse = |field, problem: String| Err(TrainError::InvalidField { field, problem });
        let sizes = [
            ("epochs", self.epochs),
            ("batch_size", self.batch_size),
            ("batch_tokens", self.batch_tokens.unwrap_or(1)),
            ("accumulate", self.accumulate),
        ];
        for (field, value) in sizes {
            if value == 0 {
                return refuse(field, "is 0; use at least 1".into());
            }
        }
        if self.epochs > MOST_EPOCHS {
            return refuse("epochs", format!("is {}; it takes up to {MOST_EPOCHS}", self.epochs));
        }
        // Compared as f32: a value that underflows to 0 is refused.
        for (field, value) in [("learning_rate", self.learning_rate), ("epsilon", self.epsilon)] {
            if !(value as f32).is_normal() || value <= 0.0 {
                let range = format!("from {:e} to {:e}", f32::MIN_POSITIVE, f32::MAX);
                return refuse(field, format!("is {value:?}; use a number {range}"));
            }
        }
        for (field, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&(value as f32)) {
                return refuse(field, format!("is {value}; use a number from 0 to below 1"));
            }
        }
        if !(0.0..=1.0).contains(&self.warmup) {
            return refuse("warmup", format!("is {}; use a share of the steps from 0 to 1", self.warmup));
        }
        if !self.weight_decay.is_finite() || self.weight_decay < 0.0 {
            return refuse("weight_decay", format!("is {}; use 0 or more", self.weight_decay));
        }
        Ok(())
    }

    /// The number of steps of a stage with this many records. With `batch_tokens` it depends on their lengths too: then it is what batches
    /// of one record would take, which is the largest.
    pub fn steps(&self, records: usize) -> usize {
        let records_of_batch = if self.batch_tokens.is_some() { 1 } else { self.batch_size };
        self.epochs.saturating_mul(records.div_ceil(records_of_batch).div_ceil(self.accumulate))
    }

    /// The size of a batch.
    pub(crate) fn batch_limit(&self) -> BatchSize {
        self.batch_tokens.map_or(BatchSize::Records(self.batch_size), BatchSize::Tokens)
    }

    /// The learning rate of step `step` of `steps`, from 0.
    pub fn learning_rate_at(&self, step: usize, steps: usize) -> f64 {
        let warmup = (self.warmup * steps as f64).ceil();
        let (step, steps) = (step as f64, steps as f64);
        if step < warmup {
            return self.learning_rate * (step + 1.0) / warmup;
        }
        let progress = if steps > warmup { (step - warmup) / (steps - warmup) } else { 1.0 };
        self.learning_rate
            * match self.decay {
                Decay::Constant => 1.0,
                Decay::Linear => 1.0 - progress,
                Decay::Cosine => f64::midpoint(1.0, libm::cos(std::f64::consts::PI * progress)),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_without_end_are_refused() {
        let with = |epochs| TrainingConfig { epochs, ..TrainingConfig::default() }.check();
        assert!(with(MOST_EPOCHS).is_ok());
        let refused = with(MOST_EPOCHS + 1).unwrap_err().to_string();
        assert!(refused.contains("epochs") && refused.contains("up to 100000"), "{refused}");
    }

    #[test]
    fn learning_rate_rises_then_falls() {
        let config = TrainingConfig { learning_rate: 1.0, warmup: 0.2, ..TrainingConfig::default() };
        let rates: Vec<f64> = (0..10).map(|step| config.learning_rate_at(step, 10)).collect();
        assert_eq!(rates[..3], [0.5, 1.0, 1.0]);
        assert!(rates[2..].windows(2).all(|pair| pair[0] > pair[1]) && rates[9] > 0.0, "{rates:?}");
        let constant = TrainingConfig { decay: Decay::Constant, warmup: 0.0, ..config.clone() };
        assert_eq!(constant.learning_rate_at(9, 10), 1.0);
        let cosine = TrainingConfig { decay: Decay::Cosine, warmup: 0.0, ..config };
        assert!((cosine.learning_rate_at(5, 10) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn the_default_precision_leaves_lineages_as_they_were() {
        let written = |activations| {
            let config = TrainingConfig { activations, ..TrainingConfig::default() };
            serde_json::to_value(config).unwrap().get("activations").cloned()
        };
        assert_eq!((written(Precision::F32), written(Precision::Bf16)), (None, Some("bf16".into())));
    }

    #[test]
    fn stages_without_a_centroid_have_the_lineages_that_they_had() {
        let written =
            |centroid| serde_json::to_value(TrainingConfig { centroid, ..TrainingConfig::default() }).unwrap();
        assert_eq!((written(false).get("centroid"), &written(true)["centroid"]), (None, &true.into()));
    }

    #[test]
    fn batches_by_tokens_and_accumulation_leave_lineages_without_them_as_they_were() {
        let json = |config: TrainingConfig| serde_json::to_value(config).unwrap();
        let plain = json(TrainingConfig::default());
        assert!(plain.get("batch_tokens").is_none() && plain.get("accumulate").is_none());
        let set = TrainingConfig { batch_tokens: Some(64), accumulate: 3, ..TrainingConfig::default() };
        let written = json(set.clone());
        assert_eq!((&written["batch_tokens"], &written["accumulate"]), (&64.into(), &3.into()));
        assert_eq!(serde_json::from_value::<TrainingConfig>(written).unwrap(), set);
        assert_eq!(set.steps(10), 3 * 4);
        let by_records = TrainingConfig { batch_tokens: None, batch_size: 3, ..set };
        assert_eq!(by_records.steps(10), 3 * 2);
    }

    #[test]
    fn impossible_settings_are_refused() {
        let default = TrainingConfig::default;
        for (config, field) in [
            (TrainingConfig { epochs: 0, ..default() }, "epochs"),
            (TrainingConfig { batch_size: 0, ..default() }, "batch_size"),
            (TrainingConfig { batch_tokens: Some(0), ..default() }, "batch_tokens"),
            (TrainingConfig { accumulate: 0, ..default() }, "accumulate"),
            (TrainingConfig { learning_rate: 0.0, ..default() }, "learning_rate"),
            (TrainingConfig { learning_rate: f64::NAN, ..default() }, "learning_rate"),
            (TrainingConfig { warmup: 1.5, ..default() }, "warmup"),
            (TrainingConfig { beta2: 1.0, ..default() }, "beta2"),
            (TrainingConfig { beta2: 1.0 - 1e-12, ..default() }, "beta2"),
            (TrainingConfig { epsilon: 1e-50, ..default() }, "epsilon"),
            (TrainingConfig { weight_decay: -1.0, ..default() }, "weight_decay"),
        ] {
            assert!(config.check().unwrap_err().to_string().starts_with(&format!("`{field}` is ")));
        }
        default().check().unwrap();
    }
}
