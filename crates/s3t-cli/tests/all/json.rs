//! The program's `--json` of every command: described by docs/api.schema.json, read back by the types of `s3t::api`, and equal to the
//! answers of `s3t::api` without the program.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Stdio;

use crate::workspace::{Workspace, repository};
use boon::{Compiler, Schemas};
use s3t::api::{self, FailedAnswer, Reply};
use s3t::engine::Quiet;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The schema of docs/, to hold answers against.
struct Described {
    schema: Value,
    seen: BTreeSet<String>,
}

impl Described {
    fn new() -> Self {
        let text = std::fs::read_to_string(repository().join("docs/api.schema.json")).unwrap();
        Self { schema: serde_json::from_str(&text).unwrap(), seen: BTreeSet::new() }
    }

    /// Checks an answer against the schema of its command.
    #[track_caller]
    fn check(&mut self, command: &str, answer: &Value) {
        assert!(self.schema["properties"][command].is_object(), "the schema has no `{command}`");
        let pointer = format!("api.json#/properties/{}", command.replace(' ', "%20"));
        let mut compiler = Compiler::new();
        compiler.add_resource("api.json", self.schema.clone()).unwrap();
        let mut schemas = Schemas::new();
        let compiled = compiler.compile(&pointer, &mut schemas).unwrap();
        if let Err(error) = schemas.validate(answer, compiled) {
            panic!("`s3t {command} --json` is not as docs/api.schema.json describes it: {error:#}\n{answer:#}");
        }
        self.seen.insert(command.to_owned());
    }
}

/// Reads an answer back by its type: every field of the program's output is one of the type's.
#[track_caller]
fn typed<A: Reply>(printed: &Value) -> A {
    let answer: A = serde_json::from_value(printed.clone()).unwrap();
    assert_eq!(&serde_json::to_value(&answer).unwrap(), printed, "the type has other fields than the program prints");
    answer
}

/// An answer without the fields that no two calls have in common, and with paths as the program in the workspace has them.
fn comparable(answer: &impl serde::Serialize, workspace: &Workspace) -> Value {
    fn strip(value: &mut Value, root: &str) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, _| !name.ends_with("seconds") && !["newest_entry", "store_id"].contains(&&**name));
                fields.values_mut().for_each(|value| strip(value, root));
            }
            Value::Array(values) => values.iter_mut().for_each(|value| strip(value, root)),
            Value::String(text) => *text = text.replace(root, ""),
            _ => {}
        }
    }
    // By way of text, as the program's: a parsed number may have another last bit than the printed one.
    let text = serde_json::to_value(answer).unwrap().to_string();
    let mut value = serde_json::from_str(&text).unwrap();
    strip(&mut value, &format!("{}/", workspace.path("").display().to_string().trim_end_matches('/')));
    value
}

/// A request for the workspace's pipeline.
fn request<R: DeserializeOwned>(workspace: &Workspace, mut fields: Value) -> R {
    fields["pipeline"] = json!(workspace.path("pipeline.toml"));
    serde_json::from_value(fields).unwrap()
}

