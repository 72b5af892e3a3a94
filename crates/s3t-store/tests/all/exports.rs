//! The law of exports: a deletion removes the files that the store wrote for stages that it cut, wherever in their folders they are by
//! now, and no other file, whatever is in the folders; what it cannot see it names.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, io};

use crate::common::{RECORDS, create, record, train};
use proptest::prelude::*;
use s3t_core::StageKey;
use s3t_store::{DeletionRequest, Disk, Folder, Place, Store, SystemDisk};

/// Something that somebody does to an exported adapter's folder.
#[derive(Debug, Clone, Copy)]
enum Prank {
    /// The tensors get another name.
    Rename,
    /// A file of somebody's is put beside them.
    Note,
    /// The tensors are changed by somebody, who has an adapter of their own there then.
    Own,
    /// The whole folder is replaced by that of somebody else, whose configuration is the same.
    Other,
    /// A link to somebody's file.
    #[cfg(unix)]
    Link,
    /// The folder is away while the deletion is made.
    Away,
}

fn prank() -> impl Strategy<Value = Prank> {
    prop_oneof![
        Just(Prank::Rename),
        Just(Prank::Note),
        Just(Prank::Own),
        Just(Prank::Other),
        #[cfg(unix)]
        Just(Prank::Link),
        Just(Prank::Away),
    ]
}

const CONFIG: &str = "{ \"r\": 4 }";

/// An adapter's folder as a test knows it.
struct Known {
    folder: PathBuf,
    stages: Vec<StageKey>,
    /// The bytes of the tensors that the store wrote.
    tensors: String,
    is_away: bool,
}

/// A store with all of its stages, in a folder of its own.
fn trained() -> (tempfile::TempDir, Place, Store) {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path().join("store"));
    let store = create(&place).unwrap();
    train(&store, usize::MAX).unwrap();
    (folder, place, store)
}

fn export(store: &Store, folder: &Path, name: &str) -> Vec<Known> {
    let stages: Vec<StageKey> = store.snapshot().unwrap().stages().iter().copied().collect();
    let adapters: Vec<(String, Vec<StageKey>)> =
        stages.chunks(4).enumerate().map(|(shard, stages)| (format!("shard-{shard}"), stages.to_vec())).collect();
    let export = store.begin_export(&folder.join(name), &adapters).unwrap();
    let mut known = Vec::new();
    for (adapter, stages) in &adapters {
        let inside = export.path().join(adapter);
        let tensors = format!("tensors of {stages:?}");
        fs::write(inside.join("adapter_config.json"), CONFIG).unwrap();
        fs::write(inside.join("adapter_model.safetensors"), &tensors).unwrap();
        let folder = folder.join(name).join(adapter);
        known.push(Known { folder, stages: stages.clone(), tensors, is_away: false });
    }
    assert!(export.finish().unwrap());
    known
}

fn play(known: &mut Known, prank: Prank, away: &Path) {
    let tensors = known.folder.join("adapter_model.safetensors");
    match prank {
        _ if known.is_away => {}
        Prank::Rename if tensors.exists() => fs::rename(&tensors, known.folder.join("renamed")).unwrap(),
        Prank::Rename => {}
        Prank::Note => fs::write(known.folder.join("notes.txt"), "mine").unwrap(),
        Prank::Own => fs::write(&tensors, "my own tensors").unwrap(),
        Prank::Other => {
            fs::remove_dir_all(&known.folder).unwrap();
            fs::create_dir(&known.folder).unwrap();
            fs::write(known.folder.join("adapter_config.json"), CONFIG).unwrap();
            fs::write(&tensors, "another store's live tensors").unwrap();
        }
        #[cfg(unix)]
        Prank::Link => {
            let victim = away.with_file_name("victim");
            fs::write(&victim, &known.tensors).unwrap();
            drop(std::os::unix::fs::symlink(victim, known.folder.join("link")));
        }
        Prank::Away => {
            fs::rename(&known.folder, away).unwrap();
            known.is_away = true;
        }
    }
}

