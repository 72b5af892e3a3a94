//! The one line that a plugin adds to each of three files.

/// A line in `[workspace.dependencies]`, among those of the other plugins.
pub fn workspace(text: &str, name: &str) -> Result<String, String> {
    let line = format!("s3t-{name} = {{ path = \"plugins/s3t-{name}\", version = \"0.1.0\" }}");
    insert(text, "Cargo.toml", |line| line.starts_with("s3t-") && line.contains("path = \"plugins/"), &line)
}

/// A line in the facade's `[dependencies]`.
pub fn facade(text: &str, name: &str) -> Result<String, String> {
    let (before, rest) = text.split_once("[dependencies]").ok_or("crates/s3t/Cargo.toml has no [dependencies]")?;
    let (dependencies, after) = rest.split_once("\n[").ok_or("crates/s3t/Cargo.toml ends with its dependencies")?;
    let line = format!("s3t-{name}.workspace = true");
    let dependencies = insert(dependencies, "crates/s3t/Cargo.toml", |line| line.starts_with("s3t-"), &line)?;
    Ok(format!("{before}[dependencies]{dependencies}\n[{after}"))
}

/// A line in the facade's module of plugins, which makes the linker keep the crate.
pub fn links(text: &str, name: &str) -> Result<String, String> {
    let module = name.replace('-', "_");
    let (before, rest) =
        text.split_once("pub mod plugins {").ok_or("crates/s3t/src/lib.rs has no `pub mod plugins`")?;
    let (links, after) = rest.split_once("\n}").ok_or("crates/s3t/src/lib.rs: `pub mod plugins` does not end")?;
    let line = format!("    pub use s3t_{module} as {module};");
    let links = insert(links, "crates/s3t/src/lib.rs", |line| line.starts_with("    pub use s3t_"), &line)?;
    Ok(format!("{before}pub mod plugins {{{links}\n}}{after}"))
}

/// Puts a line among those of its kind: before the first that is greater, or after the last.
fn insert(text: &str, file: &str, of_kind: impl Fn(&str) -> bool, new: &str) -> Result<String, String> {
    let mut lines: Vec<&str> = text.split('\n').collect();
    let kind: Vec<usize> = (0..lines.len()).filter(|index| of_kind(lines[*index])).collect();
    let last =
        kind.last().ok_or_else(|| format!("{file} has no line for a plugin, beside which the new one would stand"))?;
    let greater = kind.iter().find(|index| lines[**index] > new);
    lines.insert(greater.copied().unwrap_or(last + 1), new);
    Ok(lines.join("\n"))
}
