//! Followers: a server that answers with the stages of another.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::authority::Authority;
use crate::between::{Between, Mode};
use crate::world::{Ask, World, ask_at, question, stage_keys};
use s3t_core::StageKey;
use s3t_core::digest::DigestBuilder;
use s3t_engine::Replica;
use s3t_server::{FollowSettings, Role, Server, ServerError, ServerSettings, TlsSettings};
use s3t_testkit::{tiny_pipeline, write_tiny_model};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The time in which everything that is waited for happens, on however slow a machine.
const PATIENCE: Duration = Duration::from_secs(120);

struct Following {
    folder: TempDir,
    server: Option<Server>,
}

impl Following {
    /// A follower with the leader's model, and with nothing else of the leader.
    fn new(model: &Path, leader: &str, token: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut follow = FollowSettings::of(leader);
        if let Some(token) = token {
            let file = folder.path().join("leader.token");
            std::fs::write(&file, format!("{token}\n")).unwrap();
            follow.token_file = Some(file);
        }
        Self::with(model, follow, folder).unwrap()
    }

    fn with(model: &Path, follow: FollowSettings, folder: TempDir) -> Result<Self, ServerError> {
        let settings = ServerSettings {
            address: "127.0.0.1:0".into(),
            stop_delay_seconds: 0.0,
            follow: Some(follow),
            ..ServerSettings::default()
        };
        let replica = Replica::open(tiny_pipeline(model, &folder.path().join("store"))).unwrap();
        Ok(Self { server: Some(Server::follow(replica, settings)?), folder })
    }

    fn of(world: &World, between: &Between) -> Self {
        Self::new(&world.path("model"), &format!("http://{}", between.address), None)
    }

    fn ask<'a>(&self, method: &'a str, path: &'a str) -> Ask<'a> {
        ask_at(self.server.as_ref().unwrap().address(), method, path)
    }

