//! The ledger over HTTP, audits, the document of the routes, figures.

use crate::world::{World, question, wait_for};
use s3t_ledger::{VerifyingKey, leaf_hash, read_entries};
use s3t_server::Role;
use serde_json::{Value, json};

#[test]
fn the_ledger_can_be_checked_by_whoever_has_its_key() {
    let world = World::new();
    for record in 0..3 {
        let id = format!("request-{record}");
        world
            .post("/deletions", &json!({ "request_id": id, "records": [format!("record-{record}")] }))
            .send()
            .expect(201);
        world.wait_for_phase(&format!("/deletions/{id}"), None, "erased");
    }
    let key: VerifyingKey = world.get("/ledger/key.pub").send().expect(200).text().parse().unwrap();
    let note = world.get("/ledger/checkpoint").send().expect(200);
    assert!(note.header("content-type").unwrap().starts_with("text/plain"));
    let head = key.check(&note.text()).unwrap();
    assert!(head.size > 9 && head.size < 256, "{}", head.size);
    // Every width up to the newest, whatever the files have.
    for width in [1, 2, head.size / 2, head.size] {
        let bundle = world.get(&format!("/ledger/tile/entries/000.p/{width}")).send().expect(200);
        assert!(bundle.header("cache-control").unwrap().contains("immutable"));
        let entries = read_entries(&bundle.body).unwrap();
        let hashes = world.get(&format!("/ledger/tile/0/000.p/{width}")).send().expect(200).body;
        assert_eq!((entries.len() as u64, hashes.len() as u64), (width, 32 * width));
        for (entry, hash) in entries.iter().zip(hashes.chunks(32)) {
            assert_eq!(leaf_hash(entry).as_bytes(), hash);
        }
    }
    world.get(&format!("/ledger/tile/0/000.p/{}", head.size + 1)).send().expect(404);
    world.get("/ledger/tile/0/000").send().expect(404);
    let entries = world.get(&format!("/ledger/tile/entries/000.p/{}", head.size)).send().text();
    assert!(entries.contains("accepted") && !entries.contains("record-0") && !entries.contains("request-0"));
}

/// The state of the audit that an answer started, once it ended.
#[track_caller]
fn report_of(world: &World, started: &crate::world::Reply) -> Value {
    wait_for(|| world.get(started.header("location").unwrap()), |state| state["state"] != "running")
}

#[test]
fn an_audit_is_a_job_with_a_report() {
    let world = World::new();
    world.post("/deletions", &json!({ "request_id": "one", "subjects": ["subject-1"] })).send().expect(201);
    world.wait_for_phase("/deletions/one", None, "erased");
    let request = json!({ "absent_subjects": ["subject-1"], "scope": "serving" });
    let started = world.post("/audits", &request).send().expect(202);
    // A second one is refused as long as the first goes on, which is asked afterwards.
    let second = world.post("/audits", &json!({})).send();
    if world.get(started.header("location").unwrap()).send().expect(200).json()["state"] == "running" {
        assert_eq!(second.status, 409, "{}", second.text());
    }
    let report = report_of(&world, &started);
    assert_eq!((&report["state"], &report["passed"]), (&json!("done"), &json!(true)), "{report}");
    assert!(!report["report"]["stages"].as_array().unwrap().is_empty());
    if second.status != 409 {
        report_of(&world, &second.expect(202));
    }
    // What is there is found.
    let wrong = world.post("/audits", &json!({ "absent_subjects": ["subject-2"] })).send().expect(202);
    assert_eq!(report_of(&world, &wrong)["passed"], false);
    world.post("/audits", &json!({ "key": "nonsense" })).send().expect(400);
}

/// The example of a path in the document: each parameter with a value.
fn example(path: &str) -> String {
    path.replace("{model}", "model")
        .replace("{request_id}", "none")
        .replace("{subject_request_id}", "none")
        .replace("{id}", "none")
        .replace("{tile}", "entries/000.p/1")
}