/// All files below a folder with what they hold; links as their targets.
fn files(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        let path = entry.path();
        if path.is_symlink() {
            found.insert(path.clone(), path.read_link().unwrap().display().to_string());
        } else if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read_to_string(&path).unwrap());
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_deletion_takes_its_own_files_and_no_others(
        pranks in proptest::collection::vec((0usize..6, prank()), 0..8),
        deleted in proptest::collection::btree_set(0..RECORDS, 1..3),
    ) {
        let (folder, _, store) = trained();
        let outside = folder.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let mut known = export(&store, &outside, "first");
        known.extend(export(&store, &outside, "second"));
        let away = |number: usize| outside.join(format!("away-{number}"));
        for (number, prank) in pranks {
            let number = number % known.len();
            play(&mut known[number], prank, &away(number));
        }
        let before = files(&outside);
        let records = deleted.iter().map(|number| record(*number).id).collect();
        store.accept(&DeletionRequest { records, ..DeletionRequest::default() }).unwrap();
        let erasure = store.erase().unwrap();
        let live = |known: &Known| known.stages.iter().all(|key| store.snapshot().unwrap().has_stage(key));
        // What has to be gone: in the folders of dead adapters that are there, the files with the store's own bytes, if the
        // tensors are among them.
        let mut expected = before.clone();
        for known in known.iter().filter(|known| !live(known) && !known.is_away) {
            let inside = |path: &PathBuf| path.parent() == Some(&known.folder);
            let is_own = |(path, bytes): (&PathBuf, &String)| inside(path) && *bytes == known.tensors;
            if before.iter().any(is_own) {
                expected.retain(|path, bytes| !inside(path) || (*bytes != known.tensors && bytes != CONFIG));
            }
        }
        prop_assert_eq!(files(&outside), expected);
        // What was away is named, and taken when it is back.
        for (number, known) in known.iter_mut().enumerate().filter(|(_, known)| known.is_away) {
            let is_named = erasure.remaining_exports.iter().any(|left| left.folder == known.folder && left.pending);
            prop_assert_eq!(is_named, !live(known));
            fs::rename(away(number), &known.folder).unwrap();
        }
        store.erase().unwrap();
        let left = files(&outside);
        for known in known.iter().filter(|known| !live(known)) {
            let is_there = left.iter().any(|(path, bytes)| path.parent() == Some(&known.folder) && *bytes == known.tensors);
            prop_assert!(!is_there, "{:?}", left);
        }
        prop_assert_eq!(store.remaining_exports().unwrap(), []);
    }
}

/// Each export begins by removing what interrupted ones left: never what another is about to write.
#[test]
fn exports_beside_each_other_are_all_known_to_a_deletion() {
    let (folder, place, store) = trained();
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let write = |thread: usize| {
        let store = Store::open(&place).unwrap();
        (0..12).flat_map(|number| export(&store, &outside, &format!("{thread}-{number}"))).collect::<Vec<Known>>()
    };
    let known: Vec<Known> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || write(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(!fs::read_dir(&outside).unwrap().any(|entry| {
        let name = entry.unwrap().file_name();
        name.to_string_lossy().contains("unfinished")
    }));
    store.accept(&DeletionRequest { records: vec![record(0).id], ..DeletionRequest::default() }).unwrap();
    store.erase().unwrap();
    let snapshot = store.snapshot().unwrap();
    for known in &known {
        let is_live = known.stages.iter().all(|key| snapshot.has_stage(key));
        assert_eq!(known.folder.join("adapter_model.safetensors").exists(), is_live, "{}", known.folder.display());
    }
}

#[test]
fn an_erasure_takes_an_export_from_under_the_hands_of_who_writes_it() {
    let (folder, _, store) = trained();
    let stages: Vec<StageKey> = store.snapshot().unwrap().stages().iter().copied().collect();
    let to = folder.path().join("export");
    let adapters = [("shard-0".to_owned(), stages)];
    let export = store.begin_export(&to, &adapters).unwrap();
    fs::write(export.path().join("shard-0/adapter_model.safetensors"), "tensors").unwrap();
    store.accept(&DeletionRequest { records: vec![record(0).id], ..DeletionRequest::default() }).unwrap();
    let written = export.path();
    assert!(store.erase().unwrap().remaining_exports.is_empty());
    assert!(!written.exists());
    // Whoever still writes finds no folder, and makes none: no deletion would look there again.
    assert!(fs::write(written.join("shard-0/adapter_model.safetensors"), "tensors").is_err());
    assert!(export.is_hit().unwrap());
    assert!(!export.finish().unwrap(), "it is overtaken, not an error");
    assert!(!to.exists());
    assert!(matches!(store.begin_export(&to, &adapters), Err(s3t_store::StoreError::MissingStage(_))));
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().filter(|entry| entry.as_ref().unwrap().file_name() == "export").count(),
        0
    );
}

/// The disk of the system, of whose commits one fails: the first if it is 1, none if it is 0.
#[derive(Debug)]
struct FailingCommits(AtomicUsize);

