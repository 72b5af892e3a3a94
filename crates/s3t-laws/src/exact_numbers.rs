//! Numbers read from JSON correctly rounded. `serde_json`'s own reading may be off by the last bit, and the last bit counts here.

/// The text of a field of a JSON object that has been parsed before, so that it is known to be well formed.
pub fn field_text<'a>(object: &'a str, field: &str) -> Option<&'a str> {
    let bytes = object.as_bytes();
    let quoted = format!("\"{field}\"");
    let (mut depth, mut at, mut value_from, mut found) = (0_usize, 0, 0, None);
    let mut is_key = true;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let end = string_end(bytes, at);
                if depth == 1 && is_key {
                    found = (object.get(at..end) == Some(quoted.as_str())).then_some(());
                }
                at = end;
                continue;
            }
            b':' if depth == 1 => {
                is_key = false;
                value_from = at + 1;
            }
            b',' | b'}' if depth == 1 => {
                if found.take().is_some() {
                    return object.get(value_from..at).map(str::trim);
                }
                is_key = true;
                depth -= usize::from(bytes[at] == b'}');
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The position after the string that starts at a quotation mark.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// The numbers of a text of JSON arrays of numbers, in their order.
pub fn numbers(arrays: &str) -> Option<Vec<f64>> {
    let tokens = arrays.split(|letter: char| matches!(letter, '[' | ']' | ',') || letter.is_ascii_whitespace());
    tokens.filter(|token| !token.is_empty()).map(|token| token.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_field_is_found_by_its_key_only() {
        let object =
            r#" {"a": "answers", "b": {"answers": [1]}, "text": "\"answers\": [9]", "answers" : [[2.5], []], "z":1} "#;
        assert_eq!(field_text(object, "answers"), Some("[[2.5], []]"));
        assert_eq!(field_text(object, "z"), Some("1"));
        assert_eq!(field_text(object, "y"), None);
    }

    proptest! {
        #[test]
        fn every_finite_number_keeps_its_bits(values in proptest::collection::vec(proptest::num::f64::NORMAL, 0..20)) {
            let text = format!("{{\"answers\":{}}}", serde_json::to_string(&values).unwrap());
            let read = numbers(field_text(&text, "answers").unwrap()).unwrap();
            prop_assert_eq!(read.len(), values.len());
            for (read, value) in read.iter().zip(&values) {
                prop_assert_eq!(read.to_bits(), value.to_bits());
            }
        }
    }
}