#[test]
fn each_route_answers_what_the_document_says() {
    let (world, tokens) = World::with(&[&Role::ALL], |_| {});
    let document = world.get("/openapi.json").send().expect(200).json();
    let paths = document["paths"].as_object().unwrap();
    for path in
        ["/predict", "/deletions", "/deletions/{request_id}/receipt", "/audits", "/ledger/tile/{tile}", "/metrics"]
    {
        assert!(paths.contains_key(path), "{path}");
    }
    let mut seen = 0;
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap();
            let secured = operation.get("security").is_some();
            let (method, url) = (method.to_uppercase(), example(path));
            let bodies = [
                json!({}),
                json!(null),
                json!({ "inputs": 3 }),
                question(0),
                json!({ "records": ["record-7"], "request_id": "doc" }),
                json!({ "inputs": [{ "name": "features", "shape": [1, 16], "datatype": "FP32", "data": crate::world::features(0) }] }),
            ];
            for body in bodies {
                for token in [None, Some("s3t_000000000000_x"), Some(tokens[0].as_str())] {
                    let ask = world.ask(&method, &url);
                    let ask = token.map_or_else(|| world.ask(&method, &url), |token| ask.token(token));
                    let reply = if method == "POST" { ask.json(&body).send() } else { ask.send() };
                    let response = responses.get(&reply.status.to_string());
                    let response =
                        response.unwrap_or_else(|| panic!("{method} {path} gives {}: {}", reply.status, reply.text()));
                    assert_eq!(reply.status == 401, secured && token != Some(tokens[0].as_str()), "{method} {path}");
                    if let Some(content) = response["content"].as_object() {
                        let kind =
                            reply.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
                        let schema = content.get(kind).unwrap_or_else(|| panic!("{method} {path} gives {kind}"));
                        check_required(&document, &schema["schema"], &reply, path);
                    }
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 200, "{seen}");
}

/// Checks that an answer has the fields that its schema requires, and no others.
fn check_required(document: &Value, schema: &Value, reply: &crate::world::Reply, path: &str) {
    let Some(reference) = schema["$ref"].as_str() else { return };
    let schema = &document["components"]["schemas"][reference.rsplit('/').next().unwrap()];
    let Some(properties) = schema["properties"].as_object() else { return };
    let answer = reply.json();
    let answer = answer.as_object().unwrap();
    for required in schema["required"].as_array().into_iter().flatten() {
        assert!(answer.contains_key(required.as_str().unwrap()), "{path}: {required} is missing in {answer:?}");
    }
    for field in answer.keys() {
        assert!(properties.contains_key(field), "{path}: {field} is not in the document");
    }
}

#[test]
fn the_figures_are_well_formed_and_tell_of_deletions() {
    let world = World::new();
    world.post("/predict", &question(0)).send().expect(200);
    world.post("/deletions", &json!({ "request_id": "one", "records": ["record-1"] })).send().expect(201);
    world.wait_for_phase("/deletions/one", None, "erased");
    let text = world.get("/metrics").send().expect(200).text();
    for line in [
        "s3t_epoch 1",
        "s3t_answers_total 1",
        "s3t_deletions{phase=\"erased\"} 1",
        "s3t_deletion_seconds_count{phase=\"effect\"} 1",
        "s3t_deletion_seconds_count{phase=\"erase\"} 1",
        "s3t_http_requests_total{route=\"/deletions\",status=\"201\"} 1",
        "s3t_callbacks_waiting 0",
    ] {
        assert!(text.lines().any(|found| found == line), "no `{line}` in {text}");
    }
    // Every sample has a help and a type above it, and no label names a request.
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
        let has = |kind: &str| [name, family].iter().any(|name| text.contains(&format!("# {kind} {name} ")));
        assert!(has("HELP") && has("TYPE"), "{line}");
        assert!(!line.contains("one\""), "{line}");
    }
}
