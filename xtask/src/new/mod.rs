//! The folder of a new plugin, and the lines that link it.

mod edit;

use std::fs;
use std::path::Path;

use cargo_metadata::MetadataCommand;
use clap::{Args, ValueEnum};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Makes the folder of a plugin: a skeleton that compiles, and a law that fails until its first step is done.
#[derive(Args)]
pub struct New {
    /// The kind of the plugin.
    #[arg(value_enum)]
    kind: Kind,
    /// Its name in a pipeline file, such as `bit-fit`: small letters, digits and hyphens. The crate is s3t-NAME.
    name: String,
}

/// A kind of plugin that can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A family of models.
    Family,
    /// A PEFT method.
    Method,
    /// A sequence strategy.
    Strategy,
    /// A choice of members.
    Members,
    /// An aggregator.
    Aggregator,
    /// A partitioner.
    Partitioner,
    /// An executor.
    Executor,
}

/// The files that a kind starts from, and what they need.
struct Skeleton {
    /// `src/lib.rs`.
    library: &'static str,
    /// `tests/laws.rs`.
    laws: &'static str,
    /// The crate that has the trait.
    of: &'static str,
    /// The kind in words.
    words: &'static str,
    /// Dependencies beside it.
    dependencies: &'static [&'static str],
}

/// Dependencies of a plugin whose fields are read from a pipeline file.
const TYPETAG: [&str; 3] = ["schemars", "serde", "typetag"];

impl Kind {
    fn skeleton(self) -> Skeleton {
        macro_rules! skeleton {
            ($file:literal, $of:literal, $words:literal, $dependencies:expr) => {
                Skeleton {
                    library: include_str!(concat!("templates/", $file, ".rs")),
                    laws: include_str!(concat!("templates/", $file, "_laws.rs")),
                    of: $of,
                    words: $words,
                    dependencies: &$dependencies,
                }
            };
        }
        match self {
            Self::Family => skeleton!("family", "s3t-models", "model family", ["serde"]),
            Self::Method => skeleton!("method", "s3t-peft", "PEFT method", TYPETAG),
            Self::Strategy => skeleton!("strategy", "s3t-core", "sequence strategy", TYPETAG),
            Self::Members => skeleton!("members", "s3t-core", "choice of members", TYPETAG),
            Self::Aggregator => skeleton!("aggregator", "s3t-core", "aggregator", TYPETAG),
            Self::Partitioner => skeleton!("partitioner", "s3t-core", "partitioner", TYPETAG),
            Self::Executor => skeleton!("executor", "s3t-executor", "executor", TYPETAG),
        }
    }
}

impl New {
    pub fn run(&self) -> Outcome {
        let root = MetadataCommand::new().no_deps().exec()?.workspace_root;
        make(root.as_std_path(), self.kind, &self.name)?;
        println!("made plugins/s3t-{}; the facade links it", self.name);
        println!("next: `cargo test -p s3t-{}`; its law fails, and src/lib.rs says what the first step is", self.name);
        Ok(())
    }
}

/// Makes the folder and adds the lines. Nothing is written if the name is refused or the folder is there.
fn make(root: &Path, kind: Kind, name: &str) -> Outcome {
    check_name(name)?;
    let folder = root.join("plugins").join(format!("s3t-{name}"));
    if folder.exists() || root.join("crates").join(format!("s3t-{name}")).exists() {
        return Err(format!("there is a crate s3t-{name} already; choose another name").into());
    }
    let skeleton = kind.skeleton();
    let [workspace, facade, links] =
        ["Cargo.toml", "crates/s3t/Cargo.toml", "crates/s3t/src/lib.rs"].map(|file| root.join(file));
    let edited = [
        (&workspace, edit::workspace(&fs::read_to_string(&workspace)?, name)?),
        (&facade, edit::facade(&fs::read_to_string(&facade)?, name)?),
        (&links, edit::links(&fs::read_to_string(&links)?, name)?),
    ];
    fs::create_dir_all(folder.join("src"))?;
    fs::create_dir_all(folder.join("tests"))?;
    fs::write(folder.join("Cargo.toml"), manifest(&skeleton, name))?;
    fs::write(folder.join("src/lib.rs"), named(skeleton.library, name))?;
    fs::write(folder.join("tests/laws.rs"), named(skeleton.laws, name))?;
    for (file, text) in edited {
        fs::write(file, text)?;
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), String> {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase())
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    if name.starts_with("s3t-") {
        return Err(format!("`{name}`: the crate's name gets its s3t- by itself; leave it out"));
    }
    if !name.split('-').all(part) {
        return Err(format!(
            "`{name}` is no name of a plugin; use words of small letters and digits with hyphens between them"
        ));
    }
    Ok(())
}

/// The template with the plugin's own names.
fn named(template: &str, name: &str) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    let type_name: String = name.split('-').map(capital).collect();
    template.replace("NewPlugin", &type_name).replace("new-plugin", name).replace("new_plugin", &name.replace('-', "_"))
}

fn manifest(skeleton: &Skeleton, name: &str) -> String {
    let mut dependencies: Vec<&str> = [skeleton.of].into_iter().chain(skeleton.dependencies.iter().copied()).collect();
    dependencies.sort_unstable();
    let lines: String = dependencies.iter().map(|dependency| format!("{dependency}.workspace = true\n")).collect();
    format!(
        "[package]\nname = \"s3t-{name}\"\ndescription = \"The {} `{name}` for S3T\"\nversion.workspace = true\nedition.workspace = \
         true\nrust-version.workspace = true\nlicense.workspace = true\nreadme.workspace = true\nkeywords.workspace = \
         true\ncategories.workspace = true\n\n[dependencies]\n{lines}\n[dev-dependencies]\ns3t-testkit.workspace = \
         true\nserde_json.workspace = true\n\n[lints]\nworkspace = true\n",
        skeleton.words
    )
}

#[cfg(test)]
mod tests;
