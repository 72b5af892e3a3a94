//! Answers, by both protocols.

use crate::world::{World, features, question, stage_keys};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

#[test]
fn answers_name_their_epoch_and_their_stages() {
    let world = World::new();
    let one = world.post("/predict", &question(0)).send().expect(200);
    let classes = one.json();
    let classes = classes.as_array().unwrap();
    let scores: Vec<f64> = classes.iter().map(|class| class["score"].as_f64().unwrap()).collect();
    assert_eq!(classes.len(), 3);
    assert!(scores.is_sorted_by(|one, other| one >= other) && (scores.iter().sum::<f64>() - 1.0).abs() < 1e-5);
    assert!(classes[0]["label"].as_str().unwrap().starts_with("class-"));

    assert_eq!(one.header("x-s3t-epoch"), Some("0"));
    let snapshot = world.system().snapshot().unwrap();
    let serves: Vec<String> =
        snapshot.serves((0..2).map(s3t_core::ShardId)).iter().map(|shard| shard.stage.unwrap().to_string()).collect();
    assert_eq!(stage_keys(one.header("x-s3t-stages").unwrap()), serves);

    // A list gives a list, in its order; raw scores are the system's own.
    let asked = json!({ "inputs": [{ "features": features(0) }, { "features": features(1) }], "raw_scores": true });
    let many = world.post("/predict", &asked).send().expect(200).json();
    assert_eq!(many.as_array().unwrap().len(), 2);
    let records = s3t_testkit::toy_records(2, 0, 12);
    let own = world.system().predict(&records).unwrap();
    for (answer, own) in many.as_array().unwrap().iter().zip(own) {
        let best = own.scores.iter().copied().fold(f32::MIN, f32::max);
        assert!((answer[0]["score"].as_f64().unwrap() as f32 - best).abs() < 1e-4);
        assert_eq!(answer[0]["label"], format!("class-{}", own.label.unwrap()));
    }
    // A list of one stays a list.
    let listed = world.post("/predict", &json!({ "inputs": [{ "features": features(0) }] })).send().expect(200).json();
    assert!(listed[0][0]["label"].is_string());
}

#[test]
fn a_caller_can_demand_an_epoch() {
    let world = World::new();
    let ask = |epoch: &str| world.post("/predict", &question(0)).header("x-s3t-min-epoch", epoch).send();
    ask("0").expect(200);
    let refused = ask("1").expect(412);
    assert_eq!(refused.json()["error_type"], "epoch-not-reached");
    ask("-1").expect(400);
    world.post("/deletions", &json!({ "records": ["record-1"] })).send().expect(201);
    assert_eq!(ask("1").expect(200).header("x-s3t-epoch"), Some("1"));
}

#[test]
fn pictures_are_bytes_or_base64() {
    let world = World::new();
    let pixels: Vec<u8> = (0..16).map(|pixel| pixel * 16).collect();
    let png = s3t_testkit::grey_png(4, 4, &pixels);
    let bytes = world.ask("POST", "/predict").header("content-type", "image/png").bytes(png.clone()).send().expect(200);
    let text = STANDARD.encode(&png);
    let base64 = world.post("/predict", &json!({ "inputs": { "image": text } })).send().expect(200);
    assert_eq!(bytes.json(), base64.json());
    let url = format!("data:image/png;base64,{text}");
    assert_eq!(world.post("/predict", &json!({ "inputs": { "image": url } })).send().expect(200).json(), bytes.json());
    let v2 = json!({ "inputs": [{ "name": "image", "shape": [1], "datatype": "BYTES", "data": [text] }] });
    let v2 = world.post("/v2/models/model/infer", &v2).send().expect(200).json();
    assert_eq!(v2["outputs"][1]["data"][0], bytes.json()[0]["label"]);
    let broken = world.ask("POST", "/predict").header("content-type", "image/png").bytes(&png[..20]).send().expect(422);
    assert!(broken.json()["error"].as_str().unwrap().contains("image in the body"), "{}", broken.text());
}

