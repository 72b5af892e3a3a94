//! Tables of the fields of files that come with a model: fields that are honoured, fields that change nothing here, and the values
//! at which a field may be left aside. Everything else is refused by name.
//!
//! A field that the class of the family in Python does not know changes nothing in Python either, and is passed over: unless the
//! file was written by a later version of the library than these tables know, which may give it a meaning.

mod generation;
mod groups;
mod tokenizer;

use serde_json::{Map, Value};

use crate::FieldError;

pub(crate) use generation::GENERATION;
pub use groups::{BERT_LIKE, COMMON, DECODER, ENCODER, NO_WINDOWS, SIZES, TEXT, TRAINING, size};
pub(crate) use tokenizer::{SPECIAL_TOKENS, TOKENIZER, TOKENIZER_CONFIG};

/// The treatment of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The field is read, and its value is checked where it is read.
    Honoured,
    /// The field changes nothing that is computed here.
    Harmless,
    /// The field may be there with one of these values, written as JSON.
    Only(&'static [&'static str]),
}

/// A field with its rule.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The field's name.
    pub name: &'static str,
    /// Its treatment.
    pub rule: Rule,
    /// The reason, or the use that is made of it.
    pub note: &'static str,
}

impl Field {
    /// A field that is read.
    pub const fn honoured(name: &'static str, note: &'static str) -> Self {
        Self { name, rule: Rule::Honoured, note }
    }

    /// A field that changes nothing here.
    pub const fn harmless(name: &'static str, note: &'static str) -> Self {
        Self { name, rule: Rule::Harmless, note }
    }

    /// A field that may be there with some values only; `note` says what another value would ask for.
    pub const fn only(name: &'static str, values: &'static [&'static str], note: &'static str) -> Self {
        Self { name, rule: Rule::Only(values), note }
    }
}

/// The fields of one file for one family of models or adapters.
#[derive(Debug, Clone, Copy)]
pub struct FieldTable {
    /// The file's name.
    pub file: &'static str,
    /// The family: a `model_type`, a `peft_type`, or a word for all.
    pub family: &'static str,
    /// The class in Python whose fields the table knows, with the version of its library.
    pub class: &'static str,
    /// The field that says which version of the library wrote the file, and the latest version whose fields are known.
    pub version: Option<(&'static str, [u64; 2])>,
    /// The fields, in groups that tables share.
    pub groups: &'static [&'static [Field]],
}

impl FieldTable {
    /// The entry of a field.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.groups.iter().flat_map(|group| group.iter()).find(|field| field.name == name)
    }

    /// Checks the fields of a file; `accepted` are names that the user accepts whatever they say.
    ///
    /// # Errors
    ///
    /// [`FieldError`] for the first field whose value is not supported, or that a later version of the library may give a meaning.
    ///
    /// ```
    /// use s3t_models::fields::{COMMON, Field, FieldTable};
    /// use s3t_models::serde_json::json;
    ///
    /// const OWN: &[Field] = &[Field::only("use_pooler", &["true"], "models without a pooler are not supported")];
    /// let table = FieldTable::of_config("toy", "ToyConfig of transformers 5.24", &[COMMON, OWN]);
    /// let fields = json!({ "model_type": "toy", "use_pooler": false });
    /// let refused = table.check(fields.as_object().unwrap(), &[]).unwrap_err();
    /// assert_eq!(refused.field, "use_pooler");
    /// assert!(table.check(fields.as_object().unwrap(), &["use_pooler".to_owned()]).is_ok());
    /// ```
    pub fn check(&self, fields: &Map<String, Value>, accepted: &[String]) -> Result<(), FieldError> {
        for (name, value) in fields.iter().filter(|(name, _)| !accepted.contains(name)) {
            match self.field(name).map(|field| (field.rule, field.note)) {
                Some((Rule::Only(values), note)) if !values.iter().any(|allowed| equals(value, allowed)) => {
                    let allowed = match values {
                        [] => "it has to be left out".to_owned(),
                        values => format!("accepted: {}", values.join(", ")),
                    };
                    let problem = format!("is {}, but {note}; {allowed}{ACCEPT}", shown(value));
                    return Err(FieldError::new(name, problem));
                }
                Some(_) => {}
                None if value.is_null() => {}
                None => self.check_unknown(name, fields)?,
            }
        }
        Ok(())
    }

    /// Checks those fields of another file that the table knows.
    pub(crate) fn check_known(&self, fields: &Map<String, Value>, accepted: &[String]) -> Result<(), FieldError> {
        let known = fields.iter().filter(|(name, _)| self.field(name).is_some());
        self.check(&known.map(|(name, value)| (name.clone(), value.clone())).collect(), accepted)
    }

    /// Refuses a field that the table does not know in a file of a later version.
    fn check_unknown(&self, name: &str, fields: &Map<String, Value>) -> Result<(), FieldError> {
        let Some((key, known)) = self.version else { return Ok(()) };
        let written = fields.get(key).and_then(Value::as_str).unwrap_or_default();
        let numbers: Vec<u64> = written.split('.').map_while(|part| part.parse().ok()).collect();
        if numbers.len() < 2 || [numbers[0], numbers[1]] <= known {
            return Ok(());
        }
        let problem = format!(
            "is not a field that is known of {}, but `{key}` is {written}, which may give it a meaning{ACCEPT}",
            self.class
        );
        Err(FieldError::new(name, problem))
    }

