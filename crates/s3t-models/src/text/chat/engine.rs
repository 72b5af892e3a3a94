//! The Jinja engine, set up as in `transformers`, within limits.

use std::sync::LazyLock;

use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;
use regex::Regex;
use s3t_core::limits::{caught, shown};

use super::{NAME, json};

/// The version of the library that renders: another one may write other texts.
pub(super) const LIBRARY: &str = "minijinja 3.1.0";

/// The longest template, in bytes.
const MAX_SOURCE: usize = 256 << 10;

/// The longest tag of a template, in bytes: an expression of so many bytes may be as many levels deep.
const MAX_TAG: usize = 16 << 10;

/// The stack for the deepest expressions and values: 1 KB for each of the deepest level that the work of a rendering pays for. The
/// system gives memory only for what is used of it.
const STACK: usize = 256 << 20;

/// The deepest calls of macros and recursive loops.
const MAX_CALLS: usize = 100;

/// Tags that mark the assistant's text for Python's masks; here they are scopes without effect.
static GENERATION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").expect("a well-formed expression"));

/// The source that the engine runs: checked, without `generation` tags.
pub(super) fn prepared(source: &str) -> Result<String, String> {
    if source.len() > MAX_SOURCE {
        return Err(format!("it has {} bytes; at most {MAX_SOURCE} are read", source.len()));
    }
    let mut rest = source;
    while let Some(start) = rest.find("{{").into_iter().chain(rest.find("{%")).min() {
        let tag = &rest[start..];
        let end = tag.find("}}").into_iter().chain(tag.find("%}")).min().unwrap_or(tag.len());
        if end > MAX_TAG {
            return Err(format!("it has a tag of {end} bytes; at most {MAX_TAG} are read"));
        }
        rest = &tag[2..];
    }
    let scope = |tag: &regex::Captures<'_>| {
        let keyword = if tag.get(2).is_some() { "endwith" } else { "with" };
        format!("{{%{} {keyword} {}%}}", &tag[1], &tag[3])
    };
    Ok(GENERATION.replace_all(source, scope).into_owned())
}

/// An environment with the template.
pub(super) fn compiled(source: String) -> Result<Environment<'static>, String> {
    let mut environment = Environment::new();
    let syntax = environment.syntax().to_builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(|error| problem(&error))?);
    environment.set_recursion_limit(MAX_CALLS);
    environment.set_unknown_method_callback(method);
    environment.add_function("raise_exception", raise_exception);
    environment.add_filter("tojson", to_json);
    // Its indentation takes the square of a value's depth, uncounted.
    environment.remove_filter("pprint");
    environment.add_template_owned(NAME, source).map_err(|error| problem(&error))?;
    Ok(environment)
}

fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, format!("it refuses these messages: {}", shown(message))))
}

/// The methods of Python's values. `format` makes texts of any width, uncounted.
fn method(state: &mut State<'_, '_>, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    if name == "format" {
        let problem = "the method `format` of texts is not supported in chat templates; use `~` or the filter `format`";
        return Err(Error::new(ErrorKind::UnknownMethod, problem));
    }
    match value.as_str() {
        Some(text) if name == "title" && arguments.is_empty() => Ok(title(text).into()),
        _ => unknown_method_callback(state, value, name, arguments),
    }
}

/// `str.title` of Python: a letter is large where no other letter stands before it.
fn title(text: &str) -> String {
    let mut made = String::with_capacity(text.len());
    let mut in_word = false;
    for letter in text.chars() {
        if in_word {
            made.extend(letter.to_lowercase());
        } else {
            made.extend(letter.to_uppercase());
        }
        in_word = letter.is_lowercase() || letter.is_uppercase();
    }
    made
}

