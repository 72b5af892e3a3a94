//! A small trained store, a server for it, and a client.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use s3t_core::Payload;
use s3t_engine::{Pipeline, Quiet, System};
use s3t_server::{NewToken, Role, Server, ServerSettings, TokenFile};
use s3t_testkit::{tiny_pipeline, toy_records, write_tiny_model};
use serde_json::{Value, json};
use tempfile::TempDir;

pub struct World {
    pub folder: TempDir,
    pub server: Option<Server>,
    pub settings: ServerSettings,
}

pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}

/// A request to be sent.
pub struct Ask<'a> {
    address: SocketAddr,
    method: &'a str,
    path: &'a str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Ask<'_> {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub fn json(self, body: &Value) -> Self {
        let mut ask = self.header("content-type", "application/json");
        ask.body = body.to_string().into_bytes();
        ask
    }

    pub fn bytes(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn send(self) -> Reply {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .allow_non_standard_methods(true)
            .timeout_global(Some(Duration::from_secs(60)))
            .build();
        let agent = ureq::Agent::from(config);
        let mut request =
            axum::http::Request::builder().method(self.method).uri(format!("http://{}{}", self.address, self.path));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        // These methods have no body.
        let mut response = if ["GET", "DELETE"].contains(&self.method) {
            agent.run(request.body(()).unwrap()).unwrap()
        } else {
            agent.run(request.body(self.body).unwrap()).unwrap()
        };
        let headers = response.headers().iter();
        let headers =
            headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        Reply {
            status: response.status().as_u16(),
            headers: headers.collect(),
            body: response.body_mut().read_to_vec().unwrap(),
        }
    }
}

impl World {
    /// A trained store with a server, without tokens.
    pub fn new() -> Self {
        Self::with(&[], |_| {}).0
    }

    /// A trained store with a server for tokens of these roles: the tokens.
    pub fn with(tokens: &[&[Role]], change: impl FnOnce(&mut ServerSettings)) -> (Self, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        write_tiny_model(&folder.path().join("model"), 4).unwrap();
        let system = System::create(pipeline(folder.path()), &toy_records(60, 20, 7), None).unwrap();
        system.train(&Quiet).unwrap();
        drop(system);
        let mut settings = ServerSettings {
            address: "127.0.0.1:0".into(),
            stop_delay_seconds: 0.0,
            read_seconds: 2.0,
            ..ServerSettings::default()
        };
        change(&mut settings);
        let file = TokenFile::new(settings.token_file(&folder.path().join("store")));
        let create = |roles: &&[Role]| {
            let roles: BTreeSet<Role> = roles.iter().copied().collect();
            file.create(NewToken { name: "test".into(), roles, requests_per_second: None }).unwrap().1
        };
        let tokens = tokens.iter().map(create).collect();
        let mut world = Self { folder, server: None, settings };
        world.start();
        (world, tokens)
    }

    pub fn start(&mut self) {
        let system = System::open_to_delete(pipeline(self.folder.path())).unwrap();
        self.server = Some(Server::start(system, self.settings.clone()).unwrap());
    }

    pub fn stop(&mut self) {
        self.server.take().unwrap().stop();
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// The store, opened beside the server.
    pub fn system(&self) -> System {
        System::open_read_only(pipeline(self.folder.path())).unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn ask<'a>(&self, method: &'a str, path: &'a str) -> Ask<'a> {
        Ask { address: self.server().address(), method, path, headers: Vec::new(), body: Vec::new() }
    }

    pub fn ask_at<'a>(&self, address: SocketAddr, method: &'a str, path: &'a str) -> Ask<'a> {
        Ask { address, ..self.ask(method, path) }
    }

    pub fn ask_private<'a>(&self, method: &'a str, path: &'a str) -> Ask<'a> {
        Ask { address: self.server().private_address(), ..self.ask(method, path) }
    }

    pub fn get<'a>(&self, path: &'a str) -> Ask<'a> {
        self.ask("GET", path)
    }

    pub fn post<'a>(&self, path: &'a str, body: &Value) -> Ask<'a> {
        self.ask("POST", path).json(body)
    }

    /// Waits until the state of a request is this.
    #[track_caller]
    pub fn wait_for_phase(&self, path: &str, token: Option<&str>, phase: &str) -> Value {
        let ask = || {
            let ask = self.ask_private("GET", path);
            match token {
                Some(token) => ask.token(token),
                None => ask,
            }
        };
        wait_for(ask, |state| state["phase"] == phase || state["request_status"] == phase)
    }
}

/// Asks until the answer is as wanted, and gives it.
#[track_caller]
pub fn wait_for<'a>(ask: impl Fn() -> Ask<'a>, is_so: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let state = ask().send().expect(200).json();
        if is_so(&state) {
            return state;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "still {state}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

pub fn pipeline(folder: &Path) -> Pipeline {
    tiny_pipeline(&folder.join("model"), &folder.join("store"))
}

/// The numbers of a toy record.
pub fn features(index: usize) -> Value {
    match &toy_records(index as u64 + 1, 0, 12)[index].payload {
        Payload::Features(values) => json!(values),
        _ => unreachable!("toy records are features"),
    }
}

/// A request to a server at an address.
pub fn ask_at<'a>(address: SocketAddr, method: &'a str, path: &'a str) -> Ask<'a> {
    Ask { address, method, path, headers: Vec::new(), body: Vec::new() }
}

/// A question in the shape of `/predict`.
pub fn question(index: usize) -> Value {
    json!({ "inputs": { "features": features(index) } })
}

/// The keys in the header `x-s3t-stages`.
pub fn stage_keys(header: &str) -> Vec<String> {
    header
        .split(',')
        .filter_map(|part| Some(part.split_once('=')?.1.to_owned()))
        .filter(|key| !key.is_empty())
        .collect()
}
