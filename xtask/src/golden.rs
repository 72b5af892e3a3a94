//! The golden files: what Python `transformers` and `peft` compute, to compare ourselves with.

use std::path::Path;
use std::process::Command;

use clap::Args;

/// Makes the golden files again in a Python environment of its own, and says how they differ from the committed ones.
#[derive(Args)]
pub struct Golden {
    /// Replace the committed files.
    #[arg(long)]
    write: bool,
}

const FOLDER: &str = "crates/s3t/tests/golden";

/// The folders of `pictures.py`: picture files with their pixels, models with their answers.
const PICTURES: [&str; 2] = ["crates/s3t-data/tests/golden-pictures", "crates/s3t/tests/golden-pictures"];

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
        let made = if self.write { FOLDER.to_owned() } else { "target/golden".to_owned() };
        run(&python, &["xtask/golden/make.py", &made])?;
        let made_pictures = ["target/golden-pictures", "target/golden-picture-models"];
        let pictures = if self.write { PICTURES } else { made_pictures };
        run(&python, &["xtask/golden/pictures.py", pictures[0], pictures[1]])?;
        if self.write {
            println!("wrote {FOLDER} and {}; `git status` says what changed", PICTURES.join(", "));
            return Ok(());
        }
        let mut different = Vec::new();
        compare(Path::new(FOLDER), Path::new(&made), &mut different)?;
        for (committed, made) in PICTURES.iter().zip(pictures) {
            compare(Path::new(committed), Path::new(made), &mut different)?;
        }
        if different.is_empty() {
            println!("the golden files are what transformers and peft give");
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

/// The files of the committed folder that the new one lacks or has with other bytes. (The test program lies beside them.)
fn compare(committed: &Path, made: &Path, different: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(committed)? {
        let entry = entry?;
        let other = made.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            compare(&entry.path(), &other, different)?;
        } else if entry.path().extension().is_none_or(|ending| ending != "rs")
            && std::fs::read(entry.path())? != std::fs::read(other).unwrap_or_default()
        {
            different.push(entry.path().display().to_string());
        }
    }
    Ok(())
}
