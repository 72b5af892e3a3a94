//! The program as its users run it.

use std::time::{Duration, Instant};

use crate::workspace::Workspace;

#[test]
fn run_tells_the_whole_story_and_can_be_run_again() {
    let workspace = Workspace::new();
    let told = workspace.run(&["run", "pipeline.toml"]);
    assert_eq!(told.code, 0, "{}", told.stderr);
    for part in
        ["Plan", "Training", "Evaluation", "Deletion", "Evaluation after the deletion", "every bit equal", ": verified"]
    {
        assert!(told.stdout.contains(part), "no `{part}` in {}", told.stdout);
    }
    let again = workspace.json(&["run", "pipeline.toml"]);
    assert_eq!(again["verification"]["passed"], true);
    assert!(again.get("deletion").is_none(), "the subject was deleted in the first run");
    assert_eq!(workspace.run(&["run", "pipeline.toml", "--fresh"]).code, 2, "deleted records would come back");
    let fresh = workspace.json(&["run", "pipeline.toml", "--fresh", "--yes"]);
    assert_eq!(fresh["deletion"]["records"].as_array().unwrap().len(), 2);
}

#[test]
fn delete_cuts_repair_rebuilds_and_exit_codes_say_what_happened() {
    let workspace = Workspace::new();
    workspace.json(&["train", "pipeline.toml"]);
    let full = workspace.json(&["status", "pipeline.toml"]);
    assert_eq!(full["status"]["built_stages"], 8);

    let deletion = workspace.json(&["delete", "pipeline.toml", "--subject", "subject-1", "--record", "record-0"]);
    assert_eq!(deletion["deletion"]["records"].as_array().unwrap().len(), 3);
    assert_eq!(deletion["deletion"]["epoch"], 1);
    for (args, code, message) in [
        (["--record", "record-0"], 3, "unknown record `record-0`"),
        (["--subject", "subject-1"], 3, "unknown subject `subject-1`"),
        (["--record", "record-999"], 3, "unknown record `record-999`"),
        (["--subject", "nobody"], 3, "unknown subject `nobody`"),
    ] {
        let ran = workspace.run(&[&["delete", "pipeline.toml"], &args[..]].concat());
        assert_eq!(ran.code, code);
        assert!(ran.stderr.contains(message), "{}", ran.stderr);
    }
    let cut = workspace.json(&["status", "pipeline.toml"]);
    assert!(cut["status"]["built_stages"].as_u64() < full["status"]["built_stages"].as_u64());
    assert_eq!((&cut["status"]["records"], &cut["status"]["epoch"]), (&57.into(), &1.into()));

    workspace.json(&["repair", "pipeline.toml"]);
    let repaired = workspace.json(&["status", "pipeline.toml"]);
    assert_eq!(repaired["status"]["built_stages"], repaired["status"]["planned_stages"]);
    let verified = workspace.json(&["verify", "pipeline.toml", "--scope", "all"]);
    assert_eq!(verified["verification"]["passed"], true);
    assert_eq!(verified["verification"]["report"]["stages"].as_array().unwrap().len(), 8);
}

#[test]
fn a_store_is_verified_on_other_vector_instructions_than_it_was_trained_on() {
    for (trained, verified) in [("", "avx2"), ("scalar", "native")] {
        let workspace = Workspace::new();
        let on = |instructions: &str, args: &[&str]| {
            workspace.command().env("S3T_INSTRUCTIONS", instructions).args(args).output().unwrap()
        };
        assert!(on(trained, &["train", "pipeline.toml"]).status.success());
        let told = on(verified, &["verify", "pipeline.toml", "--scope", "all", "--json"]);
        let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(told["verification"]["passed"], true, "trained on `{trained}`, verified on `{verified}`");
        let unknown = on("sse9", &["verify", "pipeline.toml"]);
        assert_eq!(unknown.status.code(), Some(2));
        assert!(String::from_utf8(unknown.stderr).unwrap().contains("`sse9` is no set of instructions"));
    }
}

