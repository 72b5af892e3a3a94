//! Deletions, from the request to the receipt.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::world::{World, question, stage_keys};
use s3t_core::{RecordId, SubjectId};
use s3t_ledger::{Named, Receipt, VerifyingKey};
use s3t_server::{Role, Server};
use s3t_store::DeletionRequest;
use serde_json::json;

#[test]
fn a_deletion_is_in_effect_when_it_is_answered_and_erased_soon_after() {
    let world = World::new();
    let before = world.post("/predict", &question(0)).send().expect(200);
    let request = json!({ "request_id": "ticket-1", "subjects": ["subject-1"], "records": ["record-3"] });
    let made = world.post("/deletions", &request).send().expect(201);
    assert_eq!(made.header("location"), Some("/deletions/ticket-1"));
    assert_eq!((&made.json()["epoch"], &made.json()["records"]), (&json!(1), &json!(3)));
    let after = world.post("/predict", &question(0)).send().expect(200);
    assert_eq!(after.header("x-s3t-epoch"), Some("1"));
    assert_ne!(before.header("x-s3t-stages"), after.header("x-s3t-stages"));

    let state = world.wait_for_phase("/deletions/ticket-1", None, "erased");
    assert!(state["erased"].is_string() && state["in_effect"].is_string());
    // Again: the same, whatever the order. Other names under the id: refused.
    world.post("/deletions", &request).send().expect(201);
    let refused =
        world.post("/deletions", &json!({ "request_id": "ticket-1", "records": ["record-5"] })).send().expect(409);
    assert!(refused.json()["error"].as_str().unwrap().contains("ticket-1"));
    assert_eq!(world.system().snapshot().unwrap().epoch().0, 1);

    // The head alone leaves the key to the names where it is.
    world.ask("HEAD", "/deletions/ticket-1/receipt").send().expect(200);
    // Whoever has the key alone can check the receipt, and see that it names the subject.
    let key: VerifyingKey = world.get("/ledger/key.pub").send().expect(200).text().parse().unwrap();
    let receipt = Receipt::parse(&world.get("/deletions/ticket-1/receipt").send().expect(200).text()).unwrap();
    let verified = receipt.verify(&key).unwrap();
    assert!(verified.effective.is_some() && verified.erased.is_some() && verified.request_checked);
    assert!(receipt.names(Named::Subject(&SubjectId::new("subject-1").unwrap())).unwrap());
    // It is handed out with the key to the names once.
    let again = Receipt::parse(&world.get("/deletions/ticket-1/receipt").send().expect(200).text()).unwrap();
    assert!(again.opening.is_none() && again.verify(&key).is_ok());
    world.get("/deletions/ticket-9/receipt").send().expect(404);

    let list = world.get("/deletions").send().expect(200).json();
    assert_eq!((&list["deletions"][0]["request_id"], list["next"].is_null()), (&json!("ticket-1"), true));
    assert_eq!(world.get("/deletions?search=nothing").send().expect(200).json()["deletions"], json!([]));
    world.get("/deletions?before=x").send().expect(400);
}

#[test]
fn a_bad_request_deletes_nothing() {
    let world = World::new();
    for (body, status, part) in [
        (json!({}), 400, "names no record"),
        (json!({ "records": ["record-1"], "due": "tomorrow" }), 400, "`due`"),
        (json!({ "records": [""] }), 400, "empty"),
        (json!({ "records": ["record-1"], "request_id": "a\nb" }), 400, "request id"),
        (json!({ "records": ["record-1"], "subject": "x" }), 400, "unknown field"),
        (json!({ "records": ["record-1", "record-999"] }), 404, "record-999"),
        (json!({ "subjects": ["nobody"] }), 404, "nobody"),
        (json!({ "records": vec!["r"; 100_001] }), 413, "100001 names"),
    ] {
        let refused = world.post("/deletions", &body).send();
        assert_eq!(refused.status, status, "{}", refused.text());
        assert!(refused.json()["error"].as_str().unwrap().contains(part), "{}", refused.text());
    }
    assert_eq!(world.system().snapshot().unwrap().epoch().0, 0);
}

