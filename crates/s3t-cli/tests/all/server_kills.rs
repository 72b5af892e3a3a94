//! The crash law for the server: SIGKILL at any moment, under load, with deletions by both interfaces, callbacks and repair going on.
//! 20 kills; more with `S3T_SOAK=N` (kills).
#[path = "../../../s3t-server/tests/all/controller/mod.rs"]
mod controller;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::workspace::served::{Served, question};
use crate::workspace::{Workspace, repository};
use controller::Controller;
use rustix::process::Signal;
use serde_json::{Value, json};

/// The kills of a round; each round has a store of its own, since its records are deleted.
const KILLS: usize = 10;

/// The deletions of a round.
const DELETIONS: usize = 24;

#[test]
fn no_kill_of_the_server_loses_a_deletion_or_a_callback() {
    let kills = std::env::var("S3T_SOAK").ok().and_then(|kills| kills.parse().ok()).unwrap_or(2 * KILLS);
    let (mut killed, mut acknowledged, mut answers) = (0, 0, 0);
    for round in 0..kills.div_ceil(KILLS) {
        let played = Round::new(round as u64).play();
        killed += played.kills;
        acknowledged += played.acknowledged;
        answers += played.answers;
    }
    say(&format!("{killed} kills, {acknowledged} acknowledged deletions, {answers} answers"));
    assert!(killed >= kills && acknowledged > 0 && answers > 0, "{killed} {acknowledged} {answers}");
}

#[allow(clippy::print_stdout, reason = "a soak says what it did")]
fn say(text: &str) {
    println!("{text}");
}

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// The outcome of a round.
struct Played {
    kills: usize,
    acknowledged: usize,
    answers: usize,
}

struct Round {
    numbers: Numbers,
    served: Workspace,
    twin: Workspace,
    controller: Controller,
}

/// A server that repairs behind the answers.
fn start(workspace: &Workspace) -> Served {
    Served::start(workspace, &["--repair"])
}

/// A deletion by either interface: the path, the body and the path of its state.
fn deletion(port: u16, number: usize) -> (&'static str, Value, String) {
    if number.is_multiple_of(2) {
        let body = json!({ "request_id": format!("request-{number}"), "records": [format!("record-{number}")] });
        return ("/deletions", body, format!("/deletions/request-{number}"));
    }
    let id = format!("a7551968-d5d6-44b2-9831-{number:012}");
    let body = json!({
        "regulation": "gdpr",
        "subject_request_id": id,
        "subject_request_type": "erasure",
        "submitted_time": "2026-11-26T09:00:00Z",
        "subject_identities": [{
            "identity_type": "controller_customer_id",
            "identity_value": format!("subject-{number}"),
            "identity_format": "raw",
        }],
        "status_callback_urls": [format!("https://localhost:{}/told", port)],
    });
    ("/v2/requests", body, format!("/v2/requests/{id}"))
}

impl Round {
    fn new(round: u64) -> Self {
        let controller = Controller::start(|_| 204);
        let workspaces = [Workspace::new(), Workspace::new()];
        for workspace in &workspaces {
            workspace.edit("pipeline.toml", "[store]\n", "[store]\nsecret = \"from-seed\"\n");
            workspace.write("authority.pem", &controller.authority);
            let keys = repository().join("crates/s3t-server/tests/opendsr-key");
            let section = format!(
                "\n[server.opendsr]\ndomain = \"dsr.example.com\"\ncertificate = \"{}\"\nkey = \"{}\"\n\
                 callback_hosts = [\"localhost:{}\"]\ncallback_authorities = \"authority.pem\"\n",
                keys.join("cert.pem").display(),
                keys.join("key.pem").display(),
                controller.port
            );
            workspace.append("pipeline.toml", &section);
            workspace.json(&["train", "pipeline.toml"]);
        }
        let [served, twin] = workspaces;
        Self { numbers: Numbers(round), served, twin, controller }
    }

