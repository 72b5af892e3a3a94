//! A witness of the ledger, written by the letter of C2SP tlog-witness and RFC 9162 (section 2.1.4.2), with hashes and signatures of
//! another library.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::world::World;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use s3t_ledger::VerifyingKey;
use s3t_server::WitnessSettings;
use serde_json::json;

const NAME: &str = "witness.example/w1";

/// The tree that the witness has signed last.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Seen {
    size: u64,
    root: Vec<u8>,
    /// Checkpoints that were refused for their proof.
    refused: usize,
    signed: usize,
    conflicts: usize,
}

fn witness_key(seed: u8) -> (Ed25519KeyPair, [u8; 4], String) {
    let key = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let public = [&[4], key.public_key().as_ref()].concat();
    let id: [u8; 4] = digest(&SHA256, &[NAME.as_bytes(), b"\n", &public].concat()).as_ref()[..4].try_into().unwrap();
    let hash: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    (key, id, format!("{NAME}+{hash}+{}", STANDARD.encode(&public)))
}

/// RFC 9162, section 2.1.4.2.
fn is_consistent(first: u64, second: u64, proof: &[Vec<u8>], first_root: &[u8], second_root: &[u8]) -> bool {
    if first == 0 || first == second {
        return proof.is_empty() && (first == 0 || first_root == second_root);
    }
    let parent = |left: &[u8], right: &[u8]| digest(&SHA256, &[&[1], left, right].concat()).as_ref().to_vec();
    let mut path: Vec<Vec<u8>> = proof.to_vec();
    if first.is_power_of_two() {
        path.insert(0, first_root.to_vec());
    }
    let (mut fn_, mut sn) = (first - 1, second - 1);
    while fn_ & 1 == 1 {
        (fn_, sn) = (fn_ >> 1, sn >> 1);
    }
    let Some((start, rest)) = path.split_first() else { return false };
    let (mut fr, mut sr) = (start.clone(), start.clone());
    for hash in rest {
        if sn == 0 {
            return false;
        }
        if fn_ & 1 == 1 || fn_ == sn {
            (fr, sr) = (parent(hash, &fr), parent(hash, &sr));
            while fn_ != 0 && fn_ & 1 == 0 {
                (fn_, sn) = (fn_ >> 1, sn >> 1);
            }
        } else {
            sr = parent(&sr, hash);
        }
        (fn_, sn) = (fn_ >> 1, sn >> 1);
    }
    sn == 0 && fr == first_root && sr == second_root
}

/// Answers one submission: the status and the body.
fn judge(body: &str, seen: &mut Seen, seed: u8) -> (u16, String) {
    let (head, checkpoint) = body.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    let old: u64 = lines.next().unwrap().strip_prefix("old ").unwrap().parse().unwrap();
    let proof: Vec<Vec<u8>> = lines.map(|line| STANDARD.decode(line).unwrap()).collect();
    if old != seen.size {
        seen.conflicts += 1;
        return (409, format!("{}\n", seen.size));
    }
    let text = &checkpoint[..=checkpoint.find("\n\n").unwrap()];
    let mut fields = text.lines().skip(1);
    let size: u64 = fields.next().unwrap().parse().unwrap();
    let root = STANDARD.decode(fields.next().unwrap()).unwrap();
    if !is_consistent(seen.size, size, &proof, &seen.root, &root) {
        seen.refused += 1;
        return (422, String::new());
    }
    (seen.size, seen.root) = (size, root);
    seen.signed += 1;
    let (key, id, _) = witness_key(seed);
    let time = 1_700_000_000 + size;
    let signature = key.sign(format!("cosignature/v1\ntime {time}\n{text}").as_bytes());
    let bytes = [&id[..], &time.to_be_bytes(), signature.as_ref()].concat();
    (200, format!("\u{2014} {NAME} {}\n", STANDARD.encode(bytes)))
}

/// A witness on this machine: its address and what it has seen.
fn start(seed: u8) -> (String, Arc<Mutex<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/log", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = Arc::clone(&seen);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut stream = BufReader::new(socket.unwrap());
            let (mut length, mut line) = (0, String::new());
            stream.read_line(&mut line).unwrap();
            assert!(line.starts_with("POST /log/add-checkpoint "), "{line}");
            while line.trim() != "" {
                line.clear();
                stream.read_line(&mut line).unwrap();
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let body = String::from_utf8(body).unwrap();
            let (status, text) = judge(&body, &mut shared.lock().unwrap(), seed);
            let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", text.len());
            stream.get_mut().write_all((head + &text).as_bytes()).unwrap();
        }
    });
    (url, seen)
}

/// Waits until the served checkpoint has the witness's line.
fn cosigned(world: &World) -> String {
    let start = Instant::now();
    loop {
        let note = world.get("/ledger/checkpoint").send().expect(200).text();
        if note.contains(NAME) {
            return note;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "no cosignature on {note}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_witness_countersigns_every_checkpoint_that_continues_the_last() {
    let (url, seen) = start(1);
    let (.., key) = witness_key(1);
    // A second one that signs with another key than it is known by.
    let (false_url, _) = start(2);
    let (mut world, _) = World::with(&[], |settings| {
        let witness = |url: &String, key: &String| WitnessSettings { url: url.clone(), key: key.clone() };
        settings.witnesses = vec![witness(&url, &key), witness(&false_url, &key)];
    });
    let public: VerifyingKey = world.get("/ledger/key.pub").send().expect(200).text().parse().unwrap();
    let first = cosigned(&world);
    assert_eq!(first.matches(NAME).count(), 1, "the false one is left out: {first}");
    let size = public.check(&first).unwrap().size;
    assert_eq!(seen.lock().unwrap().size, size);

    for number in 0..2 {
        let id = format!("request-{number}");
        let request = json!({ "request_id": id, "records": [format!("record-{number}")] });
        world.post("/deletions", &request).send().expect(201);
        world.wait_for_phase(&format!("/deletions/{id}"), None, "erased");
        let note = cosigned(&world);
        assert!(public.check(&note).unwrap().size > size);
    }
    // A server that starts anew is told by the witness what it has signed.
    let before = seen.lock().unwrap().clone();
    world.stop();
    world.start();
    cosigned(&world);
    let after = seen.lock().unwrap().clone();
    assert!(after.conflicts > before.conflicts && after.signed > before.signed, "{before:?} {after:?}");
    assert_eq!(after.refused, 0, "every proof was right");
}