#[test]
fn unknown_names_are_not_told_apart_to_those_who_may_not_know() {
    let (world, tokens) = World::with(&[&[Role::Delete], &[Role::Delete, Role::Audit], &[Role::Delete]], |_| {});
    let [tool, knowing, other] = &tokens[..] else { panic!() };
    let send = |id: &str, subject: &str, token: &str| {
        let body = json!({ "request_id": id, "subjects": [subject] });
        world.post("/deletions", &body).token(token).send()
    };
    let known = send("known", "subject-1", tool).expect(201).json();
    let unknown = send("unknown", "nobody", tool).expect(201).json();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&known), keys(&unknown));
    assert!(known.get("epoch").is_none() && known.get("records").is_none());
    for id in ["known", "unknown"] {
        let path = format!("/deletions/{id}");
        let state = world.wait_for_phase(&path, Some(tool), "erased");
        assert!(state["in_effect"].is_string() && state["erased"].is_string());
        world.get(&path).token(other).send().expect(404);
        world.get(&format!("{path}/receipt")).token(tool).send().expect(403);
    }
    // Known or not, the same again is the same; other names are refused.
    send("known", "subject-1", tool).expect(201);
    send("unknown", "nobody", tool).expect(201);
    send("unknown", "subject-2", tool).expect(409);
    send("known", "subject-1", other).expect(409);
    // Whoever may know is told.
    send("told", "nobody", knowing).expect(404);
    let list = |token: &str| {
        world.get("/deletions").token(token).send().expect(200).json()["deletions"].as_array().unwrap().len()
    };
    assert_eq!((list(tool), list(other), list(knowing)), (2, 0, 2));
    assert_eq!(world.system().snapshot().unwrap().epoch().0, 1);
    // A request of which a part is known deletes that part.
    let body = json!({ "request_id": "part", "subjects": ["nobody", "subject-2"] });
    world.post("/deletions", &body).token(tool).send().expect(201);
    world.wait_for_phase("/deletions/part", Some(tool), "erased");
    world.post("/deletions", &body).token(tool).send().expect(201);
    assert_eq!(world.system().snapshot().unwrap().epoch().0, 2);
}

#[test]
fn deletions_with_time_wait_for_their_batch_and_survive_a_restart() {
    let (mut world, _) = World::with(&[], |settings| settings.batch_minutes = 60);
    let due = |seconds: i64| (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds)).to_string();
    let body =
        |id: &str, seconds| json!({ "request_id": id, "records": [format!("record-{id}")], "due": due(seconds) });
    world.post("/deletions", &body("1", 86_400)).send().expect(202);
    world.post("/deletions", &body("2", 86_400)).send().expect(202);
    assert_eq!(world.get("/deletions/1").send().expect(200).json()["phase"], "queued");
    world.ask("DELETE", "/deletions/2").send().expect(200);
    world.ask("DELETE", "/deletions/2").send().expect(409);
    world.post("/deletions", &body("2", 86_400)).send().expect(409);
    assert_eq!(world.system().snapshot().unwrap().epoch().0, 0);
    world.stop();
    world.start();
    assert_eq!(world.get("/deletions/1").send().expect(200).json()["phase"], "queued");
    // One that is due soon is done at once, and one without time as well; the others still wait.
    world.post("/deletions", &body("4", 60)).send().expect(201);
    world.post("/deletions", &json!({ "records": ["record-5"] })).send().expect(201);
    assert_eq!(world.system().snapshot().unwrap().epoch().0, 2);
    assert_eq!(world.get("/deletions/1").send().expect(200).json()["phase"], "queued");
    world.ask("DELETE", "/deletions/1").send().expect(200);
    world.ask("DELETE", "/deletions/4").send().expect(409);
    assert!(world.system().store().address(&RecordId::new("record-1").unwrap()).unwrap().is_some());
}

#[test]
fn the_same_request_from_many_sides_is_done_once() {
    let (world, tokens) = World::with(&[&[Role::Delete]], |_| {});
    // A part is unknown, so that the request waits for a moment and the keeper reaches for it too.
    let body = json!({ "request_id": "one", "subjects": ["subject-1", "nobody"] });
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| world.post("/deletions", &body).token(&tokens[0]).send().expect(201));
        }
    });
    world.wait_for_phase("/deletions/one", Some(&tokens[0]), "erased");
    let receipts = world.system().store().receipts().unwrap();
    assert_eq!((receipts.len(), receipts[0].effect.records), (1, 2));
}

#[test]
fn a_deletion_by_another_process_is_known_by_its_id() {
    let world = World::new();
    let other = s3t_engine::System::open_to_delete(crate::world::pipeline(world.folder.path())).unwrap();
    let record = RecordId::new("record-1").unwrap();
    let request = DeletionRequest { id: Some("ticket-1".into()), records: vec![record], subjects: vec![] };
    other.fulfil(&request).unwrap();
    let answer = world.post("/predict", &question(0)).send().expect(200);
    assert_eq!(answer.header("x-s3t-epoch"), Some("1"));
    let state =
        world.post("/deletions", &json!({ "request_id": "ticket-1", "records": ["record-1"] })).send().expect(201);
    assert_eq!(state.json()["epoch"], 1);
    world.post("/deletions", &json!({ "request_id": "ticket-1", "records": ["record-2"] })).send().expect(409);
    world.wait_for_phase("/deletions/ticket-1", None, "erased");
}