#[test]
fn the_open_inference_protocol_is_spoken() {
    let world = World::new();
    assert_eq!(world.get("/v2").send().expect(200).json()["name"], "s3t");
    world.get("/v2/health/live").send().expect(200);
    world.get("/v2/health/ready").send().expect(200);
    world.get("/v2/models/model/ready").send().expect(200);
    world.get("/v2/models/other/ready").send().expect(404);
    let model = world.get("/v2/models/model").send().expect(200).json();
    assert_eq!((&model["versions"], &model["outputs"][0]["shape"]), (&json!(["0"]), &json!([-1, 3])));

    let infer = |body: &Value| world.post("/v2/models/model/infer", body).send();
    let input = json!({ "name": "features", "shape": [2, 16], "datatype": "FP32", "data": [features(0), features(1)] });
    let answer = infer(&json!({ "id": "42", "inputs": [input], "outputs": [{ "name": "label" }] })).expect(200);
    assert_eq!(answer.header("x-s3t-epoch"), Some("0"));
    let answer = answer.json();
    assert_eq!(
        (&answer["id"], &answer["model_version"], &answer["parameters"]["epoch"]),
        (&json!("42"), &json!("0"), &json!(0))
    );
    assert_eq!(stage_keys(answer["parameters"]["stages"].as_str().unwrap()).len(), 2);
    let outputs = answer["outputs"].as_array().unwrap();
    assert_eq!((outputs.len(), &outputs[0]["shape"], &outputs[0]["name"]), (1, &json!([2]), &json!("label")));

    let features = |field: &str, value: Value| {
        let mut input = json!({ "name": "features", "shape": [1, 16], "datatype": "FP32", "data": vec![0; 16] });
        input[field] = value;
        json!({ "inputs": [input] })
    };
    let wanted =
        |output: Value| json!({ "inputs": features("name", json!("features"))["inputs"], "outputs": [output] });
    infer(&features("parameters", json!({ "content_type": "np" }))).expect(200);
    infer(&wanted(json!({ "name": "label", "parameters": { "binary_data": false } }))).expect(200);
    for (body, part) in [
        (json!({ "inputs": [] }), "one tensor"),
        (json!({ "inputs": [], "output": [{ "name": "label" }] }), "unknown field `output`"),
        (json!({ "inputs": [], "parameters": { "timeout": 5 } }), "unknown parameter `timeout`"),
        (features("datatype", json!("FP3")), "unknown type FP3"),
        (features("classes", json!(3)), "unknown field `classes`"),
        (
            wanted(json!({ "name": "scores", "parameters": { "classification": 3 } })),
            "unknown parameter `classification`",
        ),
        (
            json!({ "inputs": [{ "name": "features", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3] }] }),
            "3 values",
        ),
        (json!({ "inputs": [{ "name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1] }] }), "give `text`"),
        (json!({ "inputs": [{ "name": "features", "shape": [1, 1], "datatype": "FP32", "data": ["a"] }] }), "finite"),
        (
            json!({ "inputs": [{ "name": "features", "shape": [u64::MAX, 2], "datatype": "FP32", "data": [1] }] }),
            "1 values",
        ),
        (
            json!({ "inputs": [{ "name": "features", "shape": [1, 16], "datatype": "FP32", "data": vec![0; 16] }], "outputs": [{ "name": "y" }] }),
            "`scores`",
        ),
    ] {
        let refused = infer(&body);
        assert!(refused.status == 400 || refused.status == 422, "{body}: {}", refused.text());
        assert!(refused.json()["error"].as_str().unwrap().contains(part), "{body}: {}", refused.text());
    }
    let binary = world.post("/v2/models/model/infer", &json!({})).header("inference-header-content-length", "2").send();
    assert!(binary.expect(415).text().contains("binary_data=False"));
}

#[test]
fn what_cannot_be_answered_is_refused_by_name() {
    let (world, _) = World::with(&[], |settings| {
        settings.request_records = 2;
        settings.body_bytes = 4096;
    });
    let ask = |body: Value| world.post("/predict", &body).send();
    for (body, status, part) in [
        (json!({}), 400, "missing field `inputs`"),
        (json!({ "inputs": [] }), 400, "`inputs` is empty"),
        (json!({ "inputs": 3 }), 400, "`inputs` takes"),
        (json!({ "inputs": "text", "extra": 1 }), 400, "unknown field `extra`"),
        (json!({ "inputs": "a text for a model of pictures" }), 422, "text"),
        (json!({ "inputs": { "features": [1, 2] } }), 422, "features"),
        (json!({ "inputs": { "features": [null] } }), 400, "null"),
        (json!({ "inputs": { "image": "!" } }), 400, "base64"),
        (json!({ "inputs": [[], []] }), 400, "`inputs` takes"),
        (json!({ "inputs": vec![json!({ "features": [0] }); 3] }), 413, "at most 2"),
        (json!({ "inputs": "x".repeat(5000) }), 413, "4096 bytes"),
    ] {
        let refused = ask(body.clone()).expect(status);
        assert!(refused.json()["error"].as_str().unwrap().contains(part), "{body}: {}", refused.text());
    }
    let text = world.ask("POST", "/predict").header("content-type", "text/plain").bytes("{}").send().expect(415);
    assert!(text.text().contains("application/json"));
    world.ask("POST", "/predict").header("content-type", "application/json").bytes([0xFF, 0xFE]).send().expect(400);
    world.get("/nothing").send().expect(404);
    world.get("/predict").send().expect(405);
}
