//! Prompt templates.

use s3t_core::Limits;

use super::row::Row;

/// A prompt template, cut into its parts: text with `{column}` in it, and `{{` or `}}` for a brace.
pub struct Template(Vec<TemplatePart>);

enum TemplatePart {
    Text(String),
    Column(String),
}

impl Template {
    /// Reads a template: text with `{column}` in it, and `{{` or `}}` for a brace.
    ///
    /// # Errors
    ///
    /// The problem, in words that go on after the template's name: a brace without its partner, or no column.
    pub fn parse(template: &str) -> Result<Self, String> {
        let (mut parts, mut text) = (Vec::new(), String::new());
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if rest.starts_with(brace) {
                text.push_str(brace);
                rest = &rest[1..];
                continue;
            }
            let end = if brace == "{" { rest.find('}') } else { None };
            let Some(end) = end else {
                return Err(format!("has a `{brace}` without its partner; write `{brace}{brace}` for a brace"));
            };
            parts.push(TemplatePart::Text(std::mem::take(&mut text)));
            parts.push(TemplatePart::Column(rest[..end].to_owned()));
            rest = &rest[end + 1..];
        }
        text.push_str(rest);
        parts.push(TemplatePart::Text(text));
        if parts.iter().any(|part| matches!(part, TemplatePart::Column(_))) {
            Ok(Self(parts))
        } else {
            Err("names no column; write `{column}` where a column's text goes".into())
        }
    }

    /// The text that it makes of a row: `{column}` stands for the column's text, `{{` and `}}` for braces.
    ///
    /// # Errors
    ///
    /// A missing column, one that is not a text, or a text beyond the limit, in words.
    pub fn filled(&self, row: &Row, limits: &Limits) -> Result<String, String> {
        let mut filled = String::new();
        for part in &self.0 {
            let text = match part {
                TemplatePart::Text(text) => text,
                TemplatePart::Column(column) => row.text(column)?,
            };
            limits.check_text(filled.len() + text.len())?;
            filled.push_str(text);
        }
        Ok(filled)
    }
}
