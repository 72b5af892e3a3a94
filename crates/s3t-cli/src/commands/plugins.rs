//! `s3t plugins`.

use s3t::api::Plugin;

use crate::exit::{Outcome, code_of};
use crate::output::{Output, say};

#[expect(clippy::unnecessary_wraps, reason = "every command has an outcome")]
pub(crate) fn list(output: &mut Output) -> Outcome {
    let answer = s3t::api::plugins();
    output.answer(&answer, || {
        // The answer is sorted by kind.
        for kind in answer.plugins.chunk_by(|one, other| one.kind == other.kind) {
            show_kind(kind);
        }
    });
    Ok(code_of(&answer))
}

fn show_kind(plugins: &[Plugin]) {
    let kind = plugins[0].kind.replace('-', " ");
    let title = match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if kind.ends_with('s') => kind,
        None => format!("{kind}s"),
    };
    say!("\n{}", console::style(title.to_uppercase()).bold());
    for plugin in plugins {
        say!("\n  {}  {}", console::style(&plugin.name).bold(), plugin.documentation);
        for field in &plugin.fields {
            say!("      {} = {}   {}", field.name, field.default, field.documentation);
        }
    }
}