    fn post<'a>(&self, path: &'a str, body: &Value) -> Ask<'a> {
        self.ask("POST", path).json(body)
    }

    /// Waits until the follower is ready at this epoch, and holds every stage.
    #[track_caller]
    fn wait_for_epoch(&self, epoch: u64) {
        self.wait(|this| {
            let ready = this.ask("GET", "/readyz").send();
            (ready.status == 200 && ready.json()["epoch"] == epoch).then_some(()).ok_or_else(|| ready.text())
        });
    }

    /// Waits until `/readyz` refuses with this text.
    #[track_caller]
    fn wait_for_problem(&self, problem: &str) {
        self.wait(|this| {
            let ready = this.ask("GET", "/readyz").send();
            (ready.status == 503 && ready.text().contains(problem)).then_some(()).ok_or_else(|| ready.text())
        });
    }

    #[track_caller]
    fn wait(&self, is_so: impl Fn(&Self) -> Result<(), String>) {
        let start = Instant::now();
        while let Err(found) = is_so(self) {
            assert!(start.elapsed() < PATIENCE, "still {found}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

/// A leader with a lease of some seconds, without tokens, and what stands before it.
fn leader(lease: f64) -> (World, Between) {
    let (world, _) = World::with(&[], |settings| settings.lease_seconds = lease);
    let between = Between::new(world.server().address());
    (world, between)
}

/// The stages that the first deletions cut.
fn dead_after(world: &World, epochs: usize) -> BTreeSet<String> {
    let receipts = world.system().store().receipts().unwrap();
    let before = receipts.iter().filter(|receipt| receipt.effect.epoch.0 as usize <= epochs);
    before.flat_map(|receipt| receipt.effect.cut.iter().map(ToString::to_string)).collect()
}

/// Answers that a follower gives until it is over: the deletions that were acknowledged before the question, the epoch and the stages.
fn ask_without_pause(
    following: &Following,
    index: usize,
    acknowledged: &AtomicUsize,
    is_over: &AtomicBool,
) -> Vec<(usize, usize, Vec<String>)> {
    let mut seen = Vec::new();
    while !is_over.load(Ordering::SeqCst) {
        let known = acknowledged.load(Ordering::SeqCst);
        let reply = following.post("/predict", &question(index)).send();
        match reply.status {
            200 => {
                let epoch: usize = reply.header("x-s3t-epoch").unwrap().parse().unwrap();
                seen.push((known, epoch, stage_keys(reply.header("x-s3t-stages").unwrap())));
            }
            503 => {}
            _ => panic!("{}: {}", reply.status, reply.text()),
        }
    }
    seen
}

#[track_caller]
fn check_answers(world: &World, answers: &[(usize, usize, Vec<String>)], deletions: usize) {
    let dead: Vec<BTreeSet<String>> = (0..=deletions).map(|epochs| dead_after(world, epochs)).collect();
    assert!(!dead[deletions].is_empty());
    for (known, epoch, keys) in answers {
        assert!(epoch >= known, "an answer of epoch {epoch} was asked for after {known} acknowledged deletions");
        for key in keys {
            assert!(!dead[*known].contains(key), "stage {key} is dead since one of the first {known} deletions");
            assert!(!dead[*epoch].contains(key), "stage {key} is dead at the answer's own epoch {epoch}");
        }
    }
}

#[test]
fn a_follower_answers_as_its_leader_does_and_has_nothing_else() {
    let roles: &[&[Role]] = &[&[Role::Follow], &[Role::Ask, Role::Delete, Role::Audit]];
    let (world, tokens) = World::with(roles, |settings| settings.private_address = Some("127.0.0.1:0".into()));
    let [follow, other] = &tokens[..] else { panic!() };
    let leader = format!("http://{}", world.server().private_address());
    let following = Following::new(&world.path("model"), &leader, Some(follow));
    following.wait_for_epoch(0);
    let check_equal = || {
        for index in 0..12 {
            let mut body = question(index);
            body["raw_scores"] = json!(true);
            let theirs = world.post("/predict", &body).token(other).send().expect(200);
            let own = following.post("/predict", &body).send().expect(200);
            assert_eq!(own.text(), theirs.text());
            for header in ["x-s3t-epoch", "x-s3t-stages"] {
                assert_eq!(own.header(header), theirs.header(header));
            }
        }
    };
    check_equal();
    let request = json!({ "request_id": "one", "subjects": ["subject-1"] });
    let ask = ask_at(world.server().private_address(), "POST", "/deletions");
    ask.json(&request).token(other).send().expect(201);
    // The stages in reserve are there already, so the leader's choice is the follower's at once.
    check_equal();
    world.wait_for_phase("/deletions/one", Some(other), "erased");

    // The other protocol answers too; what is the leader's is named as the leader's.
    following.ask("GET", "/v2/health/ready").send().expect(200);
    for (method, path) in
        [("POST", "/deletions"), ("GET", "/ledger/checkpoint"), ("GET", "/ui"), ("GET", "/replica/state")]
    {
        let refused = following.ask(method, path).json(&request).send().expect(404);
        assert!(refused.text().contains(&leader), "{}", refused.text());
    }
    let metrics = following.ask("GET", "/metrics").send().expect(200).text();
    for line in ["s3t_epoch 1", "s3t_follow_lag_seconds ", "s3t_follow_lease_seconds "] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
    assert!(world.get("/metrics").send().expect(200).text().contains("s3t_followers 1"));
    // No file but the token, which the test put there.
    let files: Vec<_> =
        std::fs::read_dir(following.folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["leader.token"]);
    // Nobody else gets the stages, and nobody gets them on the port of answers.
    for path in ["/replica/state", "/replica/stages/00"] {
        world.ask_private("GET", path).token(other).send().expect(403);
        world.ask_private("GET", path).send().expect(401);
        world.get(path).token(follow).send().expect(404);
    }
    // What goes to followers names no record and no subject.
    let state = world.ask_private("GET", "/replica/state").token(follow).send().expect(200).text();
    assert!(!state.contains("record-") && !state.contains("subject-"), "{state}");
}

/// The promise: no answer of a follower that began after a deletion was acknowledged comes from a stage that the deletion cut.
#[test]
fn no_answer_after_an_acknowledged_deletion_uses_a_dead_stage_at_a_follower() {
    const ASKERS: usize = 4;
    const DELETIONS: usize = 10;
    let (world, between) = leader(5.0);
    let following = Following::of(&world, &between);
    following.wait_for_epoch(0);
    let (acknowledged, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let answers = std::thread::scope(|scope| {
        let (following, acknowledged, is_over) = (&following, &acknowledged, &is_over);
        let ask = |index| scope.spawn(move || ask_without_pause(following, index, acknowledged, is_over));
        let askers: Vec<_> = (0..ASKERS).map(ask).collect();
        for index in 0..DELETIONS {
            let id = format!("request-{index}");
            let body = json!({ "request_id": id, "records": [format!("record-{}", 5 * index)] });
            world.post("/deletions", &body).send().expect(201);
            acknowledged.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(20));
        }
        is_over.store(true, Ordering::SeqCst);
        askers.into_iter().flat_map(|asker| asker.join().unwrap()).collect::<Vec<_>>()
    });
    check_answers(&world, &answers, DELETIONS);
    let epochs: BTreeSet<usize> = answers.iter().map(|(_, epoch, _)| *epoch).collect();
    assert!(epochs.len() > 2, "{epochs:?}");
    world.wait_for_phase("/deletions/request-9", None, "erased");
}

#[test]
fn a_follower_that_is_cut_off_stops_answering_before_deletions_are_complete_and_comes_back() {
    let (world, between) = leader(1.0);
    let following = Following::of(&world, &between);
    following.wait_for_epoch(0);
    let (acknowledged, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let answers = std::thread::scope(|scope| {
        let (following, acknowledged, is_over) = (&following, &acknowledged, &is_over);
        let ask = |index| scope.spawn(move || ask_without_pause(following, index, acknowledged, is_over));
        let askers: Vec<_> = (0..2).map(ask).collect();
        between.set(Mode::Stall);
        // Several at a time wait together.
        std::thread::scope(|scope| {
            for index in 0..4 {
                let body = json!({ "request_id": format!("request-{index}"), "records": [format!("record-{index}")] });
                let world = &world;
                scope.spawn(move || world.post("/deletions", &body).send().expect(201));
            }
        });
        acknowledged.store(4, Ordering::SeqCst);
        let refused = following.post("/predict", &question(0)).send().expect(503);
        assert!(refused.text().contains("has no lease of its leader"), "{}", refused.text());
        following.ask("GET", "/readyz").send().expect(503);
        following.ask("GET", "/livez").send().expect(200);
        // Nobody waits for it any more.
        let body = json!({ "request_id": "request-4", "records": ["record-4"] });
        world.post("/deletions", &body).send().expect(201);
        acknowledged.store(5, Ordering::SeqCst);
        world.wait_for_phase("/deletions/request-4", None, "erased");
        // Every stage was forgotten with the lease.
        following.wait(|this| {
            let metrics = this.ask("GET", "/metrics").send().expect(200).text();
            metrics.contains("s3t_stages{state=\"live\"} 0").then_some(()).ok_or(metrics)
        });
        between.set(Mode::Forward);
        following.wait_for_epoch(5);
        following.post("/predict", &question(0)).send().expect(200);
        is_over.store(true, Ordering::SeqCst);
        askers.into_iter().flat_map(|asker| asker.join().unwrap()).collect::<Vec<_>>()
    });
    check_answers(&world, &answers, 5);
}

#[test]
fn an_accepted_deletion_waits_for_followers_whether_its_names_are_known_or_not() {
    let roles: &[&[Role]] = &[&[Role::Follow], &[Role::Delete], &[Role::Operate]];
    let (mut world, tokens) = World::with(roles, |settings| settings.lease_seconds = 600.0);
    let [follow, tool, operator] = &tokens[..] else { panic!() };
    let between = Between::new(world.server().address());
    let following = Following::new(&world.path("model"), &format!("http://{}", between.address), Some(follow));
    following.wait_for_epoch(0);
    between.set(Mode::Stall);
    std::thread::scope(|scope| {
        let mut asked = Vec::new();
        for (id, subject) in [("known", "subject-1"), ("unknown", "nobody")] {
            let body = json!({ "request_id": id, "subjects": [subject] });
            let world = &world;
            asked.push(scope.spawn(move || world.post("/deletions", &body).token(tool).send()));
        }
        for id in ["known", "unknown"] {
            let start = Instant::now();
            while world.get(&format!("/deletions/{id}")).token(tool).send().status == 404 {
                assert!(start.elapsed() < PATIENCE);
            }
            let state = world.wait_for_phase(&format!("/deletions/{id}"), Some(tool), "accepted");
            assert!(state["in_effect"].is_null() && state["erased"].is_null(), "{state}");
            world.ask("DELETE", &format!("/deletions/{id}")).token(tool).send().expect(409);
        }
        assert!(asked.iter().all(|asked| !asked.is_finished()));
        // Accepted is accepted: the leader's own answers know of it, and it says what it waits for.
        assert_eq!(world.system().snapshot().unwrap().epoch().0, 1);
        let page = world.get("/ui").token(operator).send().expect(200).text();
        assert!(page.contains("waiting for followers"), "{page}");
        between.set(Mode::Forward);
        for asked in asked {
            asked.join().unwrap().expect(201);
        }
    });
    following.wait_for_epoch(1);
    for id in ["known", "unknown"] {
        world.wait_for_phase(&format!("/deletions/{id}"), Some(tool), "erased");
    }
    // A follower that stops gives its lease back: nobody waits 600 s for it.
    drop(following);
    let body = json!({ "request_id": "last", "subjects": ["subject-2"] });
    world.post("/deletions", &body).token(tool).send().expect(201);
    world.stop();
}

#[test]
fn a_leader_that_was_restarted_waits_for_the_leases_of_the_one_before() {
    let (mut world, between) = leader(2.0);
    let following = Following::of(&world, &between);
    following.wait_for_epoch(0);
    let (acknowledged, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let answers = std::thread::scope(|scope| {
        let (following, acknowledged, is_over) = (&following, &acknowledged, &is_over);
        let asker = scope.spawn(move || ask_without_pause(following, 0, acknowledged, is_over));
        between.set(Mode::Stall);
        world.stop();
        world.start();
        let body = json!({ "request_id": "one", "records": ["record-1"] });
        world.post("/deletions", &body).send().expect(201);
        acknowledged.store(1, Ordering::SeqCst);
        following.post("/predict", &question(0)).send().expect(503);
        between.lead_to(world.server().address());
        between.set(Mode::Forward);
        following.wait_for_epoch(1);
        // The same leader again, followed again: the next deletion is confirmed.
        let body = json!({ "request_id": "two", "records": ["record-2"] });
        world.post("/deletions", &body).send().expect(201);
        acknowledged.store(2, Ordering::SeqCst);
        following.wait_for_epoch(2);
        is_over.store(true, Ordering::SeqCst);
        asker.join().unwrap()
    });
    check_answers(&world, &answers, 2);
}

#[test]
fn newly_trained_stages_reach_followers() {
    let (world, between) = leader(5.0);
    let following = Following::of(&world, &between);
    following.wait_for_epoch(0);
    world.post("/deletions", &json!({ "request_id": "one", "records": ["record-1"] })).send().expect(201);
    world.wait_for_phase("/deletions/one", None, "erased");
    let live = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("s3t_stages{state=\"live\"}")).unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()
    };
    let of_leader = || live(&world.get("/metrics").send().expect(200).text());
    let before = of_leader();
    let system = s3t_engine::System::open(crate::world::pipeline(world.folder.path())).unwrap();
    system.train(&s3t_engine::Quiet).unwrap();
    let after = of_leader();
    assert!(after > before);
    following.wait(|this| {
        let own = live(&this.ask("GET", "/metrics").send().expect(200).text());
        (own == after).then_some(()).ok_or_else(|| format!("{own} of {after} stages"))
    });
    let (own, theirs) = (following.post("/predict", &question(3)).send(), world.post("/predict", &question(3)).send());
    assert_eq!((own.text(), own.header("x-s3t-stages")), (theirs.text(), theirs.header("x-s3t-stages")));
}

#[test]
fn tokens_models_and_leaders_that_do_not_fit_are_refused_by_name() {
    let (world, tokens) = World::with(&[&[Role::Follow], &[Role::Ask]], |_| {});
    let url = format!("http://{}", world.server().address());
    let wrong = Following::new(&world.path("model"), &url, Some(&tokens[1]));
    wrong.wait_for_problem("refused with 403: this token lacks the role follow");
    let missing = Following::new(&world.path("model"), &url, None);
    missing.wait_for_problem("refused with 401: no token");
    write_tiny_model(&world.path("other-model"), 5).unwrap();
    let other = Following::new(&world.path("other-model"), &url, Some(&tokens[0]));
    other.wait_for_problem(
        "the leader's state cannot be used: the base model (weights, tokenizer, `model.max_tokens`, `model.weights`) of the leader",
    );
    // Asked for an answer they say so as well, and the leader counts none of them.
    other.post("/predict", &question(0)).send().expect(503);
    assert!(world.get("/metrics").send().expect(200).text().contains("s3t_followers 0"));
    let nobody = Following::new(&world.path("model"), "http://127.0.0.1:1", None);
    nobody.wait_for_problem("the leader cannot be reached");

    let (alone, _) = World::with(&[], |settings| settings.lease_seconds = 0.0);
    let refused = Following::new(&alone.path("model"), &format!("http://{}", alone.server().address()), None);
    refused.wait_for_problem("this server takes no followers: `server.lease_seconds` is 0");
}

#[test]
fn a_leader_is_known_by_its_certificate_and_a_follower_by_its_own() {
    let (leaders, followers) = (Authority::new(), Authority::new());
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name);
    for (authority, name) in [(&leaders, "leader"), (&followers, "follower")] {
        let (certificate, key) = authority.sign();
        std::fs::write(path(&format!("{name}.pem")), certificate).unwrap();
        std::fs::write(path(&format!("{name}.key")), key).unwrap();
        std::fs::write(path(&format!("{name}s.pem")), &authority.pem).unwrap();
    }
    let tls = TlsSettings {
        certificate: path("leader.pem"),
        key: path("leader.key"),
        client_authority: Some(path("followers.pem")),
    };
    let (world, _) = World::with(&[], |settings| settings.tls = Some(tls));
    let right = FollowSettings {
        authority: Some(path("leaders.pem")),
        certificate: Some(path("follower.pem")),
        key: Some(path("follower.key")),
        ..FollowSettings::of(format!("https://localhost:{}", world.server().address().port()))
    };
    let follow = |follow: FollowSettings| Following::with(&world.path("model"), follow, tempfile::tempdir().unwrap());
    let following = follow(right.clone()).unwrap();
    following.wait_for_epoch(0);
    following.post("/predict", &question(0)).send().expect(200);
    let wrong = [
        FollowSettings { authority: Some(path("followers.pem")), ..right.clone() },
        FollowSettings { certificate: None, key: None, ..right.clone() },
        FollowSettings { certificate: Some(path("leader.pem")), key: Some(path("leader.key")), ..right.clone() },
        FollowSettings { leader: right.leader.replace("https", "http"), ..right.clone() },
    ];
    for settings in wrong {
        follow(settings).unwrap().wait_for_problem("the leader cannot be reached");
    }
    // The system's authorities do not know it; a system without any says so at once.
    match follow(FollowSettings { authority: None, ..right.clone() }) {
        Ok(following) => following.wait_for_problem("the leader cannot be reached"),
        Err(error) => assert!(error.to_string().contains("`follow.authority` is missing"), "{error}"),
    }
    let message = follow(FollowSettings { key: Some(path("follower.pem")), ..right }).err().unwrap().to_string();
    assert!(message.contains("give a private key in PEM"), "{message}");
}

/// A byte of every stage is another one.
fn flip(path: &str, mut body: Vec<u8>) -> Vec<u8> {
    if path.starts_with("/replica/stages/")
        && let Some(last) = body.last_mut()
    {
        *last ^= 1;
    }
    body
}

fn change_state(path: &str, body: Vec<u8>, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    match serde_json::from_slice::<Value>(&body) {
        Ok(mut state) if path.starts_with("/replica/state") => {
            change(&mut state);
            state.to_string().into_bytes()
        }
        _ => body,
    }
}

fn unknown_key() -> String {
    StageKey(DigestBuilder::new("unknown").finish()).to_string()
}

/// The first stage of the first sequence is one that the leader does not have.
fn name_unknown(path: &str, body: Vec<u8>) -> Vec<u8> {
    let text = String::from_utf8_lossy(&body).into_owned();
    change_state(path, body, |state| {
        let first = state["state"]["shards"][0]["sequences"][0][0].as_str().unwrap().to_owned();
        *state = serde_json::from_str(&text.replace(&first, &unknown_key())).unwrap();
    })
}

/// A sequence names a stage whose size is missing.
fn name_unannounced(path: &str, body: Vec<u8>) -> Vec<u8> {
    change_state(path, body, |state| state["state"]["shards"][0]["sequences"][0][0] = json!(unknown_key()))
}

/// Every stage is said to be large.
fn announce_large(path: &str, body: Vec<u8>) -> Vec<u8> {
    change_state(path, body, |state| {
        for (_, stage) in state["state"]["stages"].as_object_mut().unwrap() {
            stage["bytes"] = json!(u64::MAX);
        }
    })
}

/// Two stages have changed places.
fn swap_stages(path: &str, body: Vec<u8>) -> Vec<u8> {
    let text = String::from_utf8_lossy(&body).into_owned();
    change_state(path, body, |state| {
        let key = |shard: usize| state["state"]["shards"][shard]["sequences"][0][0].as_str().unwrap().to_owned();
        let (one, two) = (key(0), key(1));
        let swapped = text.replace(&one, "ONE").replace(&two, &one).replace("ONE", &two);
        *state = serde_json::from_str(&swapped).unwrap();
    })
}

/// A leader is believed only what can be checked or does no harm; what it sends is refused by name, and followed again when it is right.
#[test]
fn what_a_leader_sends_wrongly_is_refused_by_name_and_never_panics() {
    let (world, between) = leader(2.0);
    let unknown = unknown_key();
    let cases: [(Mode, &str); 10] = [
        (Mode::Change(flip), "its bytes do not match the digest that the state gives"),
        (
            Mode::Change(name_unknown),
            &format!("stage {unknown}: the leader refused with 404: no live stage of this key"),
        ),
        (Mode::Change(name_unannounced), &format!("it names stage {unknown} in a sequence, and does not say how long")),
        (Mode::Change(announce_large), "and one of this model has at most"),
        (Mode::Change(swap_stages), "its bytes do not match the digest"),
        (Mode::Answer(302, String::new()), "the leader answered 302; redirects are not followed"),
        (Mode::Answer(200, "{".into()), "the leader's answer cannot be read: EOF"),
        (Mode::Answer(200, "[]".into()), "the leader's answer cannot be read: invalid"),
        (Mode::Answer(200, "[".repeat(100_000)), "the leader's answer cannot be read"),
        (Mode::Answer(500, "\u{0}<html>".into()), "the leader refused with 500"),
    ];
    for (mode, problem) in cases {
        between.set(mode);
        let following = Following::of(&world, &between);
        following.wait_for_problem(problem);
        following.post("/predict", &question(0)).send().expect(503);
        between.set(Mode::Forward);
        following.wait_for_epoch(0);
        // One that worked stops as soon as its lease is over.
        between.set(Mode::Answer(200, "null".into()));
        following.wait_for_problem("has no lease of its leader");
        between.set(Mode::Forward);
    }
}

/// The leader's side alone, as whoever speaks the protocol sees it.
#[test]
fn a_lease_is_granted_for_the_newest_epoch_only_and_stages_are_given_to_who_has_one() {
    let (world, _) = World::with(&[], |settings| settings.lease_seconds = 600.0);
    let name = |number: usize| format!("{number:032x}");
    let state = || world.get("/replica/state").send().expect(200).json();
    let confirm = |number: usize, state: &Value, epoch: u64, erased: u64| {
        let body = json!({ "follower": name(number), "version": state["version"], "epoch": epoch, "erased": erased });
        world.post("/replica/confirm", &body).send()
    };
    let first = state();
    let version = first["version"].as_str().unwrap();
    let path = format!("/replica/state?after={version}");
    assert!(world.get(&path).send().expect(204).body.is_empty());
    world.get("/replica/state?before=1").send().expect(400);
    for body in [
        json!({}),
        json!({ "follower": "me", "version": version, "epoch": 0, "erased": 0 }),
        json!({ "follower": name(0), "version": version, "epoch": 0, "erased": 0, "more": 1 }),
        json!({ "follower": name(0), "version": version, "epoch": -1, "erased": 0 }),
    ] {
        world.post("/replica/confirm", &body).send().expect(400);
    }
    confirm(0, &first, 1, 0).expect(409);
    confirm(0, &first, 0, 1).expect(409);

    let key = first["state"]["shards"][0]["sequences"][0][0].as_str().unwrap().to_owned();
    let path = format!("/replica/stages/{key}");
    world.get(&path).header("x-s3t-follower", &name(0)).send().expect(409);
    let granted = confirm(0, &first, 0, 0).expect(200).json();
    assert_eq!(granted, json!({ "granted": true, "lease_ms": 600_000, "epoch": 0 }));
    let stage = world.get(&path).header("x-s3t-follower", &name(0)).send().expect(200);
    assert_eq!(stage.body.len() as u64, first["state"]["stages"][&key]["bytes"]);
    world.get(&path).header("x-s3t-follower", &name(1)).send().expect(409);
    world.get(&path).send().expect(409);
    for key in [unknown_key(), "none".into(), "..%2f..%2fcatalogue.db".into()] {
        world.get(&format!("/replica/stages/{key}")).header("x-s3t-follower", &name(0)).send().expect(404);
    }

    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            world.post("/deletions", &json!({ "request_id": "one", "records": ["record-1"] })).send().expect(201)
        });
        let newer = loop {
            let newer = state();
            if newer["state"]["epoch"] == 1 && newer["version"].as_str().unwrap().split('.').nth(1) != Some("1") {
                break newer;
            }
        };
        // The past is confirmed as often as one likes: it brings no lease, and holds nothing up.
        for _ in 0..3 {
            assert_eq!(confirm(0, &first, 0, 0).expect(200).json()["granted"], false);
            assert_eq!(confirm(7, &first, 0, 0).expect(200).json()["granted"], false);
        }
        assert!(!asked.is_finished());
        assert_eq!(world.get("/deletions/one").send().expect(200).json()["phase"], "accepted");
        assert_eq!(confirm(0, &newer, 1, 0).expect(200).json()["granted"], true);
        asked.join().unwrap();
        // In effect, and not erased as long as the follower may hold what was cut.
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(world.get("/deletions/one").send().expect(200).json()["phase"], "in-effect");
        assert!(world.system().snapshot().unwrap().unerased().is_empty(), "the leader's own bytes are gone");
        assert_eq!(confirm(0, &newer, 1, 1).expect(200).json()["granted"], true);
        world.wait_for_phase("/deletions/one", None, "erased");
        for number in 1..256 {
            confirm(number, &newer, 1, 1).expect(200);
        }
        confirm(256, &newer, 1, 1).expect(429);
        for number in 0..256 {
            let leaving = json!({ "follower": name(number), "version": "", "epoch": 1, "erased": 1, "leaving": true });
            world.post("/replica/confirm", &leaving).send().expect(200);
        }
        world.post("/deletions", &json!({ "request_id": "two", "records": ["record-2"] })).send().expect(201);
    });
}
