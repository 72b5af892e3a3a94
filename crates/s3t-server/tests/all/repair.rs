//! Repair behind the answers, and the brake on deletions that come faster than it.

use std::time::Duration;

use crate::world::{World, question};
use s3t_server::{RepairSettings, Role};
use serde_json::{Value, json};

/// Waits until the state of repair is as asked for.
#[track_caller]
fn wait_for(world: &World, token: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    crate::world::wait_for(|| world.get("/repair").token(token), is_so)
}

#[test]
fn a_policy_repairs_behind_the_answers_and_an_operator_can_pause_it() {
    let (world, tokens) = World::with(&[&[Role::Delete, Role::Ask], &[Role::Operate]], |settings| {
        settings.repair = Some(RepairSettings::default());
    });
    let [user, operator] = [&tokens[0], &tokens[1]];
    world.post("/repair/pause", &json!({})).token(user).send().expect(403);
    let paused = world.post("/repair/pause", &json!({})).token(operator).send().expect(200).json();
    assert_eq!((&paused["paused"], &paused["has_policy"]), (&json!(true), &json!(true)));

    let request = json!({ "request_id": "one", "subjects": ["subject-1"] });
    world.post("/deletions", &request).token(user).send().expect(201);
    world.wait_for_phase("/deletions/one", Some(user), "erased");
    let state = wait_for(&world, operator, |state| state["missing_stages"].as_u64() > Some(0));
    assert!(state["running"].is_null() && state["last"].is_null(), "{state}");
    let before = world.post("/predict", &question(0)).token(user).send().expect(200);

    world.post("/repair/resume", &json!({})).token(operator).send().expect(200);
    let state = wait_for(&world, operator, |state| state["missing_stages"] == 0 && !state["last"].is_null());
    assert!(state["last"]["trained_stages"].as_u64() > Some(0) && state["problem"].is_null(), "{state}");
    // Deeper stages answer, and they are those of training without the subject.
    let after = world.post("/predict", &question(0)).token(user).send().expect(200);
    assert_eq!(after.header("x-s3t-epoch"), Some("1"));
    assert_ne!(before.header("x-s3t-stages"), after.header("x-s3t-stages"));
    let verified = world.system().verify(s3t_engine::VerifyScope::All, &s3t_engine::Quiet).unwrap();
    assert!(verified.passed());
}

#[test]
fn without_a_policy_a_repair_starts_when_it_is_asked_for() {
    let (world, tokens) = World::with(&[&[Role::Delete, Role::Operate]], |_| {});
    let token = &tokens[0];
    world.post("/deletions", &json!({ "records": ["record-1"], "request_id": "one" })).token(token).send().expect(201);
    world.wait_for_phase("/deletions/one", Some(token), "erased");
    let state = world.get("/repair").token(token).send().expect(200).json();
    assert!(state["missing_stages"].as_u64() > Some(0) && state["running"].is_null(), "{state}");
    world.post("/repair/run", &json!({})).token(token).send().expect(200);
    wait_for(&world, token, |state| state["missing_stages"] == 0);
}

#[test]
fn a_deletion_that_would_bring_a_shard_too_low_is_held_until_it_is_released_or_due() {
    let (world, tokens) = World::with(&[&[Role::Delete, Role::Audit], &[Role::Operate], &[Role::Delete]], |settings| {
        // More than any shard ever survives: every deletion that hits one is held.
        settings.min_budget = Some(100);
    });
    let [desk, operator, blind] = [&tokens[0], &tokens[1], &tokens[2]];
    let request = json!({ "request_id": "one", "records": ["record-1"] });
    let held = world.post("/deletions", &request).token(desk).send().expect(202).json();
    assert_eq!(held["phase"], "held");
    assert_eq!(world.system().snapshot().unwrap().epoch().0, 0, "nothing is deleted");
    // Again: the same. The shards still have too little left.
    assert_eq!(world.post("/deletions", &request).token(desk).send().expect(202).json()["phase"], "held");

    // Whoever may not know the records learns nothing: a name that is unknown is held like another.
    for (id, name) in [("known", "record-2"), ("unknown", "nobody")] {
        let request = json!({ "request_id": id, "records": [name] });
        let held = world.post("/deletions", &request).token(blind).send().expect(202).json();
        assert_eq!(held["phase"], "held", "{id}");
    }

    // Neither is done sooner than the other.
    std::thread::sleep(Duration::from_millis(1500));
    for id in ["known", "unknown"] {
        let state = world.get(&format!("/deletions/{id}")).token(blind).send().expect(200).json();
        assert_eq!(state["phase"], "held", "{id}");
    }

    // Due at once: held by nothing.
    let due = json!({ "request_id": "due", "records": ["record-5"], "due": "2020-01-01T00:00:00Z" });
    world.post("/deletions", &due).token(desk).send().expect(201);

    world.post("/deletions/one/release", &json!({})).token(desk).send().expect(403);
    let released = world.post("/deletions/one/release", &json!({})).token(operator).send().expect(200).json();
    assert_eq!(released["phase"], "in-effect");
    world.post("/deletions/one/release", &json!({})).token(operator).send().expect(409);
    world.wait_for_phase("/deletions/one", Some(desk), "erased");
    // One that is held can be taken back.
    let cancelled = world.ask("DELETE", "/deletions/known").token(blind).send().expect(200).json();
    assert_eq!(cancelled["phase"], "cancelled");
    assert!(world.system().store().address(&s3t_core::RecordId::new("record-2").unwrap()).unwrap().is_some());
}

#[test]
fn held_requests_survive_a_stop_and_are_done_when_a_shard_has_enough_left() {
    let (mut world, tokens) = World::with(&[&[Role::Delete, Role::Audit]], |settings| settings.min_budget = Some(100));
    let token = &tokens[0];
    let request = json!({ "request_id": "one", "subjects": ["subject-1"] });
    world.post("/deletions", &request).token(token).send().expect(202);
    world.stop();
    // As after a repair: what is left is enough.
    world.settings.min_budget = Some(0);
    world.start();
    world.wait_for_phase("/deletions/one", Some(token), "erased");
    assert_eq!(world.system().snapshot().unwrap().epoch().0, 1);
}
