//! `s3t serve` and `s3t token`, as their users run them.

use std::time::{Duration, Instant};

use crate::workspace::Workspace;
use crate::workspace::served::{Served, question};
use rustix::process::Signal;
use serde_json::{Value, json};

#[test]
fn a_trained_store_answers_deletes_and_stops_when_it_is_told() {
    let workspace = Workspace::new();
    assert_eq!(workspace.run(&["serve", "pipeline.toml"]).code, 6, "there is no store yet");
    workspace.json(&["train", "pipeline.toml"]);
    let ask = workspace.json(&["token", "create", "pipeline.toml", "--name", "shop", "--role", "ask"]);
    let ask = ask["token"].as_str().unwrap().to_owned();
    let mut served = Served::start(&workspace, &[]);
    assert_eq!(served.ask("POST", "/predict", &ask, &question()).unwrap().0, 200);
    assert_eq!(served.ask("POST", "/deletions", &ask, &json!({ "records": ["record-1"] })).unwrap().0, 403);
    // A token that is made and one that is revoked while the server runs, read on SIGHUP.
    let desk = ["token", "create", "pipeline.toml", "--name", "desk", "--role", "delete", "--role", "audit"];
    let desk = workspace.json(&desk)["token"].as_str().unwrap().to_owned();
    let listed = workspace.json(&["token", "list", "pipeline.toml"]);
    let shop = listed["tokens"].as_array().unwrap().iter().find(|token| token["name"] == "shop").unwrap();
    assert_eq!(workspace.run(&["token", "revoke", "pipeline.toml", shop["id"].as_str().unwrap()]).code, 0);
    served.signal(Signal::HUP);
    let start = Instant::now();
    while served.ask("POST", "/predict", &ask, &question()).unwrap().0 != 401 {
        assert!(start.elapsed() < Duration::from_secs(30), "the revoked token is still taken");
    }
    let deletion = json!({ "request_id": "ticket-1", "subjects": ["subject-1"] });
    let (status, state) = served.ask("POST", "/deletions", &desk, &deletion).unwrap();
    assert_eq!((status, &state["epoch"]), (201, &json!(1)));
    served.signal(Signal::TERM);
    assert!(served.child.wait().unwrap().success());
    // The command line knows what the server did.
    let again = workspace.json(&["delete", "pipeline.toml", "--subject", "subject-1", "--request-id", "ticket-1"]);
    assert_eq!(again["deletion"]["repeated"], true);
    assert_eq!(workspace.run(&["store", "check", "pipeline.toml"]).code, 0);
}

