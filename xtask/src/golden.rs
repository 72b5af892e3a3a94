//! The golden files: what Python `transformers`, `peft`, `bitsandbytes` and `scipy` compute, to compare ourselves with.

use std::path::Path;
use std::process::Command;

use clap::Args;

/// Makes the golden files again in a Python environment of its own, and says how they differ from the committed ones.
#[derive(Args)]
pub struct Golden {
    /// Replace the committed files.
    #[arg(long)]
    write: bool,
    /// Instead try every field of the configuration classes of `transformers` and `peft`, and write docs/reproduction/field-sweep.md.
    #[arg(long)]
    sweep: bool,
}

/// Each script with the folders that it makes.
const MADE: [(&str, &[&str]); 6] = [
    ("attack.py", &["crates/s3t-attack/tests/golden"]),
    ("eval.py", &["crates/s3t-eval/tests/golden", "crates/s3t/tests/golden-eval"]),
    ("make.py", &["crates/s3t/tests/golden"]),
    ("make_cases.py", &["crates/s3t-cli/tests/golden"]),
    ("nf4.py", &["crates/s3t-kernels/tests/golden"]),
    ("pictures.py", &["crates/s3t-data/tests/golden-pictures", "crates/s3t/tests/golden-pictures"]),
];

/// A script with its arguments, and the folders that it makes.
struct Script {
    arguments: Vec<String>,
    folders: Vec<String>,
}

/// The scripts of [`MADE`], and one for each family that has a file `golden.py` in its own folder.
fn scripts() -> std::io::Result<Vec<Script>> {
    let fixed = |(script, folders): (&str, &[&str])| Script {
        arguments: vec![format!("xtask/golden/{script}")],
        folders: folders.iter().map(|folder| (*folder).to_owned()).collect(),
    };
    let mut scripts: Vec<Script> = MADE.into_iter().map(fixed).collect();
    for place in ["plugins", "examples"] {
        let mut families: Vec<_> = std::fs::read_dir(place)?.filter_map(Result::ok).map(|entry| entry.path()).collect();
        families.sort();
        for family in families.iter().map(|folder| folder.join("golden.py")).filter(|file| file.is_file()) {
            let file = family.display().to_string();
            scripts.push(Script {
                arguments: vec!["xtask/golden/make.py".to_owned(), "--family".to_owned(), file.clone()],
                folders: vec![file.trim_end_matches(".py").to_owned()],
            });
        }
    }
    Ok(scripts)
}

const SWEEP: &str = "docs/reproduction/field-sweep.md";

impl Golden {
    pub fn run(&self) -> Result<(), Box<dyn std::error::Error>> {
        let environment = Path::new("target/golden-venv");
        let python = environment.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
        if !python.exists() {
            println!("making a Python environment in {}", environment.display());
            run("python3", &["-m", "venv", &environment.display().to_string()])?;
        }
        let python = python.display().to_string();
        run(&python, &["-m", "pip", "install", "--quiet", "-r", "xtask/golden/requirements.txt"])?;
        if self.sweep {
            run("cargo", &["build", "-p", "s3t-cli"])?;
            run(&python, &["xtask/golden/sweep.py", "--write", SWEEP])?;
            println!("wrote {SWEEP}");
            return Ok(());
        }
        let mut different = Vec::new();
        for Script { arguments, folders } in scripts()? {
            let made = |folder: &String| if self.write { folder.clone() } else { format!("target/golden/{folder}") };
            let made: Vec<String> = folders.iter().map(made).collect();
            let arguments: Vec<&str> = arguments.iter().chain(&made).map(String::as_str).collect();
            run(&python, &arguments)?;
            if self.write {
                println!("wrote {}; `git status` says what changed", folders.join(", "));
                continue;
            }
            for (committed, made) in folders.iter().zip(&made) {
                compare(Path::new(committed), Path::new(made), &mut different)?;
            }
        }
        if self.write {
            return Ok(());
        }
        if different.is_empty() {
            println!("the golden files are what Python gives");
            Ok(())
        } else {
            Err(format!("{} files differ, the first is {}", different.len(), different[0]).into())
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), Box<dyn std::error::Error>> {
    let status =
        Command::new(program).args(arguments).status().map_err(|error| format!("cannot run `{program}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{program} {}` failed: {status}", arguments.join(" ")).into()) }
}

/// The files of the committed folder that the new one lacks or has with other bytes. (The test program and digests of our own lie beside them.)
fn compare(committed: &Path, made: &Path, different: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(committed)? {
        let entry = entry?;
        let other = made.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            compare(&entry.path(), &other, different)?;
        } else if entry.path().extension().is_none_or(|ending| ending != "rs" && ending != "txt")
            && std::fs::read(entry.path())? != std::fs::read(other).unwrap_or_default()
        {
            different.push(entry.path().display().to_string());
        }
    }
    Ok(())
}
