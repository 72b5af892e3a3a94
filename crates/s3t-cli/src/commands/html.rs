//! Pages without anything from elsewhere.

use std::path::Path;

use crate::exit::{self, Failure};

/// Refuses a report's file that is there already, or that cannot be made, before any work.
pub(crate) fn check_new(file: Option<&Path>) -> Result<(), Failure> {
    let Some(file) = file else { return Ok(()) };
    let refused = |problem: String| Err(Failure::new(exit::REFUSED, problem));
    if file.exists() {
        return refused(format!("`{}` exists already; a report is a new file", file.display()));
    }
    match file.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        Some(folder) => refused(format!(
            "`{}` cannot be written: there is no folder `{}`; make it first",
            file.display(),
            folder.display()
        )),
        None => Ok(()),
    }
}

/// Writes a page.
pub(crate) fn write(file: &Path, page: &str) -> Result<(), Failure> {
    std::fs::write(file, page)
        .map_err(|error| Failure::new(exit::FAILED, format!("cannot write `{}`: {error}", file.display())))
}

/// A page.
pub(crate) fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<style>\n{STYLE}</style></head><body>\n\
         {body}</body></html>\n",
        title = escape(title),
    )
}

const STYLE: &str = "\
body { font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; width: 100% }
td, th { border: 1px solid #bbb; padding: .4em .6em; text-align: left; vertical-align: top; overflow-wrap: anywhere }
.wide { overflow-x: auto } .wide td, .wide th { overflow-wrap: normal }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
.holds td:first-child { background: #dff0d8 } .fails td:first-child { background: #f2c4c4 }
.unchecked td:first-child { background: #eee }
.first { border-left: .4em solid #0072b2; background: #eef5fa; padding: .8em 1em; font-weight: bold }
.warns { border-color: #a00000; background: #fbeaea }
figure { margin: 1em 0 } figure svg { max-width: 100%; height: auto }
";

/// A list of sentences.
pub(crate) fn list(sentences: &[String]) -> String {
    let items: String = sentences.iter().map(|sentence| format!("<li>{}</li>\n", escape(sentence))).collect();
    format!("<ul>\n{items}</ul>\n")
}

/// Text as it stands in a page.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
