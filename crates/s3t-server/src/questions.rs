//! Questions as clients send them, made into records without targets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use s3t_core::{Payload, Record, RecordId, Target};
use s3t_data::read_image_bytes;
use serde_json::Value;

use crate::model::Model;
use crate::refusal::{Kind, Refusal};

/// The most features of a question.
const MAX_FEATURES: usize = 1 << 20;

/// A record that is only asked about, in its place among others.
pub(crate) fn question(index: usize, payload: Payload) -> Result<Record, Refusal> {
    let id = RecordId::new(format!("input-{index}")).map_err(|error| Refusal::invalid(error.to_string()))?;
    Ok(Record { id, subject: None, target: Target::None, ordinal: index as u64, payload })
}

/// A picture file's bytes, as the model takes pictures.
pub(crate) fn picture(model: &Model, name: &str, bytes: &[u8]) -> Result<Payload, Refusal> {
    read_image_bytes(bytes, name, model.pictures()).map_err(|problem| Refusal::new(Kind::Unprocessable, problem))
}

/// A picture file in base64.
pub(crate) fn picture_in_base64(model: &Model, name: &str, text: &str) -> Result<Payload, Refusal> {
    // A data URL has the bytes behind a comma.
    let text = text.strip_prefix("data:").and_then(|rest| Some(rest.split_once(',')?.1)).unwrap_or(text);
    let bytes = STANDARD.decode(text.trim());
    let bytes = bytes.map_err(|error| Refusal::invalid(format!("{name} is not base64: {error}")))?;
    picture(model, name, &bytes)
}

/// Numbers, used as they are.
pub(crate) fn features(name: &str, values: &[Value]) -> Result<Payload, Refusal> {
    if values.len() > MAX_FEATURES {
        let message = format!("{name} has {} numbers, and at most {MAX_FEATURES} are taken", values.len());
        return Err(Refusal::new(Kind::TooLarge, message));
    }
    let number = |value: &Value| {
        let number = value.as_f64().map(|number| number as f32).filter(|number| number.is_finite());
        number.ok_or_else(|| Refusal::invalid(format!("{name} holds {}, which is no finite number", kind_of(value))))
    };
    Ok(Payload::Features(values.iter().map(number).collect::<Result<_, _>>()?))
}

/// The inputs of `/predict`: a text, a pair of texts, a list of lists of one or two texts, an object with `image` or `features`, or a
/// list of these objects. Gives the payloads, and whether there is a list of them.
pub(crate) fn inputs(model: &Model, value: &Value) -> Result<(Vec<Payload>, bool), Refusal> {
    let refuse = || {
        Refusal::invalid(
            "`inputs` takes a text, a pair of texts [\"a\", \"b\"], a list of lists of one or two texts [[\"a\"], [\"b\"]], an \
             object with `image` (base64) or `features` (numbers), or a list of such objects",
        )
    };
    match value {
        Value::String(text) => Ok((vec![Payload::Text(text.clone())], false)),
        Value::Object(_) => Ok((vec![object(model, "`inputs`", value)?], false)),
        Value::Array(items) => match &items[..] {
            [] => Err(Refusal::invalid("`inputs` is empty")),
            [Value::String(first), Value::String(second)] => {
                Ok((vec![Payload::TextPair(first.clone(), second.clone())], false))
            }
            [Value::Array(_), ..] => {
                let pair = |item: &Value| texts(item).ok_or_else(refuse);
                Ok((items.iter().map(pair).collect::<Result<_, _>>()?, true))
            }
            [Value::Object(_), ..] => {
                let one = |(index, item)| object(model, &format!("`inputs[{index}]`"), item);
                Ok((items.iter().enumerate().map(one).collect::<Result<_, _>>()?, true))
            }
            _ => Err(refuse()),
        },
        _ => Err(refuse()),
    }
}

/// A text, or a pair of texts.
fn texts(item: &Value) -> Option<Payload> {
    match &item.as_array()?[..] {
        [Value::String(text)] => Some(Payload::Text(text.clone())),
        [Value::String(first), Value::String(second)] => Some(Payload::TextPair(first.clone(), second.clone())),
        _ => None,
    }
}

fn object(model: &Model, name: &str, value: &Value) -> Result<Payload, Refusal> {
    let refuse =
        || Refusal::invalid(format!("{name} takes exactly one of `text`, `image` (base64) and `features` (numbers)"));
    let fields = value.as_object().ok_or_else(refuse)?;
    let [(field, value)] = &fields.iter().collect::<Vec<_>>()[..] else { return Err(refuse()) };
    match (field.as_str(), value) {
        ("text", Value::String(text)) => Ok(Payload::Text(text.clone())),
        ("image", Value::String(text)) => picture_in_base64(model, &format!("the image in {name}"), text),
        ("features", Value::Array(values)) => features(&format!("`features` of {name}"), values),
        _ => Err(refuse()),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number out of range",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
