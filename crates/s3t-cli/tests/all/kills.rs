//! The crash law with a real process and a real SIGKILL, at any moment of any command: 500 kills, more with `S3T_SOAK=N` (rounds).
use std::time::Instant;

use crate::workspace::Workspace;
use s3t::store::{DeletionRequest, Place, Store};

/// The kills of a round; each round has a store of its own.
const KILLS: usize = 50;

#[test]
fn five_hundred_kills_lose_nothing_that_was_acknowledged() {
    let rounds = std::env::var("S3T_SOAK").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(10);
    let (mut kills, mut deletions) = (0, 0);
    for round in 0..rounds {
        let (killed, deleted) = play(round);
        kills += killed;
        deletions += deleted;
    }
    // Commands that were over before they were killed count for nothing.
    assert!(kills >= rounds * KILLS as u64 && deletions > rounds, "{kills} kills, {deletions} deletions");
}

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// One round: commands, most of them killed; then a twin that was never killed. Gives the kills and the deletions.
fn play(round: u64) -> (u64, u64) {
    let mut numbers = Numbers(round);
    let workspaces = [Workspace::new(), Workspace::new()];
    for workspace in &workspaces {
        workspace.edit("pipeline.toml", "[store]\n", "[store]\nsecret = \"from-seed\"\n");
        workspace.edit("pipeline.toml", "epochs = 2", "epochs = 6");
    }
    let [killed, twin] = workspaces;
    twin.json(&["train", "pipeline.toml"]);
    // Moments of a kill are up to twice the time of a command that does little, on whatever machine this is.
    let start = Instant::now();
    twin.json(&["status", "pipeline.toml"]);
    let pace = start.elapsed() / 500;
    let (mut kills, mut done) = (0, Vec::new());
    let mut asked = 0;
    // Commands that finish in time are commands too: they move the store on.
    while kills < KILLS as u64 {
        let record = format!("record-{}", numbers.below(60));
        let request = format!("request-{asked}");
        let export = format!("export-{asked}");
        let arguments: Vec<&str> = match numbers.below(10) {
            0..=3 => vec!["train", "pipeline.toml"],
            4..=6 => {
                asked += 1;
                vec!["delete", "pipeline.toml", "--record", &record, "--request-id", &request]
            }
            7 => vec!["repair", "pipeline.toml"],
            8 => vec!["predict", "pipeline.toml"],
            _ => {
                asked += 1;
                vec!["export", "pipeline.toml", "--to", &export]
            }
        };
        let mut command = killed.command();
        let quiet = || std::process::Stdio::null();
        command.args(&arguments).arg("--json").stdout(quiet()).stderr(quiet());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(pace * numbers.below(1000) as u32);
        let over = child.try_wait().unwrap();
        if over.is_none() {
            child.kill().unwrap();
            kills += 1;
        }
        let acknowledged = over.is_some_and(|status| status.success());
        child.wait().unwrap();

        let place = Place::new(killed.path("store"));
        if !place.is_store() {
            continue;
        }
        let store = Store::open(&place).unwrap();
        let check = store.check().unwrap();
        assert!(check.passed(), "after {arguments:?}: {:?}", check.findings);
        if arguments[0] == "delete" {
            let known = store.knows_request(&request).unwrap();
            assert!(known || !acknowledged, "an acknowledged deletion is lost: {arguments:?}");
            if known {
                let id = s3t::core::RecordId::new(record.as_str()).unwrap();
                assert_eq!(store.address(&id).unwrap(), None);
                let again = DeletionRequest { id: Some(request.clone()), records: vec![id], subjects: vec![] };
                assert!(store.accept(&again).unwrap().repeated);
                done.push(record.clone());
            }
        }
    }
    // What the killed store answers after a repair is, bit for bit, what one that was never killed answers.
    killed.json(&["train", "pipeline.toml"]);
    for record in &done {
        twin.json(&["delete", "pipeline.toml", "--record", record]);
    }
    twin.json(&["repair", "pipeline.toml"]);
    let bits = |workspace: &Workspace| workspace.json(&["predict", "pipeline.toml"])["predictions"].to_string();
    assert_eq!(bits(&killed), bits(&twin), "after {done:?}");
    let store = |workspace: &Workspace| Store::open(&Place::new(workspace.path("store"))).unwrap();
    assert_eq!(store(&killed).snapshot().unwrap().stages(), store(&twin).snapshot().unwrap().stages());
    (kills, done.len() as u64)
}
