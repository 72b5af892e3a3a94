//! JSON as Python's `json.dumps` writes it.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// The deepest value that is written.
const MAX_DEPTH: usize = 64;

/// The options of `json.dumps`.
pub(super) struct Style {
    /// True if characters beyond ASCII are escaped.
    pub(super) ascii: bool,
    /// Spaces of a level, each item on a line of its own; `None` writes one line.
    pub(super) indent: Option<usize>,
    /// The texts between items, and between a key and its value.
    pub(super) separators: Option<Vec<String>>,
    /// True if keys are sorted.
    pub(super) sorted: bool,
}

fn refuse(problem: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem)
}

impl Style {
    /// The text of a value; `charge` is told the bytes that were written since it was told last.
    pub(super) fn written(
        &self,
        value: &Value,
        charge: &mut dyn FnMut(usize) -> Result<(), Error>,
    ) -> Result<String, Error> {
        let between = if self.indent.is_some() { "," } else { ", " };
        let (items, keys) = match self.separators.as_deref() {
            None => (between, ": "),
            Some([items, keys]) => (items.as_str(), keys.as_str()),
            Some(_) => return Err(refuse("`separators` of `tojson` has to be two texts")),
        };
        let mut writer = Writer { style: self, items, keys, text: String::new(), charged: 0, charge };
        writer.value(value, 0)?;
        Ok(writer.text)
    }
}

struct Writer<'a> {
    style: &'a Style,
    items: &'a str,
    keys: &'a str,
    text: String,
    charged: usize,
    charge: &'a mut dyn FnMut(usize) -> Result<(), Error>,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(refuse(format!("it writes a value as JSON that is more than {MAX_DEPTH} levels deep")));
        }
        match value.kind() {
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool => self.text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.text.push_str(&value.to_string()),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.map(|item| (None, item)).collect();
                self.container(['[', ']'], items, depth)?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.style.sorted {
                    keys.sort();
                }
                let item = |key: Value| Ok((Some(key.to_string()), value.get_item(&key)?));
                let items = keys.into_iter().map(item).collect::<Result<_, Error>>()?;
                self.container(['{', '}'], items, depth)?;
            }
            kind => return Err(refuse(format!("it writes a value as JSON that is {kind}"))),
        }
        self.pay()
    }

    /// The items of a list, or with their keys those of an object.
    fn container(
        &mut self,
        [open, close]: [char; 2],
        items: Vec<(Option<String>, Value)>,
        depth: usize,
    ) -> Result<(), Error> {
        self.text.push(open);
        let is_empty = items.is_empty();
        for (index, (key, item)) in items.into_iter().enumerate() {
            if index > 0 {
                self.text.push_str(self.items);
            }
            self.line(depth + 1)?;
            if let Some(key) = key {
                self.string(&key);
                self.text.push_str(self.keys);
            }
            self.value(&item, depth + 1)?;
        }
        if !is_empty {
            self.line(depth)?;
        }
        self.text.push(close);
        Ok(())
    }

    /// The start of a line at this depth, where each item has its own.
    fn line(&mut self, depth: usize) -> Result<(), Error> {
        let Some(indent) = self.style.indent else { return Ok(()) };
        if indent > 100 {
            return Err(refuse("it indents JSON by more than 100 spaces"));
        }
        self.text.push('\n');
        self.text.extend(std::iter::repeat_n(' ', indent * depth));
        self.pay()
    }

    fn pay(&mut self) -> Result<(), Error> {
        let bytes = self.text.len() - self.charged;
        self.charged = self.text.len();
        (self.charge)(bytes)
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        for character in text.chars() {
            match character {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                ' '..='~' => self.text.push(character),
                other if other < ' ' || self.style.ascii => {
                    let mut units = [0; 2];
                    for unit in other.encode_utf16(&mut units) {
                        self.text.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                other => self.text.push(other),
            }
        }
        self.text.push('"');
    }
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use super::*;

    #[track_caller]
    fn check(style: &Style, expected: &str) {
        let value =
            context! { b => "é\u{1f600}\n\"\\\u{1}<'&", a => vec![Value::from(1), Value::from(()), Value::from(true)] };
        assert_eq!(style.written(&value, &mut |_| Ok(())).unwrap(), expected);
    }

    /// The texts of `json.dumps({"b": "é😀\n\"\\\x01<'&", "a": [1, None, True]}, ...)`.
    #[test]
    fn values_are_written_as_python_writes_them() {
        let plain = || Style { ascii: false, indent: None, separators: None, sorted: false };
        check(&plain(), "{\"b\": \"é😀\\n\\\"\\\\\\u0001<'&\", \"a\": [1, null, true]}");
        check(
            &Style { ascii: true, sorted: true, ..plain() },
            "{\"a\": [1, null, true], \"b\": \"\\u00e9\\ud83d\\ude00\\n\\\"\\\\\\u0001<'&\"}",
        );
        check(
            &Style { indent: Some(1), sorted: true, ..plain() },
            "{\n \"a\": [\n  1,\n  null,\n  true\n ],\n \"b\": \"é😀\\n\\\"\\\\\\u0001<'&\"\n}",
        );
        check(
            &Style { separators: Some(vec![",".into(), ":".into()]), sorted: true, ..plain() },
            "{\"a\":[1,null,true],\"b\":\"é😀\\n\\\"\\\\\\u0001<'&\"}",
        );
    }
}