impl Disk for FailingCommits {
    fn write_new(&self, folder: &Folder, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
        SystemDisk.write_new(folder, name, bytes)
    }

    fn rename(&self, from: &Folder, name: &OsStr, to: &Folder, new: &OsStr) -> io::Result<()> {
        SystemDisk.rename(from, name, to, new)
    }

    fn overwrite(&self, folder: &Folder, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
        SystemDisk.overwrite(folder, name, bytes)
    }

    fn remove(&self, folder: &Folder, name: &OsStr) -> io::Result<()> {
        SystemDisk.remove(folder, name)
    }

    fn sync_folder(&self, folder: &Folder) -> io::Result<()> {
        SystemDisk.sync_folder(folder)
    }

    fn before_commit(&self) -> io::Result<()> {
        let before = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| Some(left.saturating_sub(1)));
        if before == Ok(1) { Err(io::Error::other("no room")) } else { Ok(()) }
    }
}

#[test]
fn an_export_whose_commit_fails_is_not_there_and_no_row_of_it_is_left() {
    for succeed in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(FailingCommits(AtomicUsize::new(0)));
        let place = Place { disk: Arc::clone(&disk) as Arc<dyn Disk>, ..Place::new(folder.path().join("store")) };
        let store = create(&place).unwrap();
        train(&store, usize::MAX).unwrap();
        let stages: Vec<StageKey> = store.snapshot().unwrap().stages().iter().copied().collect();
        let to = folder.path().join("export");
        let export = store.begin_export(&to, &[("shard-0".to_owned(), stages)]).unwrap();
        fs::write(export.path().join("shard-0/adapter_model.safetensors"), "tensors").unwrap();
        disk.0.store(succeed + 1, Ordering::SeqCst);
        let finished = export.finish();
        if finished.is_ok_and(|finished| finished) {
            assert!(succeed >= 2, "the names of files and the new name are two changes");
            assert!(to.join("shard-0/adapter_model.safetensors").exists());
            return;
        }
        assert!(!to.exists(), "after {succeed} commits");
        // Whatever is left, a deletion finds.
        store.accept(&DeletionRequest { records: vec![record(0).id], ..DeletionRequest::default() }).unwrap();
        assert_eq!(store.erase().unwrap().remaining_exports, []);
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(
            left.iter().all(|name| !name.to_string_lossy().contains("export")),
            "after {succeed} commits: {left:?}"
        );
    }
}

#[test]
fn an_interrupted_export_on_a_disk_that_is_away_is_named_until_it_is_back() {
    let (folder, place, store) = trained();
    let stages: Vec<StageKey> = store.snapshot().unwrap().stages().iter().copied().collect();
    let (disk, away) = (folder.path().join("disk"), folder.path().join("away"));
    let export = store.begin_export(&disk.join("export"), &[("shard-0".to_owned(), stages)]).unwrap();
    fs::write(export.path().join("shard-0/adapter_model.safetensors"), "tensors").unwrap();
    let unfinished = export.path();
    // As if the process had been killed: nothing tidies up.
    std::mem::forget(export);
    fs::rename(&disk, &away).unwrap();
    store.accept(&DeletionRequest { records: vec![record(0).id], ..DeletionRequest::default() }).unwrap();
    let remaining = store.erase().unwrap().remaining_exports;
    assert_eq!(remaining.len(), 1, "it may come back");
    assert!(remaining[0].reason.contains("cannot be looked at"), "{}", remaining[0].reason);
    fs::rename(&away, &disk).unwrap();
    assert!(unfinished.exists());
    drop(store);
    let store = Store::open(&place).unwrap();
    assert_eq!(store.erase().unwrap().remaining_exports, []);
    assert!(!unfinished.exists());
}

#[test]
fn an_export_that_is_there_is_not_forgotten_nor_all_that_are_below_a_folder() {
    let (folder, _, store) = trained();
    let known = export(&store, folder.path(), "first");
    export(&store, folder.path(), "second");
    let there = store.forget_exports(&folder.path().join("first")).unwrap_err().to_string();
    assert!(there.contains("is still there"), "{there}");
    assert_eq!(store.forget_exports(folder.path()).unwrap(), 0);
    fs::remove_dir_all(folder.path().join("first")).unwrap();
    assert_eq!(store.forget_exports(&known[0].folder).unwrap(), 1);
    assert_eq!(store.forget_exports(&folder.path().join("first")).unwrap(), known.len() - 1);
}
