//! Privacy requests by OpenDSR 2.0, with their callbacks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::controller::Controller;
use crate::world::{Reply, World};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use s3t_server::{OpenDsrSettings, Role, ServerSettings};
use serde_json::{Value, json};

const ONE: &str = "a7551968-d5d6-44b2-9831-815ac9017798";
const TWO: &str = "b7551968-d5d6-44b2-9831-815ac9017798";

fn key_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/opendsr-key").join(name)
}

fn settings(hosts: Vec<String>, authorities: Option<PathBuf>) -> OpenDsrSettings {
    OpenDsrSettings {
        domain: "dsr.example.com".into(),
        certificate: key_file("cert.pem"),
        key: key_file("key.pem"),
        callback_hosts: hosts,
        callback_authorities: authorities,
    }
}

/// `true` if a signature is of these bytes, by the key of the certificate.
fn is_signed(bytes: &[u8], signature: &str) -> bool {
    let public = std::fs::read(key_file("public.der")).unwrap();
    let signature = STANDARD.decode(signature).unwrap();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public).verify(bytes, &signature).is_ok()
}

#[track_caller]
fn check_signed(reply: &Reply) {
    for name in ["opendsr", "opengdpr"] {
        assert_eq!(reply.header(&format!("x-{name}-processor-domain")), Some("dsr.example.com"));
        let signature = reply.header(&format!("x-{name}-signature")).unwrap();
        assert!(is_signed(&reply.body, signature));
    }
}

fn request(id: &str, subject: &str) -> Value {
    json!({
        "regulation": "gdpr",
        "subject_request_id": id,
        "subject_request_type": "erasure",
        "submitted_time": "2026-11-26T09:00:00Z",
        "subject_identities": [
            { "identity_type": "controller_customer_id", "identity_value": subject, "identity_format": "raw" }
        ],
        "api_version": "2.0",
        "status_callback_urls": [],
    })
}

fn world(change: impl FnOnce(&mut ServerSettings)) -> (World, Vec<String>) {
    World::with(&[&[Role::Delete], &[Role::Delete]], |settings_| {
        settings_.opendsr = Some(settings(Vec::new(), None));
        change(settings_);
    })
}

#[test]
fn a_request_is_made_watched_and_completed_known_or_not() {
    let (world, tokens) = world(|_| {});
    let discovery = world.get("/v2/discovery").send().expect(200);
    check_signed(&discovery);
    assert_eq!(discovery.json()["supported_identities"][0]["identity_type"], "controller_customer_id");
    assert!(world.get("/v2/certificate.pem").send().expect(200).text().starts_with("-----BEGIN CERTIFICATE"));
    for (id, subject) in [(ONE, "subject-1"), (TWO, "nobody")] {
        let body = request(id, subject);
        let made = world.post("/v2/requests", &body).token(&tokens[0]).send().expect(201);
        check_signed(&made);
        let made = made.json();
        assert_eq!(STANDARD.decode(made["encoded_request"].as_str().unwrap()).unwrap(), body.to_string().as_bytes());
        assert_eq!(made["subject_request_id"], id);
        let path = format!("/v2/requests/{id}");
        let state = world.wait_for_phase(&path, Some(&tokens[0]), "completed");
        let fields: Vec<&String> = state.as_object().unwrap().keys().collect();
        assert_eq!(fields.len(), 7, "{state}");
        assert_eq!((&state["results_url"], &state["results_count"]), (&json!(null), &json!(null)));
        // The same again, by its old name.
        world.post("/opengdpr_requests", &body).token(&tokens[0]).send().expect(201);
        world.post("/v2/requests", &request(id, "subject-5")).token(&tokens[0]).send().expect(409);
        world.ask("DELETE", &path).token(&tokens[0]).send().expect(409);
        check_signed(&world.get(&path).token(&tokens[1]).send().expect(404));
    }
    assert_eq!(world.system().snapshot().unwrap().epoch().0, 1);
}

