//! Checks of fields that several families have.

use s3t_kernels::Activation;
use serde::Serialize;
use serde_json::Value;

use crate::FieldError;

/// The largest size of a dimension: it keeps products of sizes far from overflow, and the largest published models stay below it.
const MAX_SIZE: usize = 1 << 17;

/// The largest vocabulary and the largest number of computed positions: the range of an index.
const MAX_INDEX: usize = 1 << 24;

/// The fewest tokens of a text that a model must have room for.
pub(crate) const MIN_TOKENS: usize = 4;

/// The activation of this name in the field `field` of `config.json`.
///
/// # Errors
///
/// [`FieldError`] naming the supported activations.
pub fn activation_from_name(field: &str, name: &str) -> Result<Activation, FieldError> {
    match name {
        "gelu" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        "silu" | "swish" => Ok(Activation::Silu),
        _ => {
            let problem = format!("is `{name}`; supported: gelu, gelu_new, gelu_pytorch_tanh, relu, silu");
            Err(FieldError::new(field, problem))
        }
    }
}

/// Checks sizes that tensors are made of, each with its field.
///
/// # Errors
///
/// [`FieldError`] for the first size out of range.
///
/// ```
/// use s3t_models::check_sizes;
///
/// assert!(check_sizes(&[("hidden_size", 768)]).is_ok());
/// let refused = check_sizes(&[("hidden_size", 0)]).unwrap_err();
/// assert_eq!(refused.to_string(), "`hidden_size` is 0; it takes 1 to 131072");
/// ```
pub fn check_sizes(sizes: &[(&str, usize)]) -> Result<(), FieldError> {
    match sizes.iter().find(|(_, value)| !(1..=MAX_SIZE).contains(value)) {
        Some((field, value)) => Err(FieldError::new(*field, format!("is {value}; it takes 1 to {MAX_SIZE}"))),
        None => Ok(()),
    }
}

/// Checks that heads share the width of the residual stream evenly; each number with its field.
///
/// # Errors
///
/// [`FieldError`] naming both fields.
pub fn check_heads((field, hidden): (&str, usize), (of_heads, heads): (&str, usize)) -> Result<(), FieldError> {
    if hidden.is_multiple_of(heads) {
        return Ok(());
    }
    Err(FieldError::new(field, format!("{hidden} is not a multiple of `{of_heads}` {heads}")))
}

/// Checks the heads of grouped-query attention with rotary positions: the query heads in `num_attention_heads`, the key and value
/// heads in `num_key_value_heads`, and the width of a head.
///
/// # Errors
///
/// [`FieldError`] naming the field.
pub fn check_key_value_heads(heads: usize, kv_heads: usize, head_dim: usize) -> Result<(), FieldError> {
    if !heads.is_multiple_of(kv_heads) {
        let problem = format!("{heads} is not a multiple of `num_key_value_heads` {kv_heads}");
        return Err(FieldError::new("num_attention_heads", problem));
    }
    if !head_dim.is_multiple_of(2) {
        let problem = format!("is {head_dim}, but heads of an odd width cannot be rotated");
        return Err(FieldError::new("head_dim", problem));
    }
    Ok(())
}

/// Checks the epsilon of a normalisation.
///
/// # Errors
///
/// [`FieldError`] for a number that is not positive, or that is 0 as a normal 32-bit number.
pub fn check_epsilon(field: &str, value: f64) -> Result<(), FieldError> {
    if value.is_finite() && value >= f64::from(f32::MIN_POSITIVE) && value < 1.0 {
        return Ok(());
    }
    Err(FieldError::new(field, format!("is {value}; it takes a small positive number")))
}

/// Checks `vocab_size`, and that the tokens that other fields name are in the vocabulary.
///
/// # Errors
///
/// [`FieldError`] naming the field.
pub fn check_vocabulary(size: usize, tokens: &[(&str, Option<u32>)]) -> Result<(), FieldError> {
    if !(MIN_TOKENS..=MAX_INDEX).contains(&size) {
        return Err(FieldError::new("vocab_size", format!("is {size}; it takes {MIN_TOKENS} to {MAX_INDEX}")));
    }
    match tokens.iter().find_map(|(field, token)| Some((field, token.filter(|token| *token as usize >= size)?))) {
        Some((field, token)) => Err(FieldError::new(*field, format!("is {token}, but `vocab_size` is {size}"))),
        None => Ok(()),
    }
}

/// Checks `max_position_embeddings` of a model that computes its positions.
///
/// # Errors
///
/// [`FieldError`] for a number out of range.
pub fn check_positions(positions: usize) -> Result<(), FieldError> {
    if (MIN_TOKENS..=MAX_INDEX).contains(&positions) {
        return Ok(());
    }
    let problem = format!("is {positions}; it takes {MIN_TOKENS} to {MAX_INDEX}");
    Err(FieldError::new("max_position_embeddings", problem))
}

/// The tokens that a field names: one number, or a list of numbers.
///
/// # Errors
///
/// [`FieldError`] for another value.
///
/// ```
/// use s3t_models::{serde_json::json, token_ids};
///
/// assert_eq!(token_ids("eos_token_id", &json!(2))?, [2]);
/// assert_eq!(token_ids("eos_token_id", &json!([2, 7]))?, [2, 7]);
/// assert!(token_ids("eos_token_id", &json!("end")).is_err());
/// # Ok::<(), s3t_models::FieldError>(())
/// ```
pub fn token_ids(field: &str, value: &Value) -> Result<Vec<u32>, FieldError> {
    let ids = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(ids) => ids.clone(),
        id => vec![id.clone()],
    };
    let id = |id: &Value| {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| FieldError::new(field, format!("is {value}; it takes a token's number or several")))
    };
    ids.iter().map(id).collect()
}

/// A part of a configuration as JSON, for the digest of a model.
///
/// # Errors
///
/// [`FieldError`] for a value that JSON cannot hold.
pub fn constant<T: Serialize>(value: &T) -> Result<Value, FieldError> {
    serde_json::to_value(value)
        .map_err(|error| FieldError::new("config", format!("cannot be written as JSON: {error}")))
}