    /// The table as Markdown, for the documentation.
    pub fn markdown(&self) -> String {
        let mut text = format!("| field of `{}` | treatment | why |\n|---|---|---|\n", self.file);
        let mut fields: Vec<&Field> = self.groups.iter().flat_map(|group| group.iter()).collect();
        fields.sort_by_key(|field| field.name);
        for Field { name, rule, note } in fields {
            let rule = match rule {
                Rule::Honoured => "honoured".to_owned(),
                Rule::Harmless => "changes nothing here".to_owned(),
                Rule::Only([]) => "refused".to_owned(),
                Rule::Only(values) => {
                    format!("only {}", values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", "))
                }
            };
            text.push_str(&format!("| `{name}` | {rule} | {note} |\n"));
        }
        text
    }
}

/// The end of a refusal that the user may overrule.
pub(crate) const ACCEPT: &str =
    " (`model.accept_fields` in a pipeline and `--accept-field` of `s3t predict` pass over a named field knowingly)";

/// The tables of the files that stand beside a `config.json`.
pub(crate) const BESIDE: [FieldTable; 4] = [TOKENIZER, TOKENIZER_CONFIG, SPECIAL_TOKENS, GENERATION];

/// The names that have two rules in a table, and values of [`Rule::Only`] that are not JSON: mistakes of the table.
pub fn mistakes(table: &FieldTable) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for field in table.groups.iter().flat_map(|group| group.iter()) {
        if seen.contains(&field.name) {
            mistakes.push(format!("`{}` has two rules", field.name));
        }
        seen.push(field.name);
        let Rule::Only(values) = field.rule else { continue };
        let not_json = values.iter().filter(|value| serde_json::from_str::<Value>(value).is_err());
        mistakes.extend(not_json.map(|value| format!("`{}` has the value {value}, which is not JSON", field.name)));
    }
    mistakes
}

/// True if a value equals a JSON text. Numbers are compared by value: 1 is 1.0.
fn equals(value: &Value, allowed: &str) -> bool {
    let allowed: Value = serde_json::from_str(allowed).unwrap_or_else(|_| Value::from(allowed));
    match (value.as_f64(), allowed.as_f64()) {
        (Some(one), Some(other)) => one == other,
        _ => *value == allowed,
    }
}

/// A value as messages show it.
pub fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TABLE: FieldTable = FieldTable::of_config("toy", "ToyConfig of toys", &[COMMON, SIZES, TRAINING, BERT_LIKE]);

    fn check(fields: &Value, accepted: &[&str]) -> Result<(), String> {
        let accepted: Vec<String> = accepted.iter().map(|name| (*name).to_owned()).collect();
        TABLE.check(fields.as_object().unwrap(), &accepted).map_err(|error| error.to_string())
    }

    #[test]
    fn a_field_is_honoured_harmless_or_refused_by_name_unless_it_is_accepted() {
        assert_eq!(check(&json!({"hidden_size": 7, "use_cache": false, "is_decoder": false}), &[]), Ok(()));
        let message = check(&json!({"is_decoder": true}), &[]).unwrap_err();
        assert!(message.starts_with("`is_decoder` is true, but ") && message.contains("accepted: false"), "{message}");
        assert_eq!(check(&json!({"is_decoder": true}), &["is_decoder"]), Ok(()));
    }

    #[test]
    fn an_unknown_field_is_refused_in_a_file_of_a_later_version_only() {
        let with = |version: &str| json!({"transformers_version": version, "new_attention": true});
        assert_eq!(check(&with("5.24.0"), &[]), Ok(()));
        assert_eq!(check(&with("4.57.1"), &[]), Ok(()));
        assert_eq!(check(&json!({"new_attention": true}), &[]), Ok(()));
        for later in ["5.25.0", "6.0.0.dev0"] {
            let message = check(&with(later), &[]).unwrap_err();
            assert!(message.contains("`new_attention`") && message.contains(later), "{message}");
            assert_eq!(check(&with(later), &["new_attention"]), Ok(()));
        }
        assert_eq!(check(&json!({"transformers_version": "6.0.0", "new_attention": null}), &[]), Ok(()));
    }

    #[test]
    fn tables_of_this_crate_have_no_mistake_and_a_mistake_is_found() {
        const TWICE: FieldTable =
            FieldTable::of_config("toy", "ToyConfig", &[&[size("a")], &[Field::only("a", &["x"], "a reason")]]);
        for table in BESIDE.iter().chain([&TABLE]) {
            assert_eq!(mistakes(table), [""; 0], "{} {}", table.file, table.family);
        }
        assert_eq!(mistakes(&TWICE), ["`a` has two rules", "`a` has the value x, which is not JSON"]);
    }
}