/// `json.dumps` as `transformers` gives it to templates.
#[expect(clippy::needless_pass_by_value, reason = "as the engine calls it")]
fn to_json(state: &State<'_, '_>, value: &Value, ascii: Option<bool>, options: Kwargs) -> Result<String, Error> {
    let style = json::Style {
        ascii: options.get::<Option<bool>>("ensure_ascii")?.or(ascii).unwrap_or(false),
        indent: options.get("indent")?,
        separators: options.get::<Option<Vec<String>>>("separators")?,
        sorted: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    style.written(value, &mut |bytes| state.consume_fuel(bytes as u64 / 16))
}

/// The sentence for an error of the engine.
pub(super) fn problem(error: &Error) -> String {
    let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    let detail = error.detail().unwrap_or_default();
    match error.kind() {
        ErrorKind::OutOfFuel => {
            format!("{line}it takes more work than a chat may; shorten the messages or simplify it")
        }
        ErrorKind::UnknownFunction if detail.contains("strftime_now") => format!(
            "{line}it asks for today's date (`strftime_now`), so that a text would depend on the day; guard it with `is defined` \
             or write a date"
        ),
        kind if detail.is_empty() => format!("{line}{kind}"),
        ErrorKind::InvalidOperation if detail.starts_with("it ") => format!("{line}{detail}"),
        kind => format!("{line}{kind}: {}", shown(detail)),
    }
}

/// Runs on a thread with a stack for the deepest expressions and values.
pub(super) fn on_own_stack<T: Send>(run: impl FnOnce() -> T + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("chat template".into()).stack_size(STACK);
        let started = thread.spawn_scoped(scope, || caught(run));
        let started = started.map_err(|error| format!("no thread can be started to render it: {error}"))?;
        let failed = |panic: String| format!("the engine that renders it failed with \"{}\"", shown(&panic));
        started.join().unwrap_or_else(|_| Err(String::new())).map_err(failed)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use s3t_core::chat::{Message, Role};

    use super::super::ChatTemplate;

    #[test]
    fn the_library_in_digests_is_the_linked_version() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock")).unwrap();
        let (name, version) = super::LIBRARY.split_once(' ').unwrap();
        for name in [name, "minijinja-contrib"] {
            assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"")), "{name} {version}");
        }
    }

    fn rendered(source: &str) -> Result<String, String> {
        let tokens = [("bos_token".to_owned(), "<s>".to_owned())];
        let template = ChatTemplate::new(Path::new("chat_template.jinja"), source.to_owned(), &tokens);
        let text = template.and_then(|template| template.render(&[Message::new(Role::User, "hi")], true));
        text.map_err(|error| error.to_string())
    }

    #[track_caller]
    fn refused(source: &str, problem: &str) {
        let message = rendered(source).unwrap_err();
        assert!(message.starts_with("`chat_template.jinja`: the chat template cannot be used: "), "{message}");
        assert!(message.contains(problem), "{message}");
    }

    #[test]
    fn a_hostile_template_is_refused_within_bounds() {
        let deep = "{% set ns = namespace(x=[]) %}{% for i in range(15000) %}{% set ns.x = [ns.x] %}{% endfor %}";
        for (source, problem) in [
            ("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}".to_owned(), "more work"),
            ("{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}".into(), "more work"),
            ("{{ 'a' * 90000000 }}".into(), "more work"),
            ("{{ '{:1000000000d}'.format(1) }}".into(), "the method `format`"),
            ("{{ messages | pprint }}".into(), "pprint"),
            (format!("{deep}{{{{ ns.x | tojson }}}}"), "levels deep"),
            ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}".into(), "recursion"),
            (format!("{{{{ {}1 }}}}", "not ".repeat(200_000)), "it has 800007 bytes"),
            (format!("{{{{ {}1 }}}}", "not ".repeat(20_000)), "a tag of 80005 bytes"),
            (format!("{{{{ {}1{} }}}}", "(".repeat(4_000), ")".repeat(4_000)), "recursion"),
            ("{% if %}".into(), "line 1: syntax error"),
            ("{{ nothing.there }}".into(), "undefined"),
            ("{{ raise_exception('no ' ~ messages[0].role) }}".into(), "line 1: it refuses these messages: no user"),
            ("{{ strftime_now('%Y') }}".into(), "today's date"),
            ("{% include 'other' %}".into(), "include"),
        ] {
            refused(&source, problem);
        }
        // Deep, but within the stack.
        assert_eq!(rendered(deep), Ok(String::new()));
        assert_eq!(rendered(&format!("{deep}{{{{ ns.x | string | length }}}}")), Ok("30002".into()));
        assert_eq!(rendered(&format!("{{{{ {}true }}}}", "not ".repeat(4_000))), Ok("True".into()));
        assert_eq!(rendered(&format!("{{{{ x{} }}}}", "|list".repeat(3_000))), Ok("[]".into()));
    }

    #[test]
    fn generation_tags_are_scopes_without_effect_and_no_date_is_given() {
        let source = "{{ bos_token }}\n{%- generation -%}\n{% set a = 1 %}x{%+ endgeneration +%}\ny{{ a }}{{ strftime_now is defined }}";
        assert_eq!(rendered(source), Ok("<s>x\nyFalse".into()));
    }
}