/// Has another process delete records and subjects under an id.
fn delete_elsewhere(world: &World, id: &str, records: &[&str], subjects: &[&str]) {
    let other = s3t_engine::System::open_to_delete(crate::world::pipeline(world.folder.path())).unwrap();
    let records = records.iter().map(|name| RecordId::new(*name).unwrap()).collect();
    let subjects = subjects.iter().map(|name| SubjectId::new(*name).unwrap()).collect();
    other.accept(&DeletionRequest { id: Some(id.into()), records, subjects }).unwrap();
}

fn tomorrow() -> String {
    (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24)).to_string()
}

#[test]
fn a_request_that_waits_is_not_taken_for_another_of_its_id() {
    let (mut world, _) = World::with(&[], |settings| settings.batch_minutes = 60);
    let wait = |world: &World, id: &str, subject: &str| {
        let body = json!({ "request_id": id, "subjects": [subject], "due": tomorrow() });
        world.post("/deletions", &body).send().expect(202);
    };
    let phase =
        |world: &World, id: &str| world.get(&format!("/deletions/{id}")).send().expect(200).json()["phase"].clone();
    let has = |world: &World, subject: &str| {
        world.system().store().records_of(&SubjectId::new(subject).unwrap()).unwrap() > 0
    };
    for (id, subject) in
        [("other", "subject-1"), ("taken-back", "subject-2"), ("same", "subject-3"), ("waits", "subject-4")]
    {
        wait(&world, id, subject);
    }
    delete_elsewhere(&world, "other", &[], &["subject-5"]);
    delete_elsewhere(&world, "taken-back", &[], &["subject-6"]);
    delete_elsewhere(&world, "same", &[], &["subject-3"]);
    // Who was not deleted can be taken back, whatever became of the id; who was cannot.
    world.ask("DELETE", "/deletions/taken-back").send().expect(200);
    world.ask("DELETE", "/deletions/same").send().expect(409);
    assert_eq!(world.wait_for_phase("/deletions/same", None, "erased")["records"], 2);
    // The next server tells what the store has for other names from what it has accepted, and lets the rest wait.
    world.stop();
    world.start();
    world.wait_for_phase("/deletions/other", None, "failed");
    assert_eq!(phase(&world, "waits"), "queued");
    let left = ["subject-1", "subject-2", "subject-3", "subject-4"].map(|subject| has(&world, subject));
    assert_eq!(left, [true, true, false, true]);
}

#[test]
fn what_the_store_accepted_before_a_crash_is_found_by_the_names_that_it_was_asked_for() {
    let (mut world, tokens) = World::with(&[&[Role::Delete]], |settings| settings.batch_minutes = 60);
    let body = json!({ "request_id": "one", "subjects": ["nobody-at-all", "subject-1"], "due": tomorrow() });
    world.post("/deletions", &body).token(&tokens[0]).send().expect(202);
    world.stop();
    // As a server leaves it that is killed between the store's acceptance and its own note of it.
    let database = rusqlite::Connection::open(world.path("store.server/server.db")).unwrap();
    let names = json!({ "records": [], "subjects": ["subject-1"] }).to_string();
    database.execute("UPDATE requests SET names = ?1 WHERE id = 'one'", [names]).unwrap();
    drop(database);
    delete_elsewhere(&world, "one", &[], &["subject-1"]);
    world.start();
    world.wait_for_phase("/deletions/one", Some(&tokens[0]), "erased");
    // The same content is the same request.
    let again = world.post("/deletions", &body).token(&tokens[0]).send();
    assert_eq!(again.expect(201).json()["phase"], "erased");
    assert_eq!(world.system().snapshot().unwrap().epoch().0, 1);
}

#[test]
fn a_name_that_nobody_has_is_refused_before_the_request_waits() {
    let (world, tokens) =
        World::with(&[&[Role::Delete, Role::Audit], &[Role::Delete]], |settings| settings.batch_minutes = 60);
    for (id, names) in [("a", json!(["nobody"])), ("b", json!(["subject-1", "nobody"]))] {
        let body = json!({ "request_id": id, "subjects": names, "due": tomorrow() });
        let refused = world.post("/deletions", &body).token(&tokens[0]).send().expect(404);
        assert!(refused.text().contains("nobody"), "{}", refused.text());
        world.post("/deletions", &body).token(&tokens[1]).send().expect(202);
    }
}

