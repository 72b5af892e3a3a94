//! The fields of a request, taken one by one: each refusal names the field.

use s3t_core::limits::shown;
use s3t_core::registry::unknown;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::body::read_json;
use crate::refusal::Refusal;

/// The fields of a request that were not taken yet.
pub(super) struct Fields {
    left: Map<String, Value>,
    taken: Vec<&'static str>,
}

/// Fields of OpenAI's interface that are not supported, with the reason.
const LEFT_OUT: [(&str, &str); 24] = [
    ("audio", "texts are made, not sound"),
    ("best_of", "one text is made for a prompt; ask again with another `seed`"),
    ("function_call", "tools are not supported"),
    ("functions", "tools are not supported"),
    ("length_penalty", "it is for beam search, which is not supported"),
    ("metadata", "nothing is stored"),
    ("modalities", "texts are made, nothing else"),
    ("moderation", "texts are not judged"),
    ("n", "one text is made for a prompt; ask again with another `seed`"),
    ("parallel_tool_calls", "tools are not supported"),
    ("prediction", "predicted outputs are not supported"),
    ("prompt_cache_key", "equal beginnings are found without it"),
    ("prompt_cache_retention", "equal beginnings are found without it"),
    ("reasoning_effort", "no model that reasons apart is supported"),
    ("response_format", "texts are not forced into a form"),
    ("safety_identifier", "nothing is stored"),
    ("service_tier", "callers are treated alike"),
    ("store", "nothing is stored"),
    ("suffix", "texts are continued, not filled in"),
    ("tool_choice", "tools are not supported"),
    ("tools", "tools are not supported"),
    ("use_beam_search", "beam search is not supported"),
    ("verbosity", "say it in the prompt"),
    ("web_search_options", "nothing is looked up"),
];

/// `true` if a field that is left out asks for nothing but what is done anyway.
fn asks_for_nothing(name: &str, value: &Value) -> bool {
    let none = match name {
        "n" | "best_of" => json!(1),
        "modalities" => json!(["text"]),
        "response_format" => json!({ "type": "text" }),
        "service_tier" => json!("auto"),
        "tool_choice" | "function_call" => json!("none"),
        "tools" | "functions" => json!([]),
        "metadata" => json!({}),
        _ => json!(false),
    };
    value.is_null() || *value == none
}

impl Fields {
    /// The fields of a body.
    pub(super) fn read(media_type: &str, bytes: &[u8]) -> Result<Self, Refusal> {
        let left: Map<String, Value> = read_json(media_type, bytes)?;
        for (name, reason) in LEFT_OUT {
            if left.get(name).is_some_and(|value| !asks_for_nothing(name, value)) {
                return Err(Refusal::invalid(format!("`{name}` is not supported: {reason}")));
            }
        }
        Ok(Self { left, taken: Vec::new() })
    }

    /// A field, if it is given and not `null`.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<Option<T>, Refusal> {
        self.taken.push(name);
        let Some(value) = self.left.remove(name).filter(|value| !value.is_null()) else { return Ok(None) };
        let wrong = |error: serde_json::Error| Refusal::invalid(format!("`{name}`: {error}"));
        serde_json::from_value(value).map(Some).map_err(wrong)
    }

    /// Refuses the fields that were not taken.
    pub(super) fn finish(self) -> Result<(), Refusal> {
        let is_left_out = |name: &str| LEFT_OUT.iter().any(|(known, _)| *known == name);
        match self.left.keys().find(|name| !is_left_out(name)) {
            Some(name) => Err(Refusal::invalid(unknown(&format!("field `{}`", shown(name)), name, &self.taken))),
            None => Ok(()),
        }
    }

    /// The names of the fields that were taken.
    #[cfg(test)]
    pub(super) fn taken(&self) -> &[&'static str] {
        &self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &Value) -> Result<Fields, Refusal> {
        Fields::read("application/json", body.to_string().as_bytes())
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name_unless_it_asks_for_nothing() {
        for body in [
            json!({ "n": 1, "tools": [], "store": false, "suffix": null }),
            json!({ "response_format": { "type": "text" } }),
        ] {
            fields(&body).unwrap().finish().unwrap();
        }
        for (name, value) in
            [("n", json!(2)), ("tools", json!([{}])), ("use_beam_search", json!(true)), ("audio", json!({}))]
        {
            let refused = fields(&json!({ name: value })).err().unwrap();
            assert!(refused.message.starts_with(&format!("`{name}` is not supported")), "{}", refused.message);
        }
        let mut taken = fields(&json!({ "temprature": 1, "temperature": "hot" })).unwrap();
        let wrong = taken.take::<f32>("temperature").unwrap_err();
        assert!(wrong.message.starts_with("`temperature`: invalid type"), "{}", wrong.message);
        assert!(taken.finish().unwrap_err().message.contains("did you mean `temperature`?"));
    }
}
