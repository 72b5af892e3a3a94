//! Rules of the repository that can be checked without building it.

mod architecture;
mod belonging;
mod circles;
mod names;
mod pages;
mod pins;
mod plugins;
mod supply;
mod words;
mod workspace;

use workspace::Workspace;

/// Runs every check, and prints each problem.
pub fn run() -> Result<(), Box<dyn std::error::Error>> {
    let workspace = Workspace::read()?;
    let mut problems = Vec::new();
    architecture::check(&workspace, &mut problems)?;
    names::check(&workspace, &mut problems)?;
    supply::check(&workspace, &mut problems)?;
    pins::check(&workspace.metadata, &mut problems);
    belonging::check(&workspace, &mut problems);
    circles::check(&workspace, &mut problems);
    plugins::check(&workspace, &mut problems);
    words::check(&workspace, &mut problems)?;
    pages::check(&workspace, &mut problems)?;
    for problem in &problems {
        println!("tidy: {problem}");
    }
    if problems.is_empty() {
        println!("tidy: {} crates and {} packages hold", workspace.crates.len(), workspace.metadata.packages.len());
        return Ok(());
    }
    Err(format!("tidy found {} problems", problems.len()).into())
}
