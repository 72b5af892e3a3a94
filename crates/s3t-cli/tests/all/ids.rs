//! Ids as people have them in files and in lists, through the program.

use crate::workspace::Workspace;

/// Writes the workspace's training data with other ids and subjects in its first lines.
fn with_ids(workspace: &Workspace, ids: &[(&str, &str)]) {
    let text = std::fs::read_to_string(workspace.path("train.jsonl")).unwrap();
    let mut lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (line, (id, subject)) in lines.iter_mut().zip(ids) {
        line["id"] = (*id).into();
        line["subject"] = (*subject).into();
    }
    let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    workspace.write("train.jsonl", lines.join("\n"));
    assert_eq!(workspace.run(&["train", "pipeline.toml"]).code, 0);
}

fn deleted(answer: &serde_json::Value) -> Vec<&str> {
    answer["deletion"]["records"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect()
}

#[test]
fn lists_name_ids_as_they_are() {
    let workspace = Workspace::new();
    with_ids(&workspace, &[("a ", "ann"), ("b", "bob\u{a0}"), ("\u{feff}c", "cleo"), (" d", "dan"), ("e", "eve")]);
    workspace.write("list.txt", "\u{feff}a \r\n\r\n\u{feff}c\r\n d\r\n");
    let answer = workspace.json(&["delete", "pipeline.toml", "--records-from", "list.txt"]);
    assert_eq!(deleted(&answer), [" d", "a ", "\u{feff}c"]);
    assert_eq!(answer["deletion"]["other_spellings"], serde_json::json!([]));
    workspace.write("list.txt", "\u{feff}bob\u{a0}\r\neve\r\n");
    let answer = workspace.json(&["delete", "pipeline.toml", "--subjects-from", "list.txt"]);
    assert_eq!(deleted(&answer), ["b", "e"]);
    // A blank line is an id of blanks, which is not there.
    workspace.write("list.txt", "record-9\n \n");
    let ran = workspace.run(&["delete", "pipeline.toml", "--records-from", "list.txt"]);
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("unknown record `\\u{20}`; nothing was deleted"), "{}", ran.stderr);
    assert_eq!(deleted(&workspace.json(&["delete", "pipeline.toml", "--record", "record-9"])), ["record-9"]);
}

#[test]
fn standard_input_is_a_list_too() {
    use std::io::Write;
    let workspace = Workspace::new();
    with_ids(&workspace, &[("a ", "ann")]);
    let run = |text: &str| {
        let mut command = workspace.command();
        command.args(["delete", "pipeline.toml", "--records-from", "-"]);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
        let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, told) = run("a\n");
    assert_eq!(code, Some(3));
    assert!(told.contains("unknown record `a`; nothing was deleted. There is `a\\u{20}`, which differs"), "{told}");
    let (code, told) = run("a \nb\tc\n");
    assert_eq!(code, Some(2));
    assert!(told.contains("`standard input` line 2: invalid record id"), "{told}");
    assert_eq!(run("\u{feff}a \r\n").0, Some(0));
}

#[test]
fn an_audit_does_not_pass_for_another_spelling() {
    let workspace = Workspace::new();
    with_ids(&workspace, &[("a", "user-17 "), ("b", "Jos\u{e9}")]);
    let audit =
        |flag: &str, id: &str| workspace.run(&["audit", "pipeline.toml", "--scope", "lineages", flag, id, "--json"]);
    for (flag, id, told) in [
        (
            "--absent-subject",
            "user-17",
            "its subject `user-17\\\\u{20}` differs from `user-17`, which must be gone, only in",
        ),
        ("--absent-subject", "Jose\u{301}", "its subject `Jos\\\\u{e9}` differs from `Jose\\\\u{301}`"),
        ("--absent-record", "a\u{200b}", "its record `a` differs from `a\\\\u{200b}`"),
    ] {
        let ran = audit(flag, id);
        assert_eq!(ran.code, 5, "{id}");
        assert!(ran.stdout.contains(told), "{}", ran.stdout);
    }
    assert_eq!(audit("--absent-subject", "user-1").code, 0);
    workspace.json(&["delete", "pipeline.toml", "--subject", "user-17 "]);
    assert_eq!(audit("--absent-subject", "user-17").code, 0);
}

#[test]
fn numbers_as_labels_are_the_classes_of_their_names() {
    let scores = |quoted: bool| {
        let workspace = Workspace::new();
        workspace.edit("pipeline.toml", "[\"class-0\", \"class-1\", \"class-2\"]", "[\"1\", \"0\", \"2\"]");
        workspace.edit("pipeline.toml", "path = \"store\"", "path = \"store\"\nsecret = \"from-seed\"");
        for file in ["train.jsonl", "test.jsonl"] {
            let text = std::fs::read_to_string(workspace.path(file)).unwrap();
            let number = |class: &str| if quoted { format!("\"{class}\"") } else { class.to_owned() };
            let text = ["0", "1", "2"]
                .iter()
                .fold(text, |text, class| text.replace(&format!("\"class-{class}\""), &number(class)));
            workspace.write(file, text);
        }
        assert_eq!(workspace.run(&["train", "pipeline.toml"]).code, 0);
        workspace.json(&["predict", "pipeline.toml"])["predictions"].clone()
    };
    assert_eq!(scores(true), scores(false));
}