#[test]
fn a_request_is_pending_until_its_batch_and_can_be_cancelled_until_then() {
    let (world, tokens) = world(|settings| settings.batch_minutes = 60);
    world.post("/v2/requests", &request(ONE, "subject-1")).token(&tokens[0]).send().expect(201);
    let path = format!("/v2/requests/{ONE}");
    assert_eq!(world.get(&path).token(&tokens[0]).send().expect(200).json()["request_status"], "pending");
    let cancelled = world.ask("DELETE", &path).token(&tokens[0]).send().expect(202);
    check_signed(&cancelled);
    assert_eq!(cancelled.json()["request_status"], "cancelled");
    assert_eq!(world.system().snapshot().unwrap().epoch().0, 0);
}

#[test]
fn what_is_not_spoken_is_refused_without_the_identity() {
    let (world, tokens) = world(|_| {});
    let changed = |field: &str, value: Value| {
        let mut body = request(ONE, "subject-1");
        body[field] = value;
        body
    };
    let identity = |kind: &str, format: &str| json!([{ "identity_type": kind, "identity_value": "anna@example.com", "identity_format": format }]);
    for (body, part) in [
        (changed("subject_request_id", json!(ONE.to_uppercase())), "lowercase"),
        (changed("subject_request_id", json!("a7551968-d5d6-14b2-9831-815ac9017798")), "version 4"),
        (changed("subject_request_type", json!("access")), "`access`"),
        (changed("subject_request_type", json!("portability")), "`portability`"),
        (changed("submitted_time", json!("yesterday")), "submitted_time"),
        (changed("api_version", json!("3.0")), "2.0"),
        (changed("subject_identities", json!([])), "1 to"),
        (changed("subject_identities", identity("email", "raw")), "controller_customer_id"),
        (changed("subject_identities", identity("controller_customer_id", "sha256")), "raw"),
        (changed("status_callback_urls", json!(["https://elsewhere.example.com/x"])), "callback_hosts"),
        (changed("status_callback_urls", json!(["http://dsr.example.com/x"])), "HTTPS"),
        (changed("status_callback_urls", json!(vec!["https://a"; 6])), "at most 5"),
        (json!({}), "missing field"),
        (changed("status_callback_url", json!("https://dsr.example.com/x")), "unknown field `status_callback_url`"),
    ] {
        let refused = world.post("/v2/requests", &body).token(&tokens[0]).send().expect(400);
        check_signed(&refused);
        let error = refused.json()["error"].clone();
        assert!(error["message"].as_str().unwrap().contains(part), "{error}");
        assert!(error["code"] == 400 && error["errors"][0]["domain"] == "dsr.example.com");
        assert!(!refused.text().contains("anna@example.com"));
    }
    check_signed(&world.post("/v2/requests", &request(ONE, "subject-1")).send().expect(401));
    assert_eq!(world.system().snapshot().unwrap().epoch().0, 0);
}

#[test]
fn each_change_is_told_at_least_once_with_the_same_signed_bytes() {
    let controller = Controller::start(|index| if index == 0 { 500 } else { 204 });
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("authority.pem");
    std::fs::write(&authority, &controller.authority).unwrap();
    let host = format!("localhost:{}", controller.port);
    let (mut world, tokens) =
        world(|settings_| settings_.opendsr = Some(settings(vec![host.clone()], Some(authority))));
    let mut body = request(ONE, "subject-1");
    body["status_callback_urls"] = json!([format!("https://{host}/told")]);
    world.post("/v2/requests", &body).token(&tokens[0]).send().expect(201);
    let next = || controller.came.recv_timeout(Duration::from_secs(60)).unwrap();
    let (first_head, first) = next();
    // The server ends and starts again: what was not taken is sent again, the same bytes.
    world.stop();
    world.start();
    let (_, again) = next();
    assert_eq!(first, again);
    let told =
        |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap()["request_status"].as_str().unwrap().to_owned();
    assert_eq!(told(&first), "in_progress");
    let (_, last) = next();
    assert_eq!(told(&last), "completed");
    assert!(first_head[0].starts_with("post /told"));
    let line = |name: &str| first_head.iter().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    assert_eq!(line("x-opendsr-processor-domain: ").as_deref(), Some("dsr.example.com"));
    assert!(line("x-opendsr-signature: ").is_some() && line("x-opengdpr-signature: ").is_some());
    // The count of callbacks that wait falls to zero.
    let start = std::time::Instant::now();
    while !world.get("/metrics").send().text().contains("s3t_callbacks_waiting 0") {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(50));
    }
}