#[test]
fn a_receipt_is_checked_with_the_public_key_alone_and_a_request_is_done_once() {
    let workspace = Workspace::new();
    workspace.json(&["train", "pipeline.toml"]);
    let delete =
        ["delete", "pipeline.toml", "--record", "record-3", "--request-id", "ticket-1", "--receipt", "receipt.json"];
    let deletion = workspace.json(&delete);
    assert_eq!((&deletion["deletion"]["epoch"], &deletion["deletion"]["repeated"]), (&1.into(), &false.into()));
    // The same request renews its receipt; no other file is written over.
    assert_eq!(workspace.run(&delete).code, 0);
    let over = |file: &str| {
        let other = ["delete", "pipeline.toml", "--record", "record-5", "--request-id", "ticket-2", "--receipt", file];
        workspace.run(&other).code
    };
    assert_eq!([over("receipt.json"), over("train.jsonl"), over("pipeline.toml")], [2; 3]);
    // The same request again: done once. Another under its id: refused.
    let again = workspace.json(&["delete", "pipeline.toml", "--record", "record-3", "--request-id", "ticket-1"]);
    assert_eq!((&again["deletion"]["epoch"], &again["deletion"]["repeated"]), (&1.into(), &true.into()));

    // The auditor has the receipt and the key, and nothing else.
    std::fs::copy(workspace.path("store/ledger/key.pub"), workspace.path("key.pub")).unwrap();
    std::fs::remove_dir_all(workspace.path("store")).unwrap();
    let verify =
        |more: &[&str]| workspace.run(&[&["receipt", "verify", "receipt.json", "--key", "key.pub"], more].concat());
    assert_eq!(verify(&["--record", "record-3"]).code, 0, "{}", verify(&[]).stderr);
    let other = verify(&["--record", "record-4"]);
    assert_eq!(other.code, 5);
    assert!(other.stderr.contains("the request does not name the record `record-4`"), "{}", other.stderr);
    assert!(
        workspace
            .run(&["receipt", "show", "receipt.json"])
            .stdout
            .contains("request ticket-1, deletion 1: 1 record in")
    );
    workspace.edit("receipt.json", "\"records\": 1", "\"records\": 2");
    assert_eq!(verify(&[]).code, 5);
}

#[test]
fn an_audit_says_what_holds_and_writes_a_page() {
    let workspace = Workspace::new();
    workspace.json(&["train", "pipeline.toml"]);
    std::fs::copy(workspace.path("store/ledger/key.pub"), workspace.path("key.pub")).unwrap();
    std::fs::copy(workspace.path("store/ledger/checkpoint"), workspace.path("seen.txt")).unwrap();
    workspace.json(&["delete", "pipeline.toml", "--subject", "subject-1", "--receipt", "receipt.json"]);
    let audit = [
        "audit",
        "pipeline.toml",
        "--key",
        "key.pub",
        "--checkpoint",
        "seen.txt",
        "--receipt",
        "receipt.json",
        "--absent-subject",
        "subject-1",
        "--html",
        "audit.html",
    ];
    let report = workspace.json(&audit);
    assert_eq!(report["audit"]["passed"], true);
    let checks = report["audit"]["report"]["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| check["passed"] == true), "{checks:?}");
    let page = std::fs::read_to_string(workspace.path("audit.html")).unwrap();
    assert!(page.contains("every bit equal") && page.contains("What this does not say"), "{page}");
    // A page is not written over, and what is there is not absent.
    assert_eq!(workspace.run(&audit).code, 2);
    let told = workspace.run(&["audit", "pipeline.toml", "--absent-record", "record-0", "--scope", "lineages"]);
    assert_eq!(told.code, 5);
    assert!(told.stdout.contains("record `record-0` is in the catalogue"), "{}", told.stdout);
}

/// Stopped whatever becomes of the test.
struct Stopped(std::process::Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_repair_is_made_when_the_policy_says_so_and_a_watch_waits_for_deletions() {
    let workspace = Workspace::new();
    workspace.json(&["train", "pipeline.toml"]);
    workspace.json(&["delete", "pipeline.toml", "--record", "record-0"]);
    // One slice of four was hit, and the other sequence of its shard serves with one stage: 3 of 4.
    let within = workspace.json(&["repair", "pipeline.toml", "--below-depth", "0.7"]);
    assert_eq!(within["repair"]["report"]["build"], serde_json::Value::Null);
    let due = workspace.json(&["repair", "pipeline.toml", "--below-depth", "0.8"]);
    assert!(due["repair"]["report"]["build"]["trained"].as_u64() > Some(0));
    assert_eq!(workspace.run(&["repair", "pipeline.toml", "--below-depth", "2"]).code, 2);

    let watch = Stopped(workspace.command().args(["repair", "pipeline.toml", "--watch", "--quiet"]).spawn().unwrap());
    let built = |is: &dyn Fn(u64, u64) -> bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            let status = workspace.json(&["status", "pipeline.toml"]);
            let number = |key: &str| status["status"][key].as_u64().unwrap();
            if is(number("epoch"), number("built_stages")) {
                return true;
            }
        }
        false
    };
    workspace.json(&["delete", "pipeline.toml", "--record", "record-5"]);
    assert!(built(&|epoch, built| epoch == 2 && built == 8), "the watch repairs what a deletion has cut");
    drop(watch);
    assert_eq!(workspace.json(&["verify", "pipeline.toml", "--scope", "all"])["verification"]["passed"], true);
}