#[test]
fn names_in_the_servers_log_are_erased_before_the_request_is_called_erased() {
    let (world, tokens) = World::with(&[&[Role::Delete], &[Role::Operate]], |_| {});
    let [tool, operator] = &tokens[..] else { panic!() };
    let log = || std::fs::read(world.path("store.server/server.db-wal")).unwrap();
    let has_name = || log().windows(13).any(|part| part == b"nobody-at-all");
    // As a backup that goes on for long.
    let reader = rusqlite::Connection::open(world.path("store.server/server.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM requests").unwrap();
    let body = json!({ "request_id": "one", "subjects": ["nobody-at-all", "subject-1"] });
    world.post("/deletions", &body).token(tool).send().expect(201);
    let start = Instant::now();
    while !world.get("/ui").token(operator).send().text().contains("server.db") {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(has_name());
    assert_eq!(world.get("/deletions/one").token(tool).send().expect(200).json()["phase"], "in-effect");
    drop(reader);
    world.wait_for_phase("/deletions/one", Some(tool), "erased");
    assert!(!has_name());
}

#[test]
fn a_second_server_with_the_same_folder_is_refused() {
    let world = World::new();
    let system = s3t_engine::System::open_to_delete(crate::world::pipeline(world.folder.path())).unwrap();
    let Err(error) = Server::start(system, world.settings.clone()) else { panic!("two servers have one folder") };
    assert!(error.to_string().contains("another server has it"), "{error}");
}

/// The promise: no answer that began after a deletion was acknowledged comes from a stage that the deletion cut.
#[test]
fn no_answer_after_an_acknowledged_deletion_uses_a_dead_stage() {
    const ASKERS: usize = 8;
    const DELETIONS: usize = 12;
    let world = World::new();
    let acknowledged = AtomicUsize::new(0);
    let (is_over, failed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let answers = std::thread::scope(|scope| {
        let asker = |index: usize| {
            let (world, acknowledged, is_over, failed) = (&world, &acknowledged, &is_over, &failed);
            move || {
                let mut seen = Vec::new();
                while !is_over.load(Ordering::SeqCst) {
                    // The deletions that were acknowledged before the question was sent.
                    let known = acknowledged.load(Ordering::SeqCst);
                    let reply = world.post("/predict", &question(index)).send();
                    match reply.status {
                        200 => {
                            let epoch: usize = reply.header("x-s3t-epoch").unwrap().parse().unwrap();
                            seen.push((known, epoch, stage_keys(reply.header("x-s3t-stages").unwrap())));
                        }
                        503 => drop(failed.fetch_add(1, Ordering::SeqCst)),
                        _ => panic!("{}: {}", reply.status, reply.text()),
                    }
                }
                seen
            }
        };
        let askers: Vec<_> = (0..ASKERS).map(|index| scope.spawn(asker(index))).collect();
        for index in 0..DELETIONS {
            let body =
                json!({ "request_id": format!("request-{index}"), "records": [format!("record-{}", 5 * index)] });
            world.post("/deletions", &body).send().expect(201);
            acknowledged.fetch_add(1, Ordering::SeqCst);
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(20) {
                std::thread::yield_now();
            }
        }
        is_over.store(true, Ordering::SeqCst);
        askers.into_iter().flat_map(|asker| asker.join().unwrap()).collect::<Vec<_>>()
    });
    let receipts = world.system().store().receipts().unwrap();
    assert_eq!(receipts.len(), DELETIONS);
    let cut_by = |epochs: usize| -> BTreeSet<String> {
        let before = receipts.iter().filter(|receipt| receipt.effect.epoch.0 as usize <= epochs);
        before.flat_map(|receipt| receipt.effect.cut.iter().map(ToString::to_string)).collect()
    };
    let dead: Vec<BTreeSet<String>> = (0..=DELETIONS).map(cut_by).collect();
    assert!(!dead[DELETIONS].is_empty());
    for (known, epoch, keys) in &answers {
        assert!(epoch >= known, "an answer of epoch {epoch} was asked for after {known} acknowledged deletions");
        for key in keys {
            assert!(!dead[*known].contains(key), "stage {key} is dead since one of the first {known} deletions");
            assert!(!dead[*epoch].contains(key), "stage {key} is dead at the answer's own epoch {epoch}");
        }
    }
    // The test means something: answers came from several epochs.
    let epochs: BTreeSet<usize> = answers.iter().map(|(_, epoch, _)| *epoch).collect();
    assert!(epochs.len() > 2 || failed.load(Ordering::SeqCst) > 0, "{epochs:?}");
}
