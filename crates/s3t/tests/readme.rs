//! The Rust of the README: the function below, on a tiny model and toy records.
#![allow(clippy::print_stdout, reason = "the example of the README prints")]

use s3t::prelude::*;

// README: from here
fn forget(records: &[Record]) -> Result<(), Box<dyn std::error::Error>> {
    // `s3t init` writes a pipeline file. The store is made from its data, if there is none yet.
    let system = System::open(Pipeline::read("pipeline.toml".as_ref())?)?;
    system.train(&Quiet)?;
    let answers = system.predict(records)?;
    let deletion = system.delete(&[], &[SubjectId::new("subject-1")?])?;
    let verified = system.verify(VerifyScope::All, &Quiet)?;
    println!("{} answers, {} shards hit, sound: {}", answers.len(), deletion.cuts.len(), verified.passed());
    Ok(())
}
// README: to here

#[test]
fn the_readme_shows_this_function() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).unwrap();
    let here = include_str!("readme.rs");
    let function = here.split("// README: from here\n").nth(1).unwrap().split("// README: to here").next().unwrap();
    let block = readme.split("```rust,no_run\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(block, format!("use s3t::prelude::*;\n\n{function}"));
}

#[test]
fn the_function_trains_answers_forgets_and_verifies() {
    let folder = tempfile::tempdir().unwrap();
    // The function reads a file of the current folder, as a program does that is started there.
    std::env::set_current_dir(folder.path()).unwrap();
    s3t_testkit::write_workspace(folder.path()).unwrap();
    let records = s3t_testkit::toy_records(60, 20, 7);
    forget(&records[..5]).unwrap();
    let pipeline = Pipeline::read("pipeline.toml".as_ref()).unwrap();
    let system = System::open(pipeline).unwrap();
    assert_eq!(system.status().unwrap().epoch.0, 1);
}