#[test]
fn copies_are_told_when_planning_and_go_together() {
    let workspace = Workspace::new();
    let text = std::fs::read_to_string(workspace.path("train.jsonl")).unwrap();
    let copy = text.lines().nth(5).unwrap().replace("\"record-5\"", "\"copy-of-5\"");
    workspace.write("train.jsonl", format!("{text}{copy}\n"));
    workspace.edit("pipeline.toml", "[data]\n", "[data]\nduplicates = { exact = true }\n");
    let plan = workspace.run(&["plan", "pipeline.toml"]);
    let told = format!("{}{}", plan.stdout, plan.stderr);
    assert!(told.contains("2 records are copies of each other, in 1 group"), "{told}");
    workspace.json(&["train", "pipeline.toml"]);
    let deletion = workspace.json(&["delete", "pipeline.toml", "--record", "record-5"]);
    assert_eq!(deletion["deletion"]["records"], serde_json::json!(["copy-of-5", "record-5"]));
}

#[test]
fn deletions_come_from_files_too_and_are_all_or_nothing() {
    let workspace = Workspace::new();
    workspace.json(&["train", "pipeline.toml"]);
    workspace.write("ids.txt", "record-3\n\nrecord-6\n");
    workspace.write("bad.txt", "record-9\nrecord-nine\n");
    assert_eq!(workspace.run(&["delete", "pipeline.toml", "--records-from", "bad.txt"]).code, 3);
    let deletion = workspace.json(&["delete", "pipeline.toml", "--records-from", "ids.txt"]);
    assert_eq!(deletion["deletion"]["records"], serde_json::json!(["record-3", "record-6"]));
    assert_eq!(workspace.json(&["status", "pipeline.toml"])["status"]["records"], 58);
}

#[test]
fn plan_writes_nothing_and_predict_answers_for_every_record() {
    let workspace = Workspace::new();
    let plan = workspace.json(&["plan", "pipeline.toml"]);
    assert_eq!(plan["cost"]["shared"]["stages"], 8);
    assert!((plan["mean_deletions"].as_f64().unwrap() - 4.0 * (1.0 + 0.5 + 1.0 / 3.0 + 0.25)).abs() < 1e-9);
    assert!(!workspace.path("store").exists());
    workspace.json(&["train", "pipeline.toml"]);
    let predictions = workspace.json(&["predict", "pipeline.toml"]);
    assert_eq!(predictions["predictions"].as_array().unwrap().len(), 30);
    assert_eq!(predictions["predictions"][0]["scores"].as_array().unwrap().len(), 3);
    let accuracy = workspace.json(&["eval", "pipeline.toml"])["evaluation"]["score"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&accuracy));
}

