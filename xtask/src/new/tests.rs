//! Each kind is made in a copy of the files that are changed. `examples/skeletons` compiles the templates and runs the laws that
//! they break.

use std::path::PathBuf;

use super::*;

fn copy() -> (tempfile::TempDir, PathBuf) {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = tempfile::tempdir().unwrap();
    for file in ["Cargo.toml", "crates/s3t/Cargo.toml", "crates/s3t/src/lib.rs"] {
        let to = folder.path().join(file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(root.join(file), to).unwrap();
    }
    let path = folder.path().to_owned();
    (folder, path)
}

#[test]
fn every_kind_makes_a_crate_and_three_lines() {
    let (_folder, root) = copy();
    let read = |file: &str| fs::read_to_string(root.join(file)).unwrap();
    for kind in Kind::value_variants() {
        let name = format!("a-new-{}", format!("{kind:?}").to_lowercase());
        let before = ["Cargo.toml", "crates/s3t/Cargo.toml", "crates/s3t/src/lib.rs"].map(|file| (file, read(file)));
        make(&root, *kind, &name).unwrap();
        for (file, before) in before {
            let after = read(file);
            let added: Vec<&str> = after.lines().filter(|line| !before.lines().any(|known| known == *line)).collect();
            assert_eq!((added.len(), after.lines().count()), (1, before.lines().count() + 1), "{file}: {added:?}");
            let module = name.replace('-', "_");
            assert!(added[0].contains(&name) || added[0].contains(&module), "{file}: {added:?}");
        }
        let folder = format!("plugins/s3t-{name}");
        let manifest: toml_edit::DocumentMut = read(&format!("{folder}/Cargo.toml")).parse().unwrap();
        assert_eq!(manifest["package"]["name"].as_str(), Some(format!("s3t-{name}").as_str()));
        for file in ["src/lib.rs", "tests/laws.rs"] {
            let text = read(&format!("{folder}/{file}"));
            syn::parse_file(&text).unwrap();
            assert!(
                text.contains(&name) && !text.to_lowercase().replace(['_', '-'], "").contains("newplugin"),
                "{text}"
            );
        }
        // The whole is TOML still.
        read("Cargo.toml").parse::<toml_edit::DocumentMut>().unwrap();
        read("crates/s3t/Cargo.toml").parse::<toml_edit::DocumentMut>().unwrap();
        syn::parse_file(&read("crates/s3t/src/lib.rs")).unwrap();
    }
}

#[test]
fn a_name_that_is_taken_or_malformed_is_refused_and_nothing_is_written() {
    let (_folder, root) = copy();
    make(&root, Kind::Strategy, "taken").unwrap();
    let before = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    for (name, told) in [
        ("taken", "there is a crate s3t-taken already"),
        ("s3t-more", "leave it out"),
        ("Upper", "small letters"),
        ("a--b", "small letters"),
        ("", "small letters"),
        ("../x", "small letters"),
        ("9lives", "small letters"),
    ] {
        let error = make(&root, Kind::Method, name).unwrap_err().to_string();
        assert!(error.contains(told), "{name}: {error}");
    }
    assert_eq!(fs::read_to_string(root.join("Cargo.toml")).unwrap(), before);
}