/// A workspace whose store is the same wherever it is made.
fn public_workspace() -> Workspace {
    let workspace = Workspace::new();
    workspace.edit("pipeline.toml", "path = \"store\"", "path = \"store\"\nsecret = \"from-seed\"");
    workspace
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, a paragraph a command")]
fn every_command_prints_what_the_schema_describes_and_the_api_answers() {
    let mut described = Described::new();
    // The program works in the first workspace, the requests without it in the second.
    let (ours, other) = (public_workspace(), public_workspace());
    // Links the plugins, as the program does.
    let _ = s3t::plugins::lora::Lora::default();

    let mut same = |command: &str, printed: &Value, answered: &Value| {
        described.check(command, printed);
        let (printed, answered) = (comparable(printed, &ours), comparable(answered, &other));
        assert_eq!(printed, answered, "`s3t {command}` and the answer of the API");
    };
    macro_rules! same {
        ($command:literal, $kind:ty, $printed:expr, $answered:expr) => {{
            let printed = $printed;
            let _: $kind = typed(&printed);
            let answered: $kind = $answered.unwrap();
            same($command, &printed, &serde_json::to_value(&answered).unwrap());
        }};
    }

    same!(
        "train",
        api::TrainAnswer,
        ours.json(&["train", "pipeline.toml"]),
        api::train(&request(&other, json!({})), &Quiet)
    );
    same!(
        "status",
        api::StatusAnswer,
        ours.json(&["status", "pipeline.toml"]),
        api::status(&request(&other, json!({})))
    );
    same!("eval", api::EvalAnswer, ours.json(&["eval", "pipeline.toml"]), api::evaluate(&request(&other, json!({}))));
    same!(
        "predict",
        api::PredictAnswer,
        ours.json(&["predict", "pipeline.toml", "--limit", "4"]),
        api::predict(&request(&other, json!({ "limit": 4 })))
    );
    let exported = ours.json(&["export", "pipeline.toml", "--to", "exports/first"]);
    let export = api::export(&request(&other, json!({ "to": other.path("exports/first") }))).unwrap();
    let _: api::ExportAnswer = typed(&exported);
    // The store has a random name of its own.
    let without_name = |mut answer: Value| {
        answer["export"]["store"] = json!("");
        answer
    };
    same("export", &without_name(exported), &without_name(serde_json::to_value(&export).unwrap()));
    same!(
        "delete",
        api::DeleteAnswer,
        ours.json(&[
            "delete",
            "pipeline.toml",
            "--subject",
            "subject-2",
            "--request-id",
            "ticket-1",
            "--receipt",
            "receipt.json"
        ]),
        api::delete(&request(
            &other,
            json!({ "subjects": ["subject-2"], "request_id": "ticket-1", "receipt": other.path("receipt.json") })
        ))
    );
    same!(
        "repair",
        api::RepairAnswer,
        ours.json(&["repair", "pipeline.toml"]),
        api::repair(&request(&other, json!({})), &Quiet)
    );
    same!(
        "verify",
        api::VerifyAnswer,
        ours.json(&["verify", "pipeline.toml", "--scope", "all"]),
        api::verify(&request(&other, json!({ "scope": "all" })), &Quiet)
    );
    same!(
        "store check",
        api::StoreCheckAnswer,
        ours.json(&["store", "check", "pipeline.toml"]),
        api::check_store(&request(&other, json!({})))
    );
    same!("plugins", api::PluginsAnswer, ours.json(&["plugins"]), Ok::<_, api::ApiError>(api::plugins()));

    // The same file for both: receipts and audits are signed with the store's own key.
    let receipt = ours.path("receipt.json");
    let key = ours.path("store/ledger/key.pub").display().to_string();
    let shown = ours.json(&["receipt", "show", "receipt.json"]);
    let _: api::ReceiptAnswer = typed(&shown);
    let show = api::show_receipt(&api::ShowReceiptRequest { receipt: receipt.clone() }).unwrap();
    assert_eq!(shown, serde_json::to_value(&show).unwrap());
    let proven = ours.json(&["receipt", "verify", "receipt.json", "--key", &key]);
    let _: api::VerifiedReceiptAnswer = typed(&proven);
    let prove = api::VerifyReceiptRequest { receipt, key, records: Vec::new(), subjects: Vec::new() };
    assert_eq!(proven, serde_json::to_value(api::verify_receipt(&prove).unwrap()).unwrap());
    let audited = ours.json(&["audit", "pipeline.toml", "--receipt", "receipt.json"]);
    let _: api::AuditAnswer = typed(&audited);
    let audit = api::audit(&request(&ours, json!({ "receipts": [ours.path("receipt.json")] })), &Quiet).unwrap();
    assert_eq!(comparable(&audited, &ours), comparable(&audit, &ours));

    // Figures of a system by flags, which need no store.
    let flags = ["--shards", "2", "--slices", "3", "--budget", "2", "--records", "600"];
    let sizes = |more: Value| {
        let mut fields = json!({ "shards": 2, "slices": 3, "budget": 2, "records": 600 });
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fields
    };
    let by_flags = |command: &str, more: &[&str]| ours.json(&[&[command][..], &flags, more].concat());
    macro_rules! planned {
        ($command:literal, $kind:ty, $flags:expr, $fields:expr, $answer:path) => {
            same!(
                $command,
                $kind,
                by_flags($command, $flags),
                $answer(&serde_json::from_value(sizes($fields)).unwrap())
            )
        };
    }
    planned!("plan", api::PlanAnswer, &[], json!({}), api::plan);
    planned!("advise", api::AdviseAnswer, &["--max-shards", "2"], json!({ "max_shards": 2 }), api::advise);
    planned!("simulate", api::SimulateAnswer, &["--trials", "200"], json!({ "trials": 200 }), api::simulate);
    planned!(
        "compare-sequences",
        api::CompareAnswer,
        &["--strategies", "cyclic"],
        json!({ "strategies": ["cyclic"] }),
        api::compare_sequences
    );

    // The whole story, over stores that were made anew.
    same!(
        "run",
        api::RunAnswer,
        ours.json(&["run", "pipeline.toml", "--fresh", "--yes"]),
        api::run(&request(&other, json!({ "start": "fresh-despite-deletions" })), &Quiet)
    );

    for (command, printed) in [("receipt show", &shown), ("receipt verify", &proven), ("audit", &audited)] {
        described.check(command, printed);
    }
    let refused = ours.run(&["store", "forget-export", "pipeline.toml", "exports/none", "--json"]);
    let failed: Value = serde_json::from_str(&refused.stdout).unwrap();
    described.check("failed", &failed);
    let failed: FailedAnswer = serde_json::from_value(failed).unwrap();
    assert_eq!((i32::from(failed.exit_code), failed.kind), (refused.code, api::ErrorKind::Unknown));
    let answer = api::ForgetExportAnswer { forgotten: 1 };
    described.check("store forget-export", &serde_json::to_value(answer).unwrap());

    let model = repository().join("crates/s3t-cli/tests/golden/bases/bert");
    let question = json!({ "text": "a good film" }).to_string();
    ours.write("questions.jsonl", question);
    let bare = ours.json(&["predict", "--model", &model.display().to_string(), "--input", "questions.jsonl"]);
    let _: api::ModelAnswer = typed(&bare);
    described.check("predict --model", &bare);
    let questions = api::Questions { input: Some(ours.path("questions.jsonl")), ..api::Questions::default() };
    let ask = json!({ "model": model, "input": questions.input });
    let answered = api::predict_with_model(&serde_json::from_value(ask).unwrap()).unwrap();
    assert_eq!(bare, serde_json::to_value(&answered).unwrap());
    let fresh = Workspace::new();
    described.check("attack", &fresh.json(&["attack", "pipeline.toml", "--members", "10"]));
    let compared = fresh.json(&["compare-methods", "pipeline.toml", "--method", "sisa", "--forget", "5"]);
    described.check("compare-methods", &compared);
    check_language(&mut described);
    check_all_described(&described);
}

/// The commands of language models, on the bundled one.
fn check_language(described: &mut Described) {
    let workspace = Workspace::new();
    let row = |row: usize| {
        let (word, letter) = [("one", "o"), ("three", "t"), ("old", "o"), ("end", "e")][row % 4];
        let text = json!({ "id": format!("row-{row}"), "text": format!("With which letter does {word} begin?"), "label": letter });
        text.to_string()
    };
    workspace.write("words.jsonl", (0..8).map(row).collect::<Vec<_>>().join("\n"));
    let source = |section: &str| {
        format!(
            "[data.{section}]\ntype = \"jsonl\"\nfile = \"words.jsonl\"\nid = \"id\"\ntext = \"text\"\nlabel = \"label\"\n"
        )
    };
    let model = repository().join("data/llama-tiny");
    workspace.write(
        "language.toml",
        format!(
            "[model]\npath = {:?}\n[store]\npath = \"language\"\n[data]\ntask = \"causal-lm\"\n{}{}[partition]\ntype = \"keyed-hash\"\n\
             shards = 1\nslices = 1\n[sequences]\ntype = \"cyclic\"\nbudget = 1\n[peft]\ntype = \"lora\"\nrank = 2\n\
             [training]\nepochs = 1\nbatch_size = 4\nlearning_rate = 1e-3\n",
            model.display().to_string(),
            source("train"),
            source("test")
        ),
    );
    workspace.json(&["train", "language.toml"]);

    let mut command = workspace.command();
    command.args(["chat", "language.toml", "--max-new-tokens", "4", "--json"]);
    let mut running = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    running.stdin.take().unwrap().write_all(b"hello\n/new\nand now?\n").unwrap();
    let ended = running.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let printed: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let api::ChatAnswer { turns } = typed(&printed);
    let users: Vec<&str> = turns.iter().map(|turn| turn.user.as_str()).collect();
    assert_eq!((users, turns[1].new_tokens <= 4), (vec!["hello", "and now?"], true));
    described.check("chat", &printed);

    workspace.write(
        "task.toml",
        "kind = \"generate\"\ndata = \"words.jsonl\"\nid = \"id\"\nprompt = \"{text}\"\ntarget = \"{label}\"\nmax_new_tokens = 2\n",
    );
    let judged = workspace.json(&["eval", "language.toml", "--task", "task.toml", "--samples"]);
    let _: api::TaskAnswer = typed(&judged);
    described.check("eval --task", &judged);

    workspace.write("canaries.toml", "[extraction]\nprefix_tokens = 0\n");
    let recited = workspace.json(&["eval", "language.toml", "--memorisation", "canaries.toml"]);
    let _: api::MemorisationAnswer = typed(&recited);
    described.check("eval --memorisation", &recited);
}

/// Checks that no command of the schema was left out.
#[track_caller]
fn check_all_described(described: &Described) {
    let commands = described.schema["properties"].as_object().unwrap().keys();
    let unseen: Vec<&String> = commands.filter(|command| !described.seen.contains(*command)).collect();
    assert!(unseen.is_empty(), "no output was held against the schema of {unseen:?}");
}
