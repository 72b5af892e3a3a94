//! `s3t train --detach` and `--attach`: a training that goes on without its terminal.
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::workspace::Workspace;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

fn slow(epochs: usize) -> Workspace {
    let workspace = Workspace::new();
    workspace.edit("pipeline.toml", "epochs = 2", &format!("epochs = {epochs}"));
    workspace.edit("pipeline.toml", "[store]\n", "[store]\nsecret = \"from-seed\"\n");
    workspace
}

fn detach(workspace: &Workspace) -> Pid {
    let answer = workspace.json(&["train", "pipeline.toml", "--detach"]);
    Pid::from_raw(i32::try_from(answer["detached"]["process"].as_i64().unwrap()).unwrap()).unwrap()
}

fn attach(workspace: &Workspace) -> Child {
    let mut command = workspace.command();
    command.args(["train", "pipeline.toml", "--attach"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_detached_training_goes_on_without_its_terminal_and_is_told_to_whoever_attaches() {
    let workspace = slow(300);
    let logged = ["--log", "s3t_engine=trace,info", "--log-file", "diagnostics", "--log-format", "json"];
    let answer = workspace.json(&[&["train", "pipeline.toml", "--detach"], &logged[..]].concat());
    let owner = Pid::from_raw(i32::try_from(answer["detached"]["process"].as_i64().unwrap()).unwrap()).unwrap();
    // The diagnostics are those of the process that trains.
    wait_until("no diagnostics", || {
        std::fs::read(workspace.path("diagnostics")).is_ok_and(|log| log.starts_with(b"{"))
    });
    // It stands still, so that it is in the middle of its work for as long as this takes.
    kill_process(owner, Signal::STOP).unwrap();
    // A session of its own: nothing that a terminal sends reaches it.
    assert_eq!(rustix::process::getsid(Some(owner)).unwrap(), owner);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&workspace.path("store.training").metadata().unwrap().permissions());
    assert_eq!(mode & 0o77, 0);
    // Ctrl-C on an attached terminal ends what is attached.
    let mut attached = attach(&workspace);
    kill_process(Pid::from_child(&attached), Signal::INT).unwrap();
    // Where this test itself runs in the background, programs ignore that.
    kill_process(Pid::from_child(&attached), Signal::TERM).unwrap();
    assert!(!attached.wait().unwrap().success());
    test_kill_process(owner).unwrap();
    // A second training, and a second detached one, say what runs.
    for more in [&["--json"][..], &["--detach", "--json"]] {
        let second = workspace.run(&[&["train", "pipeline.toml"], more].concat());
        assert_eq!(second.code, 6, "{}{}", second.stdout, second.stderr);
        let words = format!("process {} trains this store in the background", owner.as_raw_nonzero());
        assert!(second.stderr.contains(&words) && second.stderr.contains("--attach"), "{}", second.stderr);
    }
    kill_process(owner, Signal::CONT).unwrap();
    let ended = workspace.run(&["train", "pipeline.toml", "--attach"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout.contains("stages trained, 0 reused"), "{}", ended.stdout);
    assert!(ended.stderr.contains(" of "), "{}", ended.stderr);
    // Whoever attaches later learns the same, and the store is that of a training in the foreground.
    let again = workspace.json(&["train", "pipeline.toml", "--attach"]);
    assert_eq!(again["training"]["report"]["reused"], 0);
    let twin = slow(300);
    twin.json(&["train", "pipeline.toml"]);
    let answers = |workspace: &Workspace| workspace.json(&["predict", "pipeline.toml"])["predictions"].clone();
    assert_eq!(answers(&workspace), answers(&twin));
    // The owner is gone: anybody may train.
    assert_eq!(workspace.json(&["train", "pipeline.toml"])["training"]["report"]["trained"], 0);
}

#[test]
fn an_owner_that_is_stopped_or_killed_or_fails_has_its_exit_code_and_the_same_command_goes_on() {
    let workspace = slow(100_000);
    let attached = |code: i32| {
        let ran = workspace.run(&["train", "pipeline.toml", "--attach", "--json"]);
        assert_eq!(ran.code, code, "{}{}", ran.stdout, ran.stderr);
        let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
        answer["error"].as_str().unwrap().to_owned()
    };
    assert!(attached(2).contains("nothing trains the store of pipeline.toml in the background"));
    for (signal, code, words) in [
        (Signal::TERM, 130, "stopped before stage"),
        (Signal::KILL, 1, "was ended before it was done; finished stages are kept"),
    ] {
        let owner = detach(&workspace);
        let mut follows = attach(&workspace);
        wait_until("it trains nothing", || {
            std::fs::read_to_string(workspace.path("store.training/log"))
                .is_ok_and(|log| log.contains("stages to train"))
        });
        kill_process(owner, signal).unwrap();
        assert_eq!(follows.wait().unwrap().code(), Some(code));
        let said = attached(code);
        assert!(said.contains(words), "{said}");
    }
    workspace.edit("pipeline.toml", "epochs = 100000", "epochs = 2");
    workspace.edit("pipeline.toml", "train.jsonl", "nowhere.jsonl");
    // It fails in the background, in the same words as in the foreground.
    std::fs::remove_dir_all(workspace.path("store")).unwrap();
    std::fs::remove_dir_all(workspace.path("store.keys")).unwrap();
    detach(&workspace);
    workspace.run(&["train", "pipeline.toml", "--attach"]);
    let foreground = workspace.run(&["train", "pipeline.toml", "--json"]);
    let answer: Value = serde_json::from_str(&foreground.stdout).unwrap();
    assert_eq!(attached(foreground.code), answer["error"].as_str().unwrap());
}
