//! Roles, tokens, ports and encrypted connections.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use crate::authority::Authority;
use crate::world::{World, pipeline, question};
use s3t_server::{Role, Server, ServerError, TlsSettings, TokenFile};
use serde_json::json;

#[test]
fn each_role_opens_its_own_doors() {
    let roles: [&[Role]; 4] = [&[Role::Ask], &[Role::Delete], &[Role::Audit], &[Role::Operate]];
    let (world, tokens) = World::with(&roles, |_| {});
    let request = json!({ "request_id": "one", "records": ["record-1"] });
    world.post("/deletions", &request).token(&tokens[1]).send().expect(201);
    // Method, path, body, and the status for ask, delete, audit, operate.
    for (method, path, body, statuses) in [
        ("POST", "/predict", question(0), [200, 403, 403, 403]),
        ("POST", "/v2/models/model/infer", json!({ "inputs": [] }), [400, 403, 403, 403]),
        ("POST", "/deletions", request.clone(), [403, 201, 403, 403]),
        ("GET", "/deletions", json!(null), [403, 200, 200, 200]),
        ("GET", "/deletions/one", json!(null), [403, 200, 200, 200]),
        ("DELETE", "/deletions/one", json!(null), [403, 409, 403, 403]),
        ("GET", "/deletions/one/receipt", json!(null), [403, 403, 200, 200]),
        ("GET", "/audits/none", json!(null), [403, 403, 404, 404]),
        ("POST", "/audits", json!({ "scope": "nothing" }), [403, 403, 400, 400]),
    ] {
        for (token, status) in tokens.iter().zip(statuses) {
            let ask = world.ask(method, path).token(token);
            let reply = if body.is_null() { ask.send() } else { ask.json(&body).send() };
            assert_eq!(reply.status, status, "{method} {path}: {}", reply.text());
        }
        let ask = world.ask(method, path);
        let stranger = if body.is_null() { ask.send() } else { ask.json(&body).send() };
        assert_eq!(stranger.expect(401).header("www-authenticate"), Some("Bearer realm=\"s3t\""));
        world.ask(method, path).token("s3t_000000000000_x").json(&body).send().expect(401);
        world.ask(method, path).header("authorization", "Basic x").json(&body).send().expect(401);
    }
    for open in [
        "/livez",
        "/readyz",
        "/metrics",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/openapi.json",
        "/ledger/key.pub",
    ] {
        world.get(open).send().expect(200);
    }
}

#[test]
fn a_revoked_token_is_refused_and_a_rate_holds() {
    let (world, tokens) = World::with(&[&[Role::Ask]], |_| {});
    let file = TokenFile::new(world.settings.token_file(&world.path("store")));
    let new = s3t_server::NewToken { name: "slow".into(), roles: [Role::Ask].into(), requests_per_second: Some(1) };
    let (_, slow) = file.create(new).unwrap();
    world.server().reload().unwrap();
    let statuses: Vec<u16> = (0..4).map(|_| world.post("/predict", &question(0)).token(&slow).send().status).collect();
    assert!(statuses[0] == 200 && statuses.contains(&429), "{statuses:?}");
    world.post("/predict", &question(0)).token(&tokens[0]).send().expect(200);
    let id = tokens[0].split('_').nth(1).unwrap();
    file.revoke(id).unwrap();
    world.server().reload().unwrap();
    world.post("/predict", &question(0)).token(&tokens[0]).send().expect(401);
}

#[test]
fn without_tokens_only_this_machine_is_let_in() {
    let world = World::new();
    let system = s3t_engine::System::open_read_only(pipeline(world.folder.path())).unwrap();
    let mut settings = world.settings.clone();
    (settings.address, settings.data) = ("0.0.0.0:0".into(), Some(world.path("other")));
    let refused = Server::start(system, settings).err().unwrap();
    assert!(
        matches!(refused, ServerError::Open { .. }) && refused.to_string().contains("s3t token create"),
        "{refused}"
    );
    // A page from elsewhere whose name leads here is refused, and so is one that asks from its own origin.
    world.get("/deletions").header("host", "evil.example.com").send().expect(403);
    let foreign =
        world.post("/deletions", &json!({ "records": ["record-1"] })).header("origin", "https://evil.example.com");
    foreign.send().expect(403);
    let own = format!("http://{}", world.server().address());
    world.post("/predict", &question(0)).header("origin", &own).send().expect(200);
    assert_eq!(world.system().snapshot().unwrap().epoch().0, 0);
}

#[test]
fn deletions_and_proofs_can_have_a_port_of_their_own() {
    let (world, _) = World::with(&[], |settings| settings.private_address = Some("127.0.0.1:0".into()));
    assert_ne!(world.server().address(), world.server().private_address());
    for path in ["/deletions", "/ledger/key.pub", "/ui", "/audits/none"] {
        world.get(path).send().expect(404);
        assert_ne!(world.ask_private("GET", path).send().status, 401);
    }
    world.post("/predict", &question(0)).send().expect(200);
    world.ask_private("POST", "/predict").json(&question(0)).send().expect(404);
    for port in [World::ask, World::ask_private] {
        port(&world, "GET", "/livez").send().expect(200);
    }
    world.ask_private("POST", "/deletions").json(&json!({ "records": ["record-1"] })).send().expect(201);
}

/// The first line of the answer to a request over TLS; the error if there is no connection.
fn over_tls(world: &World, authority: &str, own: Option<&(String, String)>) -> Result<String, String> {
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
    };
    let client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let socket = TcpStream::connect(world.server().address()).unwrap();
    let mut stream = StreamOwned::new(client, socket);
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

#[test]
fn connections_are_encrypted_certificates_change_and_clients_can_be_asked_for_theirs() {
    let (first, second, clients) = (Authority::new(), Authority::new(), Authority::new());
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name);
    let install = |authority: &Authority| {
        let (certificate, key) = authority.sign();
        std::fs::write(path("cert.pem"), certificate).unwrap();
        std::fs::write(path("key.pem"), key).unwrap();
    };
    install(&first);
    std::fs::write(path("clients.pem"), &clients.pem).unwrap();
    let tls = TlsSettings {
        certificate: path("cert.pem"),
        key: path("key.pem"),
        client_authority: Some(path("clients.pem")),
    };
    let (world, _) = World::with(&[], |settings| settings.tls = Some(tls));
    let known = clients.sign();
    assert_eq!(over_tls(&world, &first.pem, Some(&known)).unwrap(), "HTTP/1.1 200 OK");
    assert!(over_tls(&world, &second.pem, Some(&known)).is_err());
    assert!(over_tls(&world, &first.pem, None).is_err());
    assert!(over_tls(&world, &first.pem, Some(&second.sign())).is_err());
    // A file that cannot be used changes nothing.
    std::fs::write(path("key.pem"), "nonsense").unwrap();
    assert!(world.server().reload().unwrap_err().to_string().contains("key.pem"));
    assert!(over_tls(&world, &first.pem, Some(&known)).is_ok());
    install(&second);
    world.server().reload().unwrap();
    assert!(over_tls(&world, &first.pem, Some(&known)).is_err());
    assert_eq!(over_tls(&world, &second.pem, Some(&known)).unwrap(), "HTTP/1.1 200 OK");
}
