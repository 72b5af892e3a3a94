//! Rotary position embeddings (Su et al. 2021, arXiv 2104.09864), in the layout of Hugging Face: the two halves of a head
//! are rotated against each other.

use burn::tensor::{Device, Tensor, TensorData};
use serde_json::{Map, Value};

use crate::FieldError;
use crate::fields::shown;

/// The rotation of each pair of dimensions from position to position.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotary {
    /// `head_dim / 2` angles a position.
    frequencies: Vec<f64>,
}

impl Rotary {
    /// Reads `rope_theta` and `rope_scaling`, or their newer form `rope_parameters`, from the fields of a `config.json`.
    ///
    /// # Errors
    ///
    /// [`FieldError`] for a kind of rotation or a value that is not supported.
    ///
    /// ```
    /// use s3t_models::{Rotary, serde_json::json};
    ///
    /// let yarn = json!({ "rope_scaling": { "rope_type": "yarn", "factor": 4.0 } });
    /// let refused = Rotary::from_config(yarn.as_object().unwrap(), 64).unwrap_err();
    /// assert!(refused.to_string().contains("supported: default, linear, llama3"));
    /// ```
    pub fn from_config(config: &Map<String, Value>, head_dim: usize) -> Result<Self, FieldError> {
        let empty = Map::new();
        let named = |key: &str| match config.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(section)) => Ok(Some(section).filter(|section| !section.is_empty())),
            Some(other) => Err(FieldError::new(key, format!("is {other}, not a section with `rope_type`"))),
        };
        let (old, new) = (named("rope_scaling")?, named("rope_parameters")?);
        let of_section = if new.is_some() { "rope_parameters" } else { "rope_scaling" };
        let section = match (old, new) {
            (Some(old), Some(new)) if differ(config, old, new) => {
                return Err(FieldError::new("rope_scaling", "and `rope_parameters` disagree; keep one of them"));
            }
            (old, new) => new.or(old).unwrap_or(&empty),
        };
        if let Some((key, _)) = section.iter().find(|(_, value)| value.is_object()) {
            let problem = format!("has a section of its own for `{key}`; layers of several types are not supported");
            return Err(FieldError::new(of_section, problem));
        }
        match section.get("partial_rotary_factor") {
            None | Some(Value::Null) => {}
            Some(share) if share.as_f64() == Some(1.0) => {}
            Some(share) => {
                let problem = format!("is {share}; heads of which a part is rotated are not supported");
                return Err(FieldError::new("partial_rotary_factor", problem));
            }
        }
        let number = |key: &str| section.get(key).and_then(Value::as_f64);
        let own =
            [section, config].into_iter().find_map(|fields| fields.get("rope_theta").filter(|value| !value.is_null()));
        let theta = match own.map(|value| (value, value.as_f64())) {
            None => 1e4,
            Some((_, Some(theta))) => theta,
            Some((value, None)) => {
                return Err(FieldError::new("rope_theta", format!("is {}; it takes a number above 0", shown(value))));
            }
        };
        if !theta.is_finite() || theta <= 0.0 {
            return Err(FieldError::new("rope_theta", format!("is {theta}; it takes a number above 0")));
        }
        let pairs = head_dim / 2;
        let mut frequencies: Vec<f64> =
            (0..pairs).map(|pair| libm::pow(theta, -2.0 * pair as f64 / head_dim as f64)).collect();
        let not_text = |key: &&str| section.get(*key).is_some_and(|value| !value.is_null() && !value.is_string());
        if let Some(key) = ["rope_type", "type"].into_iter().find(|key| not_text(key)) {
            let problem = format!("is {}; supported: default, linear, llama3", shown(&section[key]));
            return Err(FieldError::new(key, problem));
        }
        let kind = |key: &str| section.get(key).and_then(Value::as_str);
        if let (Some(one), Some(other)) = (kind("rope_type"), kind("type"))
            && one != other
        {
            let problem = format!("is `{one}`, but the older `type` is `{other}`; keep one of them");
            return Err(FieldError::new("rope_type", problem));
        }
        let needed = |key: &str| match number(key) {
            Some(value) if value.is_finite() && value > 0.0 => Ok(value),
            Some(value) => {
                Err(FieldError::new(key, format!("of the rotary positions is {value}; it takes a number above 0")))
            }
            None => Err(FieldError::new(key, "is missing, which rotary positions of this type need")),
        };
        match kind("rope_type").or_else(|| kind("type")).unwrap_or("default") {
            "default" => {}
            "linear" => {
                let factor = needed("factor")?;
                frequencies.iter_mut().for_each(|frequency| *frequency /= factor);
            }
            "llama3" => {
                let (factor, low, high) = (needed("factor")?, needed("low_freq_factor")?, needed("high_freq_factor")?);
                // A field of the whole configuration counts before that of the section.
                let key = "original_max_position_embeddings";
                let of_model = |key: &str| config.get(key).and_then(Value::as_f64);
                let original =
                    match of_model(key).or_else(|| number(key)).or_else(|| of_model("max_position_embeddings")) {
                        Some(original) if original.is_finite() && original > 0.0 => original,
                        other => {
                            let other = other.unwrap_or_default();
                            let problem = format!("of the rotary positions is {other}; it takes a number above 0");
                            return Err(FieldError::new(key, problem));
                        }
                    };
                if high <= low {
                    let problem = format!("{high} is not above `low_freq_factor` {low}");
                    return Err(FieldError::new("high_freq_factor", problem));
                }
                for frequency in &mut frequencies {
                    let turns = original * *frequency / std::f64::consts::TAU;
                    // Fast pairs stay, slow ones are slowed down, those between are mixed.
                    let share = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    *frequency *= share + (1.0 - share) / factor;
                }
            }
            other => {
                let problem =
                    format!("is `{other}` in `rope_parameters` or `rope_scaling`; supported: default, linear, llama3");
                return Err(FieldError::new("rope_type", problem));
            }
        }
        Ok(Self { frequencies })
    }

    /// The cosines, and behind them the sines, of a position, each `head_dim / 2` values: for [`turn`](Self::turn).
    pub fn angles(&self, position: usize) -> Vec<f32> {
        let of = |function: fn(f64) -> f64| {
            self.frequencies.iter().map(move |frequency| function(position as f64 * frequency) as f32)
        };
        of(libm::cos).chain(of(libm::sin)).collect()
    }

    /// Rotates the heads of a token, `[heads * head_dim]`, by the [`angles`](Self::angles) of its position, in place.
    pub fn turn(angles: &[f32], heads: &mut [f32]) {
        let half = angles.len() / 2;
        let (cos, sin) = angles.split_at(half);
        for head in heads.chunks_exact_mut((2 * half).max(1)) {
            let (first, second) = head.split_at_mut(half);
            for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                (*a, *b) = (*a * cos + -*b * sin, *b * cos + *a * sin);
            }
        }
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
        (table(libm::cos), table(libm::sin))
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

/// True if two sections ask for different rotary positions.
fn differ(config: &Map<String, Value>, one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    let kind = |section: &Map<String, Value>| {
        let named = section.get("rope_type").or_else(|| section.get("type")).and_then(Value::as_str);
        named.unwrap_or("default").to_owned()
    };
    let number =
        |section: &Map<String, Value>, key: &str| section.get(key).or_else(|| config.get(key)).and_then(Value::as_f64);
    let keys = one.keys().chain(other.keys()).filter(|key| *key != "type" && *key != "rope_type");
    kind(one) != kind(other) || { keys }.any(|key| number(one, key) != number(other, key))
}
