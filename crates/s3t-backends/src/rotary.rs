//! Rotary position embeddings (Su et al. 2021, arXiv 2104.09864), in the layout of Hugging Face: the two halves of a head
//! are rotated against each other.

use burn::tensor::{Device, Tensor, TensorData};
use serde_json::{Map, Value};

/// How fast each pair of dimensions rotates from position to position.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rotary {
    /// `head_dim / 2` angles a position.
    frequencies: Vec<f64>,
}

impl Rotary {
    /// Reads `rope_theta` and `rope_scaling`, or their newer form `rope_parameters`, from a `config.json`.
    pub(crate) fn from_config(config: &Map<String, Value>, head_dim: usize) -> Result<Self, String> {
        let section = ["rope_parameters", "rope_scaling"].iter().find_map(|key| config.get(*key)?.as_object());
        let number = |key: &str| section.and_then(|section| section.get(key)).and_then(Value::as_f64);
        let theta = number("rope_theta").or_else(|| config.get("rope_theta").and_then(Value::as_f64)).unwrap_or(1e4);
        if !theta.is_finite() || theta <= 0.0 {
            return Err(format!("`rope_theta` is {theta}; it takes a number above 0"));
        }
        let pairs = head_dim / 2;
        let mut frequencies: Vec<f64> =
            (0..pairs).map(|pair| theta.powf(-2.0 * pair as f64 / head_dim as f64)).collect();
        let kind = |key: &str| section.and_then(|section| section.get(key)).and_then(Value::as_str);
        let needed = |key: &str| match number(key) {
            Some(value) if value.is_finite() && value > 0.0 => Ok(value),
            Some(value) => Err(format!("`{key}` of the rotary positions is {value}; it takes a number above 0")),
            None => Err(format!("rotary positions need `{key}`")),
        };
        match kind("rope_type").or_else(|| kind("type")).unwrap_or("default") {
            "default" => {}
            "linear" => {
                let factor = needed("factor")?;
                frequencies.iter_mut().for_each(|frequency| *frequency /= factor);
            }
            "llama3" => {
                let (factor, low, high) = (needed("factor")?, needed("low_freq_factor")?, needed("high_freq_factor")?);
                let original = needed("original_max_position_embeddings")?;
                if high <= low {
                    return Err(format!("`high_freq_factor` {high} is not above `low_freq_factor` {low}"));
                }
                for frequency in &mut frequencies {
                    let turns = original * *frequency / std::f64::consts::TAU;
                    // Fast pairs stay, slow ones are slowed down, those between are mixed.
                    let share = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    *frequency *= share + (1.0 - share) / factor;
                }
            }
            other => {
                return Err(format!(
                    "rotary positions of type `{other}` are not supported; supported: default, linear, llama3"
                ));
            }
        }
        Ok(Self { frequencies })
    }

    /// Cosines and sines of the positions `first..first + tokens`, each `[1, tokens, 1, head_dim]`.
    pub(crate) fn at(&self, first: usize, tokens: usize, device: &Device) -> (Tensor<4>, Tensor<4>) {
        let shape = [1, tokens, 1, 2 * self.frequencies.len()];
        let table = |function: fn(f64) -> f64| {
            let row = |position: usize| {
                let half = self.frequencies.iter().map(move |frequency| function(position as f64 * frequency) as f32);
                half.clone().chain(half)
            };
            let values: Vec<f32> = (first..first + tokens).flat_map(row).collect();
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        (table(f64::cos), table(f64::sin))
    }

    /// Rotates `[batch, tokens, heads, head_dim]`.
    pub(crate) fn rotate(x: Tensor<4>, cos: &Tensor<4>, sin: &Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let first = x.clone().narrow(3, 0, half);
        let second = x.clone().narrow(3, half, half);
        let turned = Tensor::cat(vec![second.neg(), first], 3);
        x * cos.clone() + turned * sin.clone()
    }
}