#[test]
fn a_killed_training_goes_on_and_ends_in_the_same_bits() {
    let whole = Workspace::new();
    let killed = Workspace::new();
    for workspace in [&whole, &killed] {
        workspace.edit("pipeline.toml", "epochs = 2", "epochs = 30");
        workspace.edit("pipeline.toml", "[run]", "[resources]\njobs = 1\n\n[run]");
        // The same secret makes the same partition.
        workspace.edit("pipeline.toml", "[store]\n", "[store]\nsecret = \"from-seed\"\n");
    }
    whole.json(&["train", "pipeline.toml"]);
    let mut kills = 0;
    loop {
        let mut child = killed.command().args(["train", "pipeline.toml", "--quiet"]).spawn().unwrap();
        // What counts is what the catalogue names; a file that it does not name yet is none.
        let place = s3t::store::Place::new(killed.path("store"));
        let snapshot = || s3t::store::Store::open_read_only(&place).and_then(|store| store.snapshot());
        let count = || snapshot().map_or(0, |snapshot| snapshot.stages().len());
        let (before, deadline) = (count(), Instant::now() + Duration::from_secs(60));
        // Killed as soon as it has finished one stage more, in the middle of the next.
        while count() == before && child.try_wait().unwrap().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        if child.try_wait().unwrap().is_some_and(|status| status.success()) {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        assert!(kills < 100, "training makes no progress");
    }
    assert!(kills >= 2, "the training was over before it could be killed");
    killed.json(&["train", "pipeline.toml"]);
    let bits = |workspace: &Workspace| workspace.json(&["predict", "pipeline.toml"])["predictions"].to_string();
    assert_eq!(bits(&whole), bits(&killed));
    assert_eq!(killed.json(&["verify", "pipeline.toml", "--scope", "all"])["verification"]["passed"], true);
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_a_state_to_go_on_from() {
    let workspace = Workspace::new();
    workspace.edit("pipeline.toml", "epochs = 2", "epochs = 100000");
    let mut child = workspace.command().args(["train", "pipeline.toml", "--quiet"]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !workspace.path("store/catalogue.db").exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(300));
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(workspace.run(&["status", "pipeline.toml"]).code, 0);
}

#[test]
fn plugins_are_listed_with_their_fields() {
    let workspace = Workspace::new();
    let plugins = workspace.json(&["plugins"]);
    let names: Vec<String> = plugins["plugins"]
        .as_array()
        .unwrap()
        .iter()
        .map(|plugin| format!("{}/{}", plugin["kind"].as_str().unwrap(), plugin["type"].as_str().unwrap()))
        .collect();
    let linked = s3t::core::registry::plugins();
    let of_registry = linked.iter().map(|plugin| {
        let kind = serde_json::to_value(plugin.kind()).unwrap();
        format!("{}/{}", kind.as_str().unwrap(), plugin.name())
    });
    let expected: Vec<String> = of_registry.collect();
    for name in ["partitioner/keyed-hash", "peft-method/lora", "model-family/bert", "executor/local"] {
        assert!(names.iter().any(|listed| listed == name), "{name} is missing: {names:?}");
    }
    assert_eq!(names, expected);
    assert!(workspace.run(&["plugins"]).stdout.contains("rank = 8   The rank r of the update, at least 1."));
}

#[test]
fn the_template_is_a_pipeline_and_is_not_written_over_a_file() {
    let workspace = Workspace::new();
    assert_eq!(workspace.run(&["init", "new.toml"]).code, 0);
    assert_eq!(workspace.run(&["init", "new.toml"]).code, 2);
    // Everything in it is understood; what is missing is the model.
    let ran = workspace.run(&["plan", "new.toml"]);
    assert_eq!(ran.code, 2);
    workspace.edit("new.toml", "path = \"model\"", "path = \"elsewhere\"");
    assert!(workspace.run(&["plan", "new.toml"]).stderr.contains("elsewhere/config.json"));
}

#[test]
fn images_are_answered_for() {
    let workspace = Workspace::new();
    workspace.json(&["train", "pipeline.toml"]);
    let mut image = vec![0; 4 * 4];
    image[5] = 255;
    workspace.write("photo.pgm", "");
    let encoded = s3t_testkit::grey_png(4, 4, &image);
    workspace.write("photo.png", encoded);
    let answer = workspace.json(&["predict", "pipeline.toml", "--image", "photo.png"]);
    assert_eq!(answer["predictions"][0]["id"], "photo.png");
    let ran = workspace.run(&["predict", "pipeline.toml", "--image", "photo.pgm"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("cannot read the image `photo.pgm`"), "{}", ran.stderr);
}

#[test]
fn what_is_exported_is_named_when_a_deletion_supersedes_it_and_a_bare_model_answers_with_it() {
    let workspace = Workspace::new();
    workspace.json(&["train", "pipeline.toml"]);
    std::fs::create_dir(workspace.path("exports")).unwrap();
    let first = workspace.json(&["export", "pipeline.toml", "--to", "exports/first"]);
    assert_eq!((&first["export"]["epoch"], first["export"]["shards"].as_array().unwrap().len()), (&0.into(), 2));
    assert_eq!(first["superseded"], serde_json::json!({ "exports": [], "unreadable": [] }));
    workspace.json(&["delete", "pipeline.toml", "--record", "record-0"]);
    let second = workspace.json(&["export", "pipeline.toml", "--to", "exports/second"]);
    assert_eq!(second["superseded"]["exports"].as_array().unwrap().len(), 1);
    assert!(second["superseded"]["exports"][0][0].as_str().unwrap().ends_with("first"));
    let told = workspace.run(&["export", "pipeline.toml", "--to", "exports/third"]).stdout;
    assert!(told.contains("superseded: `") && told.contains("withdraw its copies"), "{told}");

    assert!(distance_to_exports(&workspace, "exports/second", &[]) < 1e-5);
}

/// The largest distance between the system's scores for a question and the mean of what its two shards' exports give on the bare model,
/// asked with these arguments: each shard's adapter gives that shard's outputs.
fn distance_to_exports(workspace: &Workspace, exports: &str, more: &[&str]) -> f64 {
    let features: Vec<f32> = (0..16).map(|at| at as f32 / 10.0).collect();
    workspace.write("questions.jsonl", format!("{}\n", serde_json::json!({"id": "q", "features": features})));
    let of_shard = |shard: u32| {
        let adapter = format!("{exports}/shard-{shard}");
        let asked = ["predict", "--model", "model", "--adapter", &adapter, "--input", "questions.jsonl"];
        let answer = workspace.json(&[&asked, more].concat());
        assert_eq!(answer["predictions"][0]["id"], "q");
        answer["predictions"][0]["logits"].clone()
    };
    let shards = [0, 1].map(of_shard);
    let system = workspace.json(&["predict", "pipeline.toml", "--input", "questions.jsonl"]);
    let distance = |class: usize| {
        let mean = f64::midpoint(shards[0][class].as_f64().unwrap(), shards[1][class].as_f64().unwrap());
        (mean - system["predictions"][0]["scores"][class].as_f64().unwrap()).abs()
    };
    (0..3).map(distance).fold(0.0, f64::max)
}

#[test]
fn a_bare_model_takes_the_form_of_weights_and_the_precision_of_its_exports() {
    let workspace = Workspace::new();
    let original = std::fs::read_to_string(workspace.path("pipeline.toml")).unwrap();
    for (section, field, form) in
        [("model", "weights", "int8"), ("model", "weights", "nf4"), ("training", "precision", "bf16")]
    {
        workspace.write("pipeline.toml", &original);
        let heading = format!("[{section}]\n");
        workspace.edit("pipeline.toml", &heading, &format!("{heading}{field} = \"{form}\"\n"));
        workspace.json(&["train", "pipeline.toml", "--fresh", "--yes"]);
        workspace.json(&["export", "pipeline.toml", "--to", form]);
        let flag = format!("--{field}");
        assert!(distance_to_exports(&workspace, form, &[&flag, form]) < 1e-5, "{form}");
        assert!(distance_to_exports(&workspace, form, &[]) > 1e-5, "{form}");
    }

    let asked = ["predict", "--model", "model", "--adapter", "nf4/shard-0", "--input", "questions.jsonl"];
    for (more, problem) in [
        (["--weights", "int4"], "expected one of `full`, `int8`, `nf4`"),
        (["--precision", "f16"], "expected `f32` or `bf16`"),
    ] {
        let ran = workspace.run(&[&asked[..], &more].concat());
        assert_eq!(ran.code, 2);
        assert!(ran.stderr.contains(problem), "{}", ran.stderr);
    }
    for (flag, form, device, problem) in [
        ("--weights", "int8", "vulkan", "--weights is \"int8\", which is for the device `flex`"),
        ("--precision", "bf16", "wgpu", "--precision is \"bf16\", which the device `wgpu` does not have"),
    ] {
        let ran = workspace.run(&[&asked[..], &[flag, form, "--device", device]].concat());
        assert_eq!(ran.code, 2);
        assert!(ran.stderr.contains(problem), "{}", ran.stderr);
    }
}
