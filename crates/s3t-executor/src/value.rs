//! JSON values as bytes. Text would round some numbers when it is read again, and postcard cannot read a value of unknown type.

use serde::de::DeserializeOwned;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Number, Value};

/// A JSON value of which every number keeps its bits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum WireValue {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl From<Value> for WireValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), _, _) => Self::Unsigned(value),
                (_, Some(value), _) => Self::Signed(value),
                (_, _, value) => value.map_or(Self::Null, Self::Float),
            },
            Value::String(text) => Self::Text(text),
            Value::Array(values) => Self::Array(values.into_iter().map(Self::from).collect()),
            Value::Object(fields) => {
                Self::Object(fields.into_iter().map(|(key, value)| (key, Self::from(value))).collect())
            }
        }
    }
}

impl From<WireValue> for Value {
    fn from(value: WireValue) -> Self {
        match value {
            WireValue::Null => Self::Null,
            WireValue::Bool(value) => Self::Bool(value),
            WireValue::Unsigned(value) => Self::Number(value.into()),
            WireValue::Signed(value) => Self::Number(value.into()),
            WireValue::Float(value) => Number::from_f64(value).map_or(Self::Null, Self::Number),
            WireValue::Text(text) => Self::String(text),
            WireValue::Array(values) => Self::Array(values.into_iter().map(Self::from).collect()),
            WireValue::Object(fields) => {
                Self::Object(fields.into_iter().map(|(key, value)| (key, Self::from(value))).collect::<Map<_, _>>())
            }
        }
    }
}

/// Writes a value by way of JSON, for `serde(with)`.
pub(crate) fn serialize<T: Serialize, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let value = serde_json::to_value(value).map_err(S::Error::custom)?;
    WireValue::from(value).serialize(serializer)
}

/// Reads a value by way of JSON, for `serde(with)`.
pub(crate) fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let value = WireValue::deserialize(deserializer)?;
    serde_json::from_value(value.into()).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_value_comes_back_with_its_bits() {
        // The text of 0.1 + 0.2 has seventeen digits.
        let value = json!({"a": [1, -2, 0.1 + 0.2, 1e-300, u64::MAX, i64::MIN], "b": {"c": null, "d": true, "e": "é"}});
        let bytes = postcard::to_stdvec(&WireValue::from(value.clone())).unwrap();
        assert_eq!(Value::from(postcard::from_bytes::<WireValue>(&bytes).unwrap()), value);
    }
}
