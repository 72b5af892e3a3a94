//! The page, as a browser without JavaScript has it.

use crate::world::World;
use s3t_server::Role;
use serde_json::json;

#[test]
fn the_page_tells_what_is_so_in_every_state() {
    let (world, _) = World::with(&[], |settings| settings.batch_minutes = 60);
    let page = || world.get("/ui").send().expect(200).text();
    let fresh = page();
    for part in [
        "Nothing was deleted yet.",
        "promise kept",
        "60 records",
        "sequence 0 at depth",
        "No deletion was requested here yet.",
    ] {
        assert!(fresh.contains(part), "no `{part}` in {fresh}");
    }
    world.post("/deletions", &json!({ "request_id": "<b>ticket</b>", "subjects": ["subject-1"] })).send().expect(201);
    world.wait_for_phase("/deletions/%3Cb%3Eticket%3C%2Fb%3E", None, "erased");
    let due = (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(86_400)).to_string();
    world.post("/deletions", &json!({ "request_id": "later", "records": ["record-2"], "due": due })).send().expect(202);
    let after = page();
    for part in [
        "The deletion is in effect; every byte is erased; 1 is waiting for a batch.",
        "missing",
        "in reserve",
        "&lt;b&gt;ticket",
        "later",
    ] {
        assert!(after.contains(part), "no `{part}` in {after}");
    }
    assert!(!after.contains("<b>ticket") && !after.contains("subject-1") && !after.contains("record-2"));
    let found = world.get("/ui?search=later").send().expect(200).text();
    assert!(found.contains("later") && !found.contains("ticket&lt;"));
    let receipt = world.get("/ui/receipts/%3Cb%3Eticket%3C%2Fb%3E").send().expect(200);
    assert!(receipt.header("content-disposition").unwrap().starts_with("attachment"));
    world.get("/ui/receipts/nothing").send().expect(404);
}

#[test]
fn nothing_from_elsewhere_is_allowed() {
    let world = World::new();
    let page = world.get("/ui").send().expect(200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.contains("default-src 'none'")
            && !policy.contains("unsafe")
            && policy.contains("frame-ancestors 'none'")
    );
    let text = page.text();
    assert!(
        !text.contains("style=") && !text.contains("onclick") && !text.contains("<script>") && !text.contains("http"),
        "{text}"
    );
    assert!(text.contains("lang=\"en\"") && text.contains("name=\"viewport\""));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert_eq!(world.get("/").send().expect(303).header("location"), Some("/ui"));
    world.get("/ui/style.css").send().expect(200);
    world.get("/ui/live.js").send().expect(200);
}

#[test]
fn people_sign_in_with_a_token_and_out_again() {
    let (world, tokens) = World::with(&[&[Role::Operate], &[Role::Ask]], |_| {});
    assert_eq!(world.get("/ui").send().expect(303).header("location"), Some("/ui/sign-in"));
    let sign_in = |token: &str| {
        let form = world.ask("POST", "/ui/sign-in").header("content-type", "application/x-www-form-urlencoded");
        form.bytes(format!("token={token}")).send()
    };
    assert!(sign_in("s3t_wrong_x").expect(401).text().contains("unknown token"));
    assert!(sign_in(&tokens[1]).expect(403).text().contains("operate or audit"));
    let signed = sign_in(&tokens[0]).expect(303);
    let cookie = signed.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains(&tokens[0]));
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let page = world.get("/ui").header("cookie", &cookie).send().expect(200).text();
    assert!(page.contains("Sign out") && !page.contains("id=\"ask\""), "an operator who may not ask has no box");
    // The cookie opens the page, and only for the page's own forms.
    world.get("/ui").header("cookie", &cookie).header("origin", "https://evil.example.com").send().expect(303);
    let audit = world.ask("POST", "/ui/audits").header("cookie", &cookie).bytes("").send().expect(303);
    let report = world.get(audit.header("location").unwrap()).header("cookie", &cookie).send().expect(200).text();
    assert!(report.contains("Audit: "));
    world.ask("POST", "/ui/sign-out").header("cookie", &cookie).bytes("").send().expect(303);
    world.get("/ui").header("cookie", &cookie).send().expect(303);
}

#[test]
fn the_answer_box_answers() {
    let world = World::new();
    let post = |name: &str, value: &str| {
        let body = format!("--x\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n--x--\r\n");
        world.ask("POST", "/ui/ask").header("content-type", "multipart/form-data; boundary=x").bytes(body).send()
    };
    let numbers: Vec<String> = crate::world::features(0).as_array().unwrap().iter().map(ToString::to_string).collect();
    let answered = post("text", &numbers.join(", ")).expect(200).text();
    assert!(answered.contains("It knows of epoch 0") && answered.contains("class-"), "{answered}");
    assert!(post("text", "").expect(200).text().contains("nothing was asked"));
    assert!(post("text", "one, two").expect(200).text().contains("numbers with commas"));
    world.ask("POST", "/ui/ask").header("content-type", "text/plain").bytes("x").send().expect(200);
}

#[test]
fn the_page_follows_what_happens() {
    use std::io::Read as _;
    let world = World::new();
    let agent = ureq::Agent::new_with_defaults();
    let events = agent.get(format!("http://{}/ui/events", world.server().address())).call().unwrap();
    let mut reader = events.into_body().into_reader();
    let mut text = String::new();
    let mut read_until = |part: &str| {
        let start = std::time::Instant::now();
        while !text.contains(part) {
            let mut bytes = [0; 4096];
            let count = reader.read(&mut bytes).unwrap();
            text.push_str(&String::from_utf8_lossy(&bytes[..count]));
            assert!(count > 0 && start.elapsed() < std::time::Duration::from_secs(30), "{text}");
        }
    };
    read_until("Nothing was deleted yet.");
    world.post("/deletions", &json!({ "records": ["record-1"] })).send().expect(201);
    read_until("The deletion is in effect");
}