#[test]
fn no_acknowledged_deletion_is_lost_when_the_server_is_killed() {
    const KILLS: u64 = 12;
    let workspace = Workspace::new();
    workspace.json(&["train", "pipeline.toml"]);
    let mut acknowledged: Vec<(String, u64)> = Vec::new();
    for round in 0..KILLS {
        let served = Served::start(&workspace, &[]);
        std::thread::scope(|scope| {
            let killer = scope.spawn(|| {
                // Somewhere between the arrival of a request and the end of its erasure.
                std::thread::sleep(Duration::from_millis(7 * round));
                served.signal(Signal::KILL);
            });
            for record in 0..60 {
                let id = format!("request-{record}");
                if acknowledged.iter().any(|(known, _)| *known == id) {
                    continue;
                }
                let body = json!({ "request_id": id, "records": [format!("record-{record}")] });
                match served.ask("POST", "/deletions", "", &body) {
                    Some((201, state)) => acknowledged.push((id, state["epoch"].as_u64().unwrap())),
                    Some((status, state)) => panic!("{status}: {state}"),
                    None => break,
                }
            }
            killer.join().unwrap();
        });
    }
    assert!(!acknowledged.is_empty());
    let served = Served::start(&workspace, &[]);
    for (id, epoch) in &acknowledged {
        let record = id.replace("request", "record");
        let body = json!({ "request_id": id, "records": [record] });
        let (status, state) = served.ask("POST", "/deletions", "", &body).unwrap();
        assert_eq!((status, state["epoch"].as_u64()), (201, Some(*epoch)), "{id} was acknowledged");
        let start = Instant::now();
        while served.ask("GET", &format!("/deletions/{id}"), "", &Value::Null).unwrap().1["phase"] != "erased" {
            assert!(start.elapsed() < Duration::from_secs(60), "{id} is not erased");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    drop(served);
    assert_eq!(workspace.run(&["store", "check", "pipeline.toml"]).code, 0);
    let absent: Vec<String> = acknowledged.iter().map(|(id, _)| id.replace("request", "record")).collect();
    let audit = absent.iter().flat_map(|record| ["--absent-record", record.as_str()]);
    let audit: Vec<&str> = ["audit", "pipeline.toml"].into_iter().chain(audit).collect();
    assert_eq!(workspace.run(&audit).code, 0);
}

/// A follower with the leader's model and no store.
fn follower(workspace: &Workspace, leader: &Served, token: &str) -> Served {
    std::fs::write(workspace.path("leader.token"), token).unwrap();
    let text = std::fs::read_to_string(workspace.path("pipeline.toml")).unwrap();
    std::fs::write(workspace.path("follower.toml"), text.replace("\"store\"", "\"nothing\"")).unwrap();
    let mut command = workspace.command();
    command.args(["serve", "follower.toml", "--address", "127.0.0.1:0", "--stop-delay-seconds", "0"]);
    command.args(["--follow", &format!("http://{}", leader.address), "--follow-token-file", "leader.token"]);
    Served::spawn(command)
}

fn wait_until_ready(served: &Served, epoch: u64) {
    let start = Instant::now();
    loop {
        let ready = served.ask("GET", "/readyz", "", &Value::Null).unwrap();
        if ready == (200, json!({ "epoch": epoch })) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "still {ready:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_follower_that_is_killed_in_the_middle_of_a_deletion_does_not_hold_it_up_for_ever_and_comes_back() {
    let workspace = Workspace::new();
    workspace.json(&["train", "pipeline.toml"]);
    let create = |roles: &[&str]| {
        let mut args = vec!["token", "create", "pipeline.toml", "--name", "test"];
        args.extend(roles.iter().flat_map(|role| ["--role", role]));
        workspace.json(&args)["token"].as_str().unwrap().to_owned()
    };
    let (all, follow) = (create(&["ask", "delete", "audit"]), create(&["follow"]));
    let leader = Served::start(&workspace, &["--lease-seconds", "1.5"]);
    let mut following = follower(&workspace, &leader, &follow);
    wait_until_ready(&following, 0);
    let before = following.ask("POST", "/predict", "", &question()).unwrap();
    assert_eq!(before, leader.ask("POST", "/predict", &all, &question()).unwrap());
    for epoch in 1..=3 {
        // Stopped, it has a lease and cannot confirm; killed, it never will.
        following.signal(Signal::STOP);
        std::thread::scope(|scope| {
            let (leader, all) = (&leader, &all);
            let deletion = scope.spawn(move || {
                let body = json!({ "request_id": format!("ticket-{epoch}"), "records": [format!("record-{epoch}")] });
                leader.ask("POST", "/deletions", all, &body)
            });
            let path = format!("/deletions/ticket-{epoch}");
            let start = Instant::now();
            loop {
                let state = leader.ask("GET", &path, all, &Value::Null).unwrap();
                if state.1["phase"] == "accepted" || deletion.is_finished() {
                    break;
                }
                assert!(start.elapsed() < Duration::from_secs(60), "still {state:?}");
            }
            following.signal(Signal::KILL);
            let (status, body) = deletion.join().unwrap().unwrap();
            assert_eq!(status, 201, "{body}");
        });
        // So that something is left for the next ones to cut.
        workspace.json(&["repair", "pipeline.toml"]);
        following = follower(&workspace, &leader, &follow);
        wait_until_ready(&following, epoch);
        let (own, theirs) = (
            following.ask("POST", "/predict", "", &question()).unwrap(),
            leader.ask("POST", "/predict", &all, &question()).unwrap(),
        );
        assert_eq!(own, theirs);
    }
    // One that wakes up after a deletion was complete refuses until it knows of it.
    following.signal(Signal::STOP);
    let body = json!({ "request_id": "ticket-4", "records": ["record-4"] });
    assert_eq!(leader.ask("POST", "/deletions", &all, &body).unwrap().0, 201);
    following.signal(Signal::CONT);
    let start = Instant::now();
    loop {
        match following.ask("POST", "/predict", "", &question()).unwrap() {
            (503, refused) => assert!(start.elapsed() < Duration::from_secs(120), "still {refused}"),
            (200, answer) => {
                assert_eq!(answer, leader.ask("POST", "/predict", &all, &question()).unwrap().1);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    wait_until_ready(&following, 4);
    // Its folder holds nothing.
    assert!(!workspace.path("nothing").exists() && !workspace.path("nothing.server").exists());
}
