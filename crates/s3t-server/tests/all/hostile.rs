//! Clients that are broken or mean no good.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::world::{World, question};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Sends bytes as they are and gives what comes back until the connection ends.
fn raw(world: &World, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(world.server().address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // The server may have had enough before everything is sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn slow_and_half_closed_connections_end() {
    let (world, _) = World::with(&[], |settings| settings.read_seconds = 0.5);
    let start = Instant::now();
    // A head that never ends, and a body that never comes.
    assert!(!raw(&world, b"GET /livez HTTP/1.1\r\nhost: localhost\r\n").contains("200"));
    let head =
        "POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    let late = raw(&world, head.as_bytes());
    assert!(late.starts_with("HTTP/1.1 400") && late.contains("did not arrive"), "{late}");
    assert!(start.elapsed() < Duration::from_secs(25));
    let mut stream = TcpStream::connect(world.server().address()).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(!answer.contains("200 OK"), "{answer}");
    world.get("/livez").send().expect(200);
}

#[test]
fn clients_that_do_not_read_their_answers_are_let_go() {
    let (world, _) = World::with(&[], |settings| (settings.connections, settings.read_seconds) = (4, 0.3));
    let many = "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(500);
    // Far more than the system keeps for a client that reads nothing.
    let deaf: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = TcpStream::connect(world.server().address()).unwrap();
            stream.write_all(many.as_bytes()).unwrap();
            stream
        })
        .collect();
    // There is no place for another until they are gone.
    world.get("/livez").send().expect(200);
    drop(deaf);
}

#[test]
fn many_idle_connections_leave_room_for_others() {
    let (world, _) = World::with(&[], |settings| (settings.connections, settings.read_seconds) = (50, 0.5));
    let address = world.server().address();
    let idle: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(address).unwrap()).collect();
    world.post("/predict", &question(0)).send().expect(200);
    drop(idle);
    world.get("/readyz").send().expect(200);
}

#[test]
fn heads_and_bodies_have_limits_and_nothing_is_unpacked() {
    let (world, _) = World::with(&[], |settings| settings.body_bytes = 10_000);
    let long = format!("GET /livez HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(200_000));
    assert!(!raw(&world, long.as_bytes()).contains("200 OK"));
    let many = format!("GET /livez HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "a: b\r\n".repeat(500));
    assert!(!raw(&world, many.as_bytes()).contains("200 OK"));
    let head = "POST /predict HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n";
    let announced = raw(&world, format!("{head}content-length: 100000000000\r\n\r\n").as_bytes());
    assert!(announced.starts_with("HTTP/1.1 413"), "{announced}");
    // A body in chunks does not say how long it is.
    let chunk = format!("{:x}\r\n{}\r\n", 5000, " ".repeat(5000));
    let chunked =
        raw(&world, format!("{head}transfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(4)).as_bytes());
    assert!(chunked.starts_with("HTTP/1.1 413"), "{chunked}");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&vec![b' '; 100 << 20]).unwrap();
    let bomb = packed.finish().unwrap();
    for encoding in ["gzip", "deflate", "br", "gzip, gzip"] {
        let sent = world
            .ask("POST", "/predict")
            .header("content-type", "application/json")
            .header("content-encoding", encoding);
        sent.bytes(&bomb[..5000]).send().expect(415);
    }
    // A picture that says it is large is refused before it is unpacked.
    let mut png = s3t_testkit::grey_png(4, 4, &[0; 16]);
    png[16..24].copy_from_slice(&[0, 0, 0x40, 0, 0, 0, 0x40, 0]);
    let picture = world.ask("POST", "/predict").header("content-type", "image/png").bytes(png).send();
    assert_eq!(picture.status, 422, "{}", picture.text());
    let deep = format!("{{\"inputs\":{}{}}}", "[".repeat(4000), "]".repeat(4000));
    world.ask("POST", "/predict").header("content-type", "application/json").bytes(deep).send().expect(400);
    world.get("/readyz").send().expect(200);
}

#[test]
fn paths_lead_nowhere_but_to_routes() {
    let world = World::new();
    for path in [
        "/ledger/tile/../catalogue.db",
        "/ledger/tile/0/../../../catalogue.db",
        "/ledger/tile/%2e%2e/catalogue.db",
        "/ledger/tile/entries/%2e%2e%2f%2e%2e%2fcatalogue.db",
        "/ledger/catalogue.db",
        "//ledger/checkpoint",
        "/ui/../deletions",
        "/ledger/tile/0/000%00",
        "/deletions/%FF",
        "/deletions/%00",
    ] {
        let reply =
            raw(&world, format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes());
        let status = reply.split(' ').nth(1).unwrap_or_default().to_owned();
        assert!(["400", "404"].contains(&status.as_str()), "{path}: {reply}");
        assert!(!reply.contains("SQLite"));
        // Every route refuses in the same form.
        assert!(!path.starts_with("/deletions") || reply.contains("\"error_type\":"), "{path}: {reply}");
    }
}

#[test]
fn fields_by_their_order_are_refused() {
    let world = World::new();
    for (path, fields) in [("/deletions", "[\"a\", [\"r1\"]]"), ("/predict", " [[{\"features\": [0.5]}]]")] {
        let reply = world.ask("POST", path).header("content-type", "application/json").bytes(fields).send().expect(400);
        assert!(reply.text().contains("send an object"), "{path}: {}", reply.text());
    }
}

#[test]
fn overload_is_refused_quickly_and_nobody_is_starved() {
    let (world, _) = World::with(&[], |settings| {
        (settings.queue_records, settings.request_records, settings.batch_records) = (8, 4, 4);
    });
    let body = json!({ "inputs": vec![json!({ "features": crate::world::features(0) }); 4] });
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let ask = || (0..20).map(|_| world.post("/predict", &body).send()).collect::<Vec<_>>();
        let askers: Vec<_> = (0..12).map(|_| scope.spawn(ask)).collect();
        let replies = askers.into_iter().flat_map(|asker| asker.join().unwrap());
        replies
            .map(|reply| {
                assert!(
                    reply.status != 429 || reply.header("retry-after").is_some_and(|wait| wait.parse::<u64>().is_ok())
                );
                reply.status
            })
            .collect()
    });
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&200) && statuses.contains(&429));
    world.post("/predict", &question(0)).send().expect(200);
    let refused = world.get("/metrics").send().expect(200).text();
    assert!(refused.lines().any(|line| line.starts_with("s3t_overloaded_total") && !line.ends_with(" 0")), "{refused}");
}

