//! Starting, stopping, starting again.

use std::time::{Duration, Instant};

use crate::world::{World, question};
use serde_json::json;

#[test]
fn a_server_that_stops_says_so_answers_what_came_and_goes() {
    let (mut world, _) = World::with(&[], |settings| settings.stop_delay_seconds = 1.0);
    world.get("/readyz").send().expect(200);
    let address = world.server().address();
    let server = world.server.take().unwrap();
    let stopping = std::thread::spawn(move || server.stop());
    let get = |path: &str| {
        let agent = ureq::Agent::from(ureq::Agent::config_builder().http_status_as_error(false).build());
        agent.get(format!("http://{address}{path}")).call().map(|reply| reply.status().as_u16())
    };
    let start = Instant::now();
    while get("/readyz").unwrap() != 503 {
        assert!(start.elapsed() < Duration::from_millis(900), "it does not say that it stops");
    }
    assert_eq!(get("/livez").unwrap(), 200);
    stopping.join().unwrap();
    assert!(get("/livez").is_err());
}

#[test]
fn a_deletion_that_was_not_erased_is_erased_by_the_next_server() {
    let mut world = World::new();
    world.stop();
    // Accepted by a process that ended before it erased.
    let system = s3t_engine::System::open_to_delete(crate::world::pipeline(world.folder.path())).unwrap();
    let record = s3t_core::RecordId::new("record-1").unwrap();
    let request = s3t_store::DeletionRequest { id: Some("one".into()), records: vec![record], subjects: vec![] };
    system.accept(&request).unwrap();
    assert_eq!(system.snapshot().unwrap().unerased(), [s3t_ledger::Epoch(1)]);
    drop(system);
    world.start();
    let answer = world.post("/predict", &question(0)).send().expect(200);
    assert_eq!(answer.header("x-s3t-epoch"), Some("1"));
    let start = Instant::now();
    while !world.system().snapshot().unwrap().unerased().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    // The server knows the request as soon as it is made again.
    world.post("/deletions", &json!({ "request_id": "one", "records": ["record-1"] })).send().expect(201);
    world.wait_for_phase("/deletions/one", None, "erased");
    assert!(world.system().store().check().unwrap().passed());
}

#[test]
fn a_store_whose_shards_are_all_dead_is_not_ready_but_still_deletes() {
    let world = World::new();
    let mut asked = 0;
    while world.post("/predict", &question(0)).send().status == 200 {
        let body = json!({ "records": [format!("record-{asked}")] });
        world.post("/deletions", &body).send().expect(201);
        asked += 1;
        assert!(asked < 60);
    }
    let unready = world.get("/readyz").send().expect(503);
    assert!(unready.text().contains("s3t repair"));
    assert_eq!(world.post("/predict", &question(0)).send().expect(503).header("retry-after"), Some("1"));
    world.get("/livez").send().expect(200);
    world.post("/deletions", &json!({ "records": [format!("record-{asked}")] })).send().expect(201);
    assert!(world.get("/ui").send().expect(200).text().contains("No shard can answer"));
}

#[test]
fn probes_are_answered_on_a_port_of_their_own_however_many_connections_are_open() {
    let (world, _) = World::with(&[], |settings| {
        settings.connections = 1;
        settings.read_seconds = 60.0;
        settings.health_address = Some("127.0.0.1:0".into());
    });
    // The only place of the port of answers is taken by somebody who says nothing.
    let _idle = std::net::TcpStream::connect(world.server().address()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let health = world.server().health_address().unwrap();
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/deletions", 404), ("/ui", 404)] {
        world.ask_at(health, "GET", path).send().expect(status);
    }
}
