//! The store beside what it did not make: links, other people's files, other processes that hold something, full pipes, limits of
//! the machine. Nothing of anybody else's is lost, every wait ends and says for whom it waited, and what was accepted stands.
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::workspace::{Ran, Workspace};
use s3t::core::RecordId;
use s3t::store::{DeletionRequest, Place, Store};

/// More than the 2 seconds that a command waits, and what it does besides on a busy machine.
const BOUND: Duration = Duration::from_secs(20);

fn trained() -> Workspace {
    let workspace = Workspace::new();
    workspace.json(&["train", "pipeline.toml"]);
    workspace
}

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() { found.extend(files_under(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn delete(workspace: &Workspace, record: &str, more: &[&str]) -> Ran {
    workspace.run(&[&["delete", "pipeline.toml", "--record", record], more].concat())
}

#[track_caller]
fn is_sound(workspace: &Workspace) {
    let check = workspace.run(&["store", "check", "pipeline.toml"]);
    assert_eq!(check.code, 0, "{}{}", check.stdout, check.stderr);
}

/// A file of somebody else's, with what it holds.
struct Victim(PathBuf);

impl Victim {
    fn new(workspace: &Workspace, name: &str) -> Self {
        workspace.write(name, "precious\n");
        Self(workspace.path(name))
    }

    #[track_caller]
    fn is_unharmed(&self) {
        assert_eq!(fs::read_to_string(&self.0).unwrap(), "precious\n");
    }
}

#[test]
fn links_and_other_names_of_files_are_never_written_through() {
    let workspace = Workspace::new();
    let victim = Victim::new(&workspace, "victim.txt");
    // In the folder in which the keys of a new store are made.
    fs::create_dir(workspace.path(".unfinished-store.keys")).unwrap();
    symlink(&victim.0, workspace.path(".unfinished-store.keys/evil")).unwrap();
    symlink(&victim.0, workspace.path(".unfinished-store.keys/store.secret")).unwrap();
    workspace.json(&["train", "pipeline.toml"]);
    victim.is_unharmed();
    // Beside a store that is there.
    fs::create_dir_all(workspace.path(".unfinished-store.keys/slices")).unwrap();
    fs::hard_link(&victim.0, workspace.path(".unfinished-store.keys/slices/0-0.0.key")).unwrap();
    symlink(&victim.0, workspace.path(".unfinished-store.keys/slices/0-1.0.key")).unwrap();
    assert_eq!(delete(&workspace, "record-1", &[]).code, 0);
    victim.is_unharmed();
    assert!(!workspace.path(".unfinished-store.keys").exists());
    // Among the keys, the records, the stages and the ledger.
    for (number, name) in [
        "store.keys/slices/.unfinished-x",
        "store.keys/slices/.unfinished-0-0.7.key",
        "store.keys/slices/0-0.9.key",
        "store/records/.unfinished-0-0.9.records",
        "store/records/0-0.77.records",
        "store/stages/.unfinished-x",
        "store/ledger/.unfinished-checkpoint",
    ]
    .into_iter()
    .enumerate()
    {
        symlink(&victim.0, workspace.path(name)).unwrap();
        let deleted = delete(&workspace, &format!("record-{}", 2 + number), &[]);
        assert_eq!(deleted.code, 0, "{name}: {}", deleted.stderr);
        victim.is_unharmed();
        // What was not the store's to remove is told.
        if workspace.path(name).is_symlink() {
            let check = workspace.run(&["store", "check", "pipeline.toml"]);
            assert_eq!(check.code, 5);
            assert!(check.stdout.contains("is in the store but not the store's"), "{}", check.stdout);
            fs::remove_file(workspace.path(name)).unwrap();
        }
    }
    is_sound(&workspace);
    // A hard link in the place of a lock: it is locked, and its bytes stay.
    for lock in ["store/erasing.lock", "store/building.lock"] {
        fs::remove_file(workspace.path(lock)).unwrap();
        fs::hard_link(&victim.0, workspace.path(lock)).unwrap();
    }
    assert_eq!(delete(&workspace, "record-20", &[]).code, 0);
    workspace.json(&["repair", "pipeline.toml"]);
    victim.is_unharmed();
}

#[test]
fn a_link_in_the_place_of_the_stores_own_files_is_named_and_what_was_accepted_stands() {
    for name in ["store/erasing.lock", "store/catalogue.db", "store.keys/store.secret", "store/records", "store.keys"] {
        let workspace = trained();
        let aside = workspace.path("aside");
        fs::rename(workspace.path(name), &aside).unwrap();
        let before: Vec<_> = if aside.is_dir() { files_under(&aside) } else { vec![aside.clone()] };
        let before: Vec<_> = before.into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
        symlink(&aside, workspace.path(name)).unwrap();
        let deleted = delete(&workspace, "record-1", &["--request-id", "one"]);
        if name == "store.keys" {
            // The folder of the keys may be reached by a link: it is resolved once, and its own files are no links.
            assert_eq!(deleted.code, 0, "{}", deleted.stderr);
            continue;
        }
        assert_ne!(deleted.code, 0, "{name}: {}", deleted.stdout);
        let told = format!("{}{}", deleted.stdout, deleted.stderr);
        assert!(told.contains("link"), "{name}: {told}");
        for (bytes, path) in before {
            assert_eq!(fs::read(&path).unwrap(), bytes, "{name}");
        }
        fs::remove_file(workspace.path(name)).unwrap();
        fs::rename(&aside, workspace.path(name)).unwrap();
        assert_eq!(delete(&workspace, "record-1", &["--request-id", "one"]).code, 0);
        is_sound(&workspace);
    }
}

#[test]
fn a_store_behind_a_link_answers_and_deletes_and_is_not_started_afresh_through_it() {
    let workspace = trained();
    fs::rename(workspace.path("store"), workspace.path("real")).unwrap();
    fs::rename(workspace.path("store.keys"), workspace.path("real.keys")).unwrap();
    symlink("real", workspace.path("store")).unwrap();
    symlink("real.keys", workspace.path("store.keys")).unwrap();
    workspace.json(&["predict", "pipeline.toml"]);
    let files = files_under(&workspace.path("real")).len();
    let fresh = workspace.run(&["train", "pipeline.toml", "--fresh"]);
    assert_eq!(fresh.code, 6, "{}", fresh.stderr);
    assert!(fresh.stderr.contains("store` is a link to `real`"), "{}", fresh.stderr);
    assert_eq!(files_under(&workspace.path("real")).len(), files);
    assert_eq!(delete(&workspace, "record-1", &[]).code, 0);
    is_sound(&workspace);
}

#[test]
fn starting_afresh_says_that_deleted_people_come_back_and_leaves_strangers_alone() {
    let workspace = trained();
    // Without a deletion nothing comes back.
    workspace.json(&["train", "pipeline.toml", "--fresh"]);
    assert_eq!(delete(&workspace, "record-1", &[]).code, 0);
    let epoch = |workspace: &Workspace| workspace.json(&["status", "pipeline.toml"])["status"]["epoch"].clone();
    for command in ["train", "run"] {
        let refused = workspace.run(&[command, "pipeline.toml", "--fresh"]);
        assert_eq!(refused.code, 2, "{}", refused.stderr);
        assert!(
            refused.stderr.contains("has accepted 1 deletion") && refused.stderr.contains("--yes"),
            "{}",
            refused.stderr
        );
        assert_eq!(epoch(&workspace), 1);
    }
    // Somebody's notes in the store's folders are not deleted along.
    for folder in ["store", "store/records", "store.keys"] {
        let notes = Victim::new(&workspace, &format!("{folder}/notes.txt"));
        let refused = workspace.run(&["train", "pipeline.toml", "--fresh", "--yes"]);
        assert_eq!(refused.code, 2, "{}", refused.stderr);
        assert!(
            refused.stderr.contains("notes.txt") && refused.stderr.contains("Nothing was deleted"),
            "{}",
            refused.stderr
        );
        notes.is_unharmed();
        fs::remove_file(&notes.0).unwrap();
        assert_eq!(epoch(&workspace), 1);
    }
    let done = workspace.run(&["train", "pipeline.toml", "--fresh", "--yes"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains("had accepted 1 deletion"), "{}", done.stdout);
    assert_eq!(epoch(&workspace), 0);
}

#[test]
fn whoever_has_a_store_open_that_is_started_afresh_is_told() {
    let workspace = trained();
    let place = Place::new(workspace.path("store"));
    let open = Store::open(&place).unwrap();
    workspace.json(&["train", "pipeline.toml", "--fresh"]);
    let request = DeletionRequest { records: vec![RecordId::new("record-1").unwrap()], ..DeletionRequest::default() };
    let error = open.accept(&request).unwrap_err().to_string();
    assert!(error.contains("is being deleted"), "{error}");
    is_sound(&workspace);
    assert!(Store::open(&place).unwrap().accept(&request).is_ok());
}

#[test]
fn a_deletion_takes_its_own_exported_files_and_nobody_elses() {
    let workspace = Workspace::new();
    // So that the records of the deletion are in both shards in every run.
    workspace.edit("pipeline.toml", "[store]\n", "[store]\nsecret = \"from-seed\"\n");
    workspace.json(&["train", "pipeline.toml"]);
    workspace.json(&["export", "pipeline.toml", "--to", "exports/first"]);
    workspace.json(&["export", "pipeline.toml", "--to", "exports/second"]);
    // Private from the start.
    for path in files_under(&workspace.path("exports")) {
        assert_eq!(path.metadata().unwrap().mode() & 0o077, 0, "{}", path.display());
    }
    assert_eq!(workspace.path("exports/first/shard-0").metadata().unwrap().mode() & 0o077, 0);
    // At the place of the first somebody has put adapters of their own; the second has notes in it and a renamed copy.
    fs::rename(workspace.path("exports/first"), workspace.path("archived")).unwrap();
    let mut strangers = Vec::new();
    for shard in 0..2 {
        let folder = workspace.path(&format!("exports/first/shard-{shard}"));
        fs::create_dir_all(folder.join("notes")).unwrap();
        for name in ["adapter_config.json", "adapter_model.safetensors", "thesis.txt", "notes/n.txt"] {
            strangers.push(Victim::new(&workspace, &format!("exports/first/shard-{shard}/{name}")));
        }
        let second = format!("exports/second/shard-{shard}");
        fs::rename(
            workspace.path(&format!("{second}/adapter_model.safetensors")),
            workspace.path(&format!("{second}/renamed.safetensors")),
        )
        .unwrap();
        strangers.push(Victim::new(&workspace, &format!("{second}/adapter_model.safetensors")));
        symlink(&strangers[0].0, workspace.path(&format!("{second}/link"))).unwrap();
    }
    // The deletions of both shards' records.
    let deletion = workspace.json(&[
        "delete",
        "pipeline.toml",
        "--record",
        "record-1",
        "--record",
        "record-2",
        "--record",
        "record-3",
        "--record",
        "record-5",
    ]);
    let remaining = deletion["deletion"]["remaining_exports"].as_array().unwrap();
    assert_eq!(remaining.len(), 2, "{remaining:?}");
    for left in remaining {
        assert!(left["folder"].as_str().unwrap().contains("second/shard-"), "{left}");
        assert!(left["reason"].as_str().unwrap().contains("2 others in the folder are not the store's"), "{left}");
    }
    strangers.iter().for_each(Victim::is_unharmed);
    for shard in 0..2 {
        assert!(!workspace.path(&format!("exports/second/shard-{shard}/renamed.safetensors")).exists());
        assert!(workspace.path(&format!("exports/second/shard-{shard}/link")).is_symlink());
    }
    // What was moved away by hand is a copy out of reach.
    assert!(workspace.path("archived/shard-0/adapter_model.safetensors").exists());
    is_sound(&workspace);
}

#[test]
fn an_export_that_is_away_stays_on_the_list_until_it_was_seen() {
    let workspace = trained();
    // A name that is not UTF-8, on a disk that goes away.
    let name = std::ffi::OsStr::from_bytes(b"disk-\xff");
    let disk = workspace.path("").join(name);
    fs::create_dir(&disk).unwrap();
    let mut export = workspace.command();
    export.args(["export", "pipeline.toml", "--json", "--to"]).arg(disk.join("first"));
    assert!(export.output().unwrap().status.success());
    workspace.json(&["export", "pipeline.toml", "--to", "gone/first"]);
    let away = workspace.path("away");
    fs::rename(&disk, &away).unwrap();
    fs::remove_dir_all(workspace.path("gone")).unwrap();
    let deletion = workspace.json(&["delete", "pipeline.toml", "--record", "record-1"]);
    let remaining = deletion["deletion"]["remaining_exports"].as_array().unwrap().clone();
    assert_eq!(remaining.len(), 2, "{remaining:?}");
    assert!(
        remaining
            .iter()
            .all(|left| left["pending"] == true && left["reason"].as_str().unwrap().contains("it is not there"))
    );
    // Everybody says so.
    let status = workspace.json(&["status", "pipeline.toml"]);
    assert_eq!(status["status"]["remaining_exports"].as_array().unwrap().len(), 2);
    let check = workspace.run(&["store", "check", "pipeline.toml"]);
    assert_eq!(check.code, 5);
    assert!(check.stdout.contains("of deleted stages: it is not there"), "{}", check.stdout);
    assert_eq!(workspace.run(&["audit", "pipeline.toml", "--scope", "lineages"]).code, 5);
    // One was deleted by hand: that is said. The other comes back, and the next command that changes the store removes it.
    let forgotten = workspace.json(&["store", "forget-export", "pipeline.toml", "gone/first"]);
    assert_eq!(forgotten["forgotten"], 2);
    assert_eq!(workspace.run(&["store", "forget-export", "pipeline.toml", "gone/first"]).code, 3);
    fs::rename(&away, &disk).unwrap();
    assert!(disk.join("first/shard-0/adapter_model.safetensors").exists());
    workspace.json(&["repair", "pipeline.toml"]);
    let dead: Vec<_> = remaining
        .iter()
        .filter_map(|left| left["folder"].as_str())
        .filter(|folder| folder.contains("disk-"))
        .map(|folder| folder.rsplit('/').next().unwrap().to_owned())
        .collect();
    assert_eq!(dead.len(), 1);
    assert!(!disk.join("first").join(&dead[0]).exists());
    is_sound(&workspace);
}

#[test]
fn an_export_that_was_killed_leaves_no_name_behind() {
    let workspace = trained();
    for milliseconds in [0, 5, 10, 20, 40] {
        let mut child = workspace.command();
        child.args(["export", "pipeline.toml", "--to", "later"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = child.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_dir_all(workspace.path("later")).unwrap_or_default();
    }
    workspace.json(&["export", "pipeline.toml", "--to", "whole"]);
    let left: Vec<_> = fs::read_dir(workspace.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("unfinished")), "{left:?}");
}

/// Holds the lock of a file in another process until it is dropped.
struct Held(std::process::Child);

impl Held {
    fn new(path: &Path) -> Self {
        let mut child = Command::new("flock")
            .args(["--no-fork", "-x"])
            .arg(path)
            .args(["sleep", "1000"])
            .spawn()
            .expect("flock, of util-linux");
        let file = fs::File::open(path).unwrap();
        let until = Instant::now() + BOUND;
        while file.try_lock().is_ok() {
            file.unlock().unwrap();
            assert!(Instant::now() < until && child.try_wait().unwrap().is_none());
            std::thread::sleep(Duration::from_millis(5));
        }
        Self(child)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        drop(self.0.wait());
    }
}

#[test]
fn a_process_that_holds_the_files_delays_an_erasure_and_never_a_deletion() {
    let workspace = trained();
    let held = Held::new(&workspace.path("store/erasing.lock"));
    let holder = format!("process {}", held.0.id());
    let started = Instant::now();
    let deleted = delete(&workspace, "record-1", &["--request-id", "one", "--receipt", "one.json", "--json"]);
    assert!(started.elapsed() < BOUND);
    assert_eq!(deleted.code, 6);
    let json: serde_json::Value = serde_json::from_str(&deleted.stdout).unwrap();
    let reason = json["deletion"]["pending"]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains(&holder), "{reason}");
    assert_eq!(json["deletion"]["erased_seconds"], serde_json::Value::Null);
    // It is in effect, and its receipt says how far it is.
    let receipt: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(workspace.path("one.json")).unwrap()).unwrap();
    assert_eq!(receipt["erased"], serde_json::Value::Null);
    assert!(receipt["opening"].is_string());
    assert_eq!(workspace.path("one.json").metadata().unwrap().mode() & 0o077, 0);
    let status = workspace.run(&["status", "pipeline.toml"]);
    assert!(status.stdout.contains("deletion 1 (1 record) is in effect since"), "{}", status.stdout);
    assert!(status.stdout.contains(&holder), "{}", status.stdout);
    // Everything else ends too, and none of it says that something is wrong.
    for command in [
        &["verify", "pipeline.toml", "--scope", "lineages"][..],
        &["audit", "pipeline.toml"],
        &["store", "check", "pipeline.toml"],
        &["export", "pipeline.toml", "--to", "held"],
        &["predict", "pipeline.toml"],
    ] {
        let started = Instant::now();
        let ran = workspace.run(command);
        assert!(started.elapsed() < BOUND, "{command:?}");
        assert_eq!(ran.code, 0, "{command:?}: {}{}", ran.stdout, ran.stderr);
    }
    let repaired = workspace.run(&["repair", "pipeline.toml"]);
    assert!([0, 6].contains(&repaired.code), "{}", repaired.stderr);
    drop(held);
    // Whoever comes next finishes it, and the same request gives the receipt of that.
    workspace.json(&["repair", "pipeline.toml"]);
    assert_eq!(workspace.json(&["status", "pipeline.toml"])["status"]["pending"], serde_json::json!([]));
    assert_eq!(delete(&workspace, "record-1", &["--request-id", "one", "--receipt", "one.json"]).code, 0);
    let key = "store/ledger/key.pub";
    let verified = workspace.json(&["receipt", "verify", "one.json", "--key", key, "--record", "record-1"]);
    assert!(verified["verified"]["erased"].is_number());
    is_sound(&workspace);
}

#[test]
fn a_reader_of_the_past_delays_the_word_erased_and_nothing_else() {
    let workspace = trained();
    let path = workspace.path("store/catalogue.db");
    let reader = rusqlite::Connection::open_with_flags(&path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let ids = |reader: &rusqlite::Connection| -> Vec<Vec<u8>> {
        let mut query = reader.prepare("SELECT id FROM records").unwrap();
        query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let before = ids(&reader);
    for record in ["record-1", "record-2"] {
        let started = Instant::now();
        let deleted = delete(&workspace, record, &["--request-id", record]);
        assert!(started.elapsed() < BOUND);
        assert_eq!(deleted.code, 6, "{}", deleted.stderr);
        assert!(
            deleted.stderr.contains("reads the catalogue") && deleted.stderr.contains("stands"),
            "{}",
            deleted.stdout
        );
    }
    let now = rusqlite::Connection::open_with_flags(&path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let after = ids(&now);
    let gone: Vec<Vec<u8>> = before.into_iter().filter(|id| !after.contains(id)).collect();
    drop(now);
    assert_eq!(gone.len(), 2);
    let traces = || {
        let files = ["catalogue.db", "catalogue.db-wal"]
            .map(|name| fs::read(workspace.path("store").join(name)).unwrap_or_default());
        gone.iter().filter(|id| files.iter().any(|file| file.windows(id.len()).any(|at| at == &id[..]))).count()
    };
    let erased = || {
        let store = Store::open_read_only(&Place::new(workspace.path("store"))).unwrap();
        let entries = store.entries().unwrap();
        entries.iter().filter(|entry| matches!(entry.event, s3t::ledger::Event::Erased { .. })).count()
    };
    // As long as the digests of their ids can be found, the ledger does not call them erased.
    assert_eq!((traces(), erased()), (2, 0));
    // Repair and verification go on: the slices are written anew.
    workspace.json(&["repair", "pipeline.toml"]);
    workspace.json(&["verify", "pipeline.toml"]);
    is_sound(&workspace);
    assert_eq!((traces(), erased()), (2, 0));
    drop(reader);
    workspace.json(&["repair", "pipeline.toml"]);
    assert_eq!((traces(), erased()), (0, 2));
}

#[test]
fn a_receipt_shows_its_names_however_often_the_command_was_cut_short() {
    let workspace = trained();
    // Accepted, and killed before anything else.
    let request = DeletionRequest {
        id: Some("one".into()),
        records: vec![RecordId::new("record-1").unwrap(), RecordId::new("record-2").unwrap()],
        subjects: vec![],
    };
    let place = Place::new(workspace.path("store"));
    Store::open(&place).unwrap().accept(&request).unwrap();
    workspace.write("one.json", "");
    workspace.json(&["repair", "pipeline.toml"]);
    let again = |names: &[&str], receipt: &str| {
        let mut arguments = vec!["delete", "pipeline.toml", "--request-id", "one", "--receipt", receipt];
        names.iter().for_each(|name| arguments.extend(["--record", name]));
        workspace.run(&arguments)
    };
    // In another order it is the same request.
    for (names, receipt) in [
        (["record-1", "record-2"], "one.json"),
        (["record-2", "record-1"], "two.json"),
        (["record-1", "record-2"], "one.json"),
    ] {
        let ran = again(&names, receipt);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let verify = ["receipt", "verify", receipt, "--key", "store/ledger/key.pub", "--record", "record-2"];
        let verified = workspace.json(&verify);
        assert!(verified["verified"]["erased"].is_number() && verified["verified"]["request_checked"] == true);
    }
    // The store itself has forgotten the key to the names by now, and still tells another request from it.
    let store = Store::open_read_only(&place).unwrap();
    assert_eq!(store.receipt("one", None).unwrap().opening, None);
    for names in
        [&["record-1"][..], &["record-1", "record-3"], &["record-2", "nobody"], &["record-1", "record-2", "record-3"]]
    {
        for receipt in ["one.json", "three.json"] {
            let ran = again(names, receipt);
            assert_eq!(ran.code, 4, "{names:?}: {}", ran.stderr);
            assert!(!workspace.path("three.json").exists());
        }
    }
    // A receipt that cannot be written is told before anything is accepted.
    for receipt in ["no/such/folder.json", "train.jsonl", "model"] {
        let ran = delete(&workspace, "record-9", &["--receipt", receipt]);
        assert!([1, 2].contains(&ran.code), "{receipt}: {}", ran.stderr);
    }
    assert_eq!(workspace.json(&["status", "pipeline.toml"])["status"]["epoch"], 1);
}

#[test]
fn several_processes_that_make_a_store_at_once_make_one() {
    for round in 0..6 {
        let workspace = Workspace::new();
        let children: Vec<_> = (0..2 + round % 2)
            .map(|child| {
                std::thread::sleep(Duration::from_millis(7 * round * child));
                let mut command = workspace.command();
                command.args(["train", "pipeline.toml"]).stdout(Stdio::piped()).stderr(Stdio::piped());
                command.spawn().unwrap()
            })
            .collect();
        let ran: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
        assert!(ran.iter().any(|output| output.status.code() == Some(0)), "{ran:?}");
        // The others were told that somebody makes it or builds in it, or came when it was done.
        assert!(ran.iter().all(|output| matches!(output.status.code(), Some(0 | 6))), "{ran:?}");
        is_sound(&workspace);
        let left: Vec<_> = fs::read_dir(workspace.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().starts_with('.')), "{left:?}");
    }
}

#[test]
fn what_cannot_be_printed_is_not_a_success_and_not_a_panic() {
    let workspace = trained();
    let full = || Stdio::from(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let code = |command: &mut Command| command.status().unwrap().code();
    assert_eq!(
        code(workspace.command().args(["status", "nothing.toml"]).stdout(Stdio::null()).stderr(full())),
        Some(2)
    );
    assert_eq!(
        code(workspace.command().args(["delete", "pipeline.toml", "--record", "nobody"]).stdout(full()).stderr(full())),
        Some(3)
    );
    for arguments in [&["plugins", "--json"][..], &["plugins"], &["status", "pipeline.toml", "--json"], &["--help"]] {
        assert_eq!(
            code(workspace.command().args(arguments).stdout(full()).stderr(Stdio::null())),
            Some(1),
            "{arguments:?}"
        );
    }
    // A reader that has seen enough is no failure.
    let mut child = workspace.command();
    let mut child = child.args(["plugins"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn where_no_thread_can_be_started_everything_goes_on_with_one() {
    let workspace = trained();
    // Another user, since the limit does not hold for the administrator.
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let program = workspace.path("program");
    fs::hard_link(env!("CARGO_BIN_EXE_s3t"), &program)
        .or_else(|_| fs::copy(env!("CARGO_BIN_EXE_s3t"), &program).map(drop))
        .unwrap();
    if root {
        for path in files_under(&workspace.path("")).into_iter().filter(|path| *path != program) {
            std::os::unix::fs::chown(&path, Some(65_534), Some(65_534)).unwrap();
        }
        for folder in [
            "",
            "store",
            "store/records",
            "store/stages",
            "store/ledger",
            "store/ledger/tile",
            "store.keys",
            "store.keys/slices",
        ] {
            std::os::unix::fs::chown(workspace.path(folder), Some(65_534), Some(65_534)).unwrap();
        }
        chown_folders(&workspace.path("store/ledger"));
    }
    let limited = |arguments: &[&str]| {
        let mut command = if root {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "bash"]);
            command
        } else {
            Command::new("bash")
        };
        command.args(["-c", "ulimit -u 1; exec \"$@\"", "bash"]).arg(&program).args(arguments);
        let output = command.current_dir(workspace.path("")).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for arguments in [
        &[
            "delete",
            "pipeline.toml",
            "--record",
            "record-1",
            "--record",
            "record-2",
            "--record",
            "record-3",
            "--request-id",
            "t",
        ][..],
        &["repair", "pipeline.toml"],
        &["predict", "pipeline.toml", "--json"],
        &["verify", "pipeline.toml", "--scope", "all"],
        &["audit", "pipeline.toml"],
        &["simulate", "--shards", "2", "--slices", "2", "--budget", "2", "--trials", "100"],
    ] {
        let (code, stderr) = limited(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {stderr}");
    }
}

fn chown_folders(folder: &Path) {
    std::os::unix::fs::chown(folder, Some(65_534), Some(65_534)).unwrap();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir()) {
        chown_folders(&entry.path());
    }
}

#[test]
fn keys_that_others_can_change_are_reported_and_restricted() {
    let workspace = trained();
    let secret = workspace.path("store.keys/store.secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o666)).unwrap();
    let check = workspace.run(&["store", "check", "pipeline.toml"]);
    assert_eq!(check.code, 5);
    assert!(check.stdout.contains("store.secret` can be changed by others"), "{}", check.stdout);
    assert_eq!(workspace.run(&["store", "check", "pipeline.toml", "--repair"]).code, 0);
    assert_eq!(secret.metadata().unwrap().mode() & 0o077, 0);
}

#[test]
fn a_store_on_a_disk_that_cannot_be_written_answers() {
    let workspace = trained();
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    // Everything that is run there sees the folder read-only.
    let script = "mount --bind . . && cd \"$PWD\" && mount -o remount,bind,ro . && touch probe 2>/dev/null; \
                  test ! -e probe && exec \"$@\"";
    let run = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.arg(if root { "-m" } else { "-rm" }).args(["sh", "-c", script, "sh"]).arg(env!("CARGO_BIN_EXE_s3t"));
        command.args(arguments).current_dir(workspace.path("")).output().unwrap()
    };
    if !run(&["plugins"]).status.success() {
        // This machine lets nobody mount; the rule has a test of its own in the store.
        return;
    }
    for arguments in [
        &["status", "pipeline.toml"][..],
        &["predict", "pipeline.toml", "--json"],
        &["store", "check", "pipeline.toml"],
        &["audit", "pipeline.toml", "--scope", "lineages"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let output = run(&["delete", "pipeline.toml", "--record", "record-1"]);
    assert!(matches!(output.status.code(), Some(1 | 6)), "{output:?}");
}