/// JSON of any kind, with the names that requests have.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        "record-[0-9]{1,2}|subject-[0-9]|erasure|BYTES|FP32|text|image|features".prop_map(Value::from),
    ];
    let name = "inputs|outputs|name|shape|datatype|data|id|records|subjects|request_id|due|text|image|features|truncate|scope|.{0,5}";
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

#[test]
fn no_request_makes_a_handler_panic() {
    let world = World::new();
    let routes = prop_oneof![
        Just("/predict"),
        Just("/v2/models/model/infer"),
        Just("/deletions"),
        Just("/audits"),
        Just("/ui/ask"),
        Just("/ui/sign-in"),
    ];
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 400, ..ProptestConfig::default() });
    let kind = prop_oneof![3 => Just("application/json"), 1 => Just("image/png"), 1 => Just("multipart/form-data; boundary=x")];
    let body = prop_oneof![3 => any_json().prop_map(|value| value.to_string().into_bytes()), 1 => prop::collection::vec(any::<u8>(), 0..200)];
    runner
        .run(&(routes, kind, body), |(route, kind, body)| {
            let reply = world.ask("POST", route).header("content-type", kind).bytes(body).send();
            prop_assert!(reply.status < 500 || reply.status == 503, "{route}: {} {}", reply.status, reply.text());
            Ok(())
        })
        .unwrap();
    let part = "[a-z0-9./%_~-]{0,30}";
    runner
        .run(&(part, part), |(path, query)| {
            for prefix in ["/ledger/tile/", "/deletions/", "/ui/audits/", "/v2/models/", "/"] {
                let line =
                    format!("GET {prefix}{path}?{query} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
                let reply = raw(&world, line.as_bytes());
                prop_assert!(!reply.starts_with("HTTP/1.1 5"), "{prefix}{path}: {reply}");
            }
            Ok(())
        })
        .unwrap();
    world.get("/readyz").send();
    world.get("/livez").send().expect(200);
}