    fn play(mut self) -> Played {
        let port = self.controller.port;
        let (next, answers) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut acknowledged: BTreeSet<usize> = BTreeSet::new();
        for _ in 0..KILLS {
            let lives = Duration::from_micros(2000 * self.numbers.below(200));
            let served = start(&self.served);
            let is_over = AtomicBool::new(false);
            let made = std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        while !is_over.load(Ordering::SeqCst) {
                            if let Some((200, ..)) = served.ask("POST", "/predict", "", &question()) {
                                answers.fetch_add(1, Ordering::SeqCst);
                            }
                        }
                    });
                }
                let deletions = scope.spawn(|| {
                    let mut made = Vec::new();
                    while !is_over.load(Ordering::SeqCst) {
                        let number = next.load(Ordering::SeqCst);
                        if number >= DELETIONS {
                            std::thread::sleep(Duration::from_millis(1));
                            continue;
                        }
                        let (path, body, _) = deletion(port, number);
                        match served.ask("POST", path, "", &body) {
                            Some((201, ..)) => made.push(number),
                            Some((status, body)) => panic!("{status}: {body}"),
                            // Killed in the middle: nobody knows, and it is asked for again by the same id.
                            None => continue,
                        }
                        next.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(pause(number)));
                    }
                    made
                });
                std::thread::sleep(lives);
                served.signal(Signal::KILL);
                is_over.store(true, Ordering::SeqCst);
                deletions.join().unwrap()
            });
            acknowledged.extend(made);
            drop(served);
            let check = self.served.run(&["store", "check", "pipeline.toml"]);
            assert_eq!(check.code, 0, "{}{}", check.stdout, check.stderr);
        }
        self.finish(&mut acknowledged, next.into_inner());
        Played { kills: KILLS, acknowledged: acknowledged.len(), answers: answers.into_inner() }
    }

    /// Lets a last server finish everything, and compares with a twin that was never killed.
    fn finish(&self, acknowledged: &mut BTreeSet<usize>, in_doubt: usize) {
        let served = start(&self.served);
        // Whoever got no answer asks again, by the same id.
        let (path, body, _) = deletion(self.controller.port, in_doubt);
        assert_eq!(served.ask("POST", path, "", &body).unwrap().0, 201);
        acknowledged.insert(in_doubt);
        for number in acknowledged.iter() {
            let (_, _, state) = deletion(self.controller.port, *number);
            let start = Instant::now();
            loop {
                let (status, body) = served.ask("GET", &state, "", &Value::Null).unwrap();
                assert_eq!(status, 200, "{state} was acknowledged: {body}");
                if body["phase"] == "erased" || body["request_status"] == "completed" {
                    break;
                }
                assert!(start.elapsed() < Duration::from_secs(120), "still {body}");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        self.callbacks(acknowledged);
        let start = Instant::now();
        while served.ask("GET", "/repair", "", &Value::Null).unwrap().1["missing_stages"] != 0 {
            assert!(start.elapsed() < Duration::from_secs(120), "the repair does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(served);
        // The twin gets the same deletions from the command line, in one go.
        for number in acknowledged.iter() {
            let name = format!("{}-{number}", if number.is_multiple_of(2) { "record" } else { "subject" });
            let option = if number.is_multiple_of(2) { "--record" } else { "--subject" };
            let known = self.twin.run(&["delete", "pipeline.toml", option, &name, "--json"]);
            // A subject without records, or a record that went with its subject.
            assert!([0, 3].contains(&known.code), "{name}: {}", known.stderr);
        }
        for workspace in [&self.served, &self.twin] {
            workspace.json(&["repair", "pipeline.toml"]);
            assert_eq!(workspace.run(&["store", "check", "pipeline.toml"]).code, 0);
        }
        let bits = |workspace: &Workspace| workspace.json(&["predict", "pipeline.toml"])["predictions"].to_string();
        assert_eq!(bits(&self.served), bits(&self.twin), "after {acknowledged:?}");
    }

    /// Waits until every change of each acknowledged request was told, and compares the bytes of those told more than once.
    fn callbacks(&self, acknowledged: &BTreeSet<usize>) {
        let mut expected: BTreeSet<(String, &str)> = BTreeSet::new();
        for number in acknowledged.iter().filter(|number| !number.is_multiple_of(2)) {
            let id = deletion(self.controller.port, *number).1["subject_request_id"].as_str().unwrap().to_owned();
            expected.extend([(id.clone(), "in_progress"), (id, "completed")]);
        }
        let mut told: BTreeMap<(String, String), Vec<u8>> = BTreeMap::new();
        let is_told = |told: &BTreeMap<(String, String), Vec<u8>>, (id, status): &(String, &str)| {
            told.contains_key(&(id.clone(), (*status).to_owned()))
        };
        while !expected.iter().all(|change| is_told(&told, change)) {
            let (_, bytes) = self.controller.came.recv_timeout(Duration::from_secs(120)).unwrap();
            let body: Value = serde_json::from_slice(&bytes).unwrap();
            let text = |field: &str| body[field].as_str().unwrap().to_owned();
            let change = (text("subject_request_id"), text("request_status"));
            if let Some(before) = told.insert(change.clone(), bytes.clone()) {
                assert_eq!(before, bytes, "{change:?} was told in other bytes");
            }
        }
    }
}

/// The milliseconds between two deletions.
const fn pause(number: usize) -> u64 {
    [0, 3, 11, 29][number % 4]
}
