//! Values as JSON with one text for each value: the form that is hashed.
//!
//! # Canonical JSON
//!
//! The form is [RFC 8785](https://www.rfc-editor.org/rfc/rfc8785) but for numbers and the order of unusual keys:
//!
//! - no white space; strings as in RFC 8785: UTF-8 as it is, the escapes of two characters where JSON has them (but not for `/`), and
//!   `\u00` with two lower-case digits for the other characters below U+0020;
//! - the keys of an object stand in the order of their UTF-8 bytes. RFC 8785 orders them by UTF-16 units, which differs only for
//!   keys with characters beyond U+FFFF;
//! - an integer is written in decimal, in the range of 64 bits. RFC 8785 writes the nearest floating-point number;
//! - a floating-point number is written with the fewest digits that give it back. If its first digit stands for 10^e with
//!   -5 <= e <= 15, these are decimal digits with a point and at least one digit on each side of it: `16.0`, `0.00001`. Otherwise
//!   they are a digit, a point and the other digits if there are any, `e`, and e with its sign: `1e-8`, `1.5e+16`. A negative zero
//!   is `-0.0`, and there are no infinities and no NaNs. RFC 8785 writes `16`, and exponents from e = -7 and e = 21.
//!
//! The text does not depend on the version of a library that prints JSON: a test compares it with what `serde_json` prints today.

use serde::Serialize;
use serde_json::{Number, Value};

/// A value in [canonical JSON](self#canonical-json).
///
/// # Panics
///
/// If the value is not JSON: a map whose keys are not text, or a `Serialize` of one's own that fails. Derived ones of types with
/// text for keys never do. A plugin's fields become a [`serde_json::Value`] first, where a failure is an error.
///
/// ```
/// use s3t_core::canonical::canonical_json;
///
/// let value = serde_json::json!({"b": 1e-8, "a": [16.0, "é"]});
/// assert_eq!(canonical_json(&value), r#"{"a":[16.0,"é"],"b":1e-8}"#);
/// ```
pub fn canonical_json(value: &(impl Serialize + ?Sized)) -> String {
    let value = serde_json::to_value(value).expect("a type of this project is JSON");
    let mut text = String::new();
    write(&value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => write_number(number, text),
        Value::String(value) => write_string(value, text),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                write(item, text);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort_unstable();
            text.push('{');
            for (index, key) in keys.into_iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                write_string(key, text);
                text.push(':');
                write(&fields[key], text);
            }
            text.push('}');
        }
    }
}

fn write_string(value: &str, text: &mut String) {
    text.push('"');
    for character in value.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\u{c}' => text.push_str("\\f"),
            '\r' => text.push_str("\\r"),
            '\0'..='\u{1f}' => text.push_str(&format!("\\u{:04x}", u32::from(character))),
            other => text.push(other),
        }
    }
    text.push('"');
}

fn write_number(number: &Number, text: &mut String) {
    match (number.as_u64(), number.as_i64(), number.as_f64()) {
        (Some(value), ..) => text.push_str(&value.to_string()),
        (_, Some(value), _) => text.push_str(&value.to_string()),
        (.., Some(value)) => write_float(value, text),
        _ => unreachable!("a number of JSON is an integer of 64 bits or a floating-point number"),
    }
}

fn write_float(value: f64, text: &mut String) {
    // The fewest digits, as `D.DDDeE`.
    let shortest = format!("{:e}", value.abs());
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if value.is_sign_negative() {
        text.push('-');
    }
    if !(-5..=15).contains(&exponent) {
        text.push_str(&format!("{mantissa}e{exponent:+}"));
        return;
    }
    let digits = mantissa.replace('.', "");
    let whole = usize::try_from(exponent + 1).unwrap_or(0);
    if whole == 0 {
        text.push_str(&format!("0.{}{digits}", "0".repeat(exponent.unsigned_abs() as usize - 1)));
    } else if digits.len() <= whole {
        text.push_str(&format!("{digits}{}.0", "0".repeat(whole - digits.len())));
    } else {
        text.push_str(&format!("{}.{}", &digits[..whole], &digits[whole..]));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let float = prop_oneof![
            any::<f64>(),
            any::<u64>().prop_map(f64::from_bits),
            (-40..40_i32).prop_map(|e| 10_f64.powi(e))
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            float.prop_map(Value::from),
            ".*".prop_map(Value::from),
            "[\\x00-\\x7f]*".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 30, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map(".*", inner, 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_text_is_that_of_serde_json_with_sorted_keys(value in value()) {
            let mut sorted = value.clone();
            sorted.sort_all_objects();
            prop_assert_eq!(canonical_json(&value), sorted.to_string());
        }

        #[test]
        fn a_value_is_read_back_from_its_text(value in value()) {
            let text = canonical_json(&value);
            prop_assert_eq!(canonical_json(&serde_json::from_str::<Value>(&text).unwrap()), text);
        }
    }

    #[test]
    fn numbers_are_written_as_documented() {
        let numbers =
            json!([0.0, -0.0, 16.0, 1e-5, 1e-6, 2.5e-5, 1e-8, 1e15, 1.5e15, 1e16, 1.5e16, 1e21, u64::MAX, i64::MIN]);
        let expected = "[0.0,-0.0,16.0,0.00001,1e-6,0.000025,1e-8,1000000000000000.0,1500000000000000.0,1e+16,1.5e+16,1e+21,\
                        18446744073709551615,-9223372036854775808]";
        assert_eq!(canonical_json(&numbers), expected);
    }
}
