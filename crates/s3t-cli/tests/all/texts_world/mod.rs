//! A server with the bundled language model, and a client that reads streams as they come.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use s3t::core::StoreSecret;
use s3t::engine::{GenerationSettings, Replica};
use s3t::prelude::*;
use s3t_server::{FollowSettings, NewToken, Role, Server, ServerSettings, TokenFile};
use serde_json::Value;
use tempfile::TempDir;

/// The records of the store; each deletion of one changes what answers.
pub const RECORDS: usize = 40;

pub struct Texts {
    pub folder: TempDir,
    server: Option<Server>,
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Value,
}

impl Answer {
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The message of a refusal in OpenAI's shape.
    pub fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or_else(|| panic!("{}", self.body))
    }
}

/// An answer that comes as server-sent events.
pub struct Stream(BufReader<TcpStream>);

impl Iterator for Stream {
    type Item = String;

    /// The next datum; `None` when the stream is cut off.
    fn next(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(datum) = line.trim_end().strip_prefix("data: ") {
                return Some(datum.to_owned());
            }
        }
    }
}

impl Stream {
    /// The chunks up to the end; panics if it is cut off.
    pub fn chunks(self) -> Vec<Value> {
        let mut chunks = Vec::new();
        for datum in self {
            if datum == "[DONE]" {
                return chunks;
            }
            chunks.push(serde_json::from_str(&datum).unwrap());
        }
        panic!("no end after {chunks:?}");
    }
}

impl Texts {
    pub fn new(generation: GenerationSettings) -> Self {
        Self::with(generation, &[], |_| {}).0
    }

    /// A server for tokens of these roles: the tokens.
    pub fn with(
        generation: GenerationSettings,
        tokens: &[Role],
        change: impl FnOnce(&mut ServerSettings),
    ) -> (Self, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let pipeline = || pipeline(folder.path(), generation);
        System::create(pipeline(), &records(), Some(StoreSecret::from_bytes([4; 32]))).unwrap().train(&Quiet).unwrap();
        let mut settings =
            ServerSettings { address: "127.0.0.1:0".into(), stop_delay_seconds: 0.0, ..ServerSettings::default() };
        change(&mut settings);
        let file = TokenFile::new(settings.token_file(&folder.path().join("store")));
        let create = |role: &Role| {
            let new = NewToken { name: "test".into(), roles: [*role].into(), requests_per_second: None };
            file.create(new).unwrap().1
        };
        let tokens = tokens.iter().map(create).collect();
        let server = Server::start(System::open_to_delete(pipeline()).unwrap(), settings).unwrap();
        (Self { folder, server: Some(server) }, tokens)
    }

    pub fn address(&self) -> SocketAddr {
        self.server.as_ref().unwrap().address()
    }

    /// The store, opened beside the server.
    pub fn system(&self) -> System {
        System::open_read_only(pipeline(self.folder.path(), GenerationSettings::default())).unwrap()
    }

    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &Value) -> Answer {
        ask_at(self.address(), method, path, headers, body)
    }

    /// A server that answers with this one's stages, once it has all of them.
    pub fn follower(&self) -> Follower {
        let folder = tempfile::tempdir().unwrap();
        let settings = ServerSettings {
            address: "127.0.0.1:0".into(),
            stop_delay_seconds: 0.0,
            follow: Some(FollowSettings::of(format!("http://{}", self.address()))),
            ..ServerSettings::default()
        };
        let replica = Replica::open(pipeline(folder.path(), GenerationSettings::default())).unwrap();
        let follower = Follower { server: Some(Server::follow(replica, settings).unwrap()), _folder: folder };
        let start = std::time::Instant::now();
        while ask_at(follower.address(), "GET", "/readyz", "", &Value::Null).status != 200 {
            assert!(start.elapsed() < Duration::from_secs(60), "the follower does not become ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        follower
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, "", body)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", &Value::Null)
    }

    /// Asks for a stream.
    pub fn stream(&self, path: &str, body: &Value) -> Stream {
        stream_at(self.address(), path, body)
    }

    /// The text of a figure.
    pub fn figure(&self, name: &str) -> f64 {
        let mut text = String::new();
        send(self.address(), "GET", "/metrics", "connection: close\r\n", "").read_to_string(&mut text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Deletes a record: the epoch.
    pub fn delete(&self, record: usize) -> u64 {
        let body = serde_json::json!({ "records": [records()[record].id] });
        self.post("/deletions", &body).expect(201)["epoch"].as_u64().unwrap()
    }

    /// Builds missing stages, and waits until all are there: what is to be built is known when deletions are erased.
    pub fn repair(&self) {
        let start = std::time::Instant::now();
        let is_whole = || {
            let erased = self.figure("s3t_deletions{phase=\"in-effect\"}") == 0.0;
            erased && self.get("/repair").expect(200)["missing_stages"] == 0
        };
        while !is_whole() {
            assert!(start.elapsed() < Duration::from_secs(300), "the repair does not end");
            self.post("/repair/run", &Value::Null);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until no text is there any more.
    pub fn wait_until_idle(&self) {
        let start = std::time::Instant::now();
        loop {
            let left = ["running", "waiting"].map(|state| self.figure(&format!("s3t_texts{{state=\"{state}\"}}")));
            if left == [0.0, 0.0] {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "still {left:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A server that follows another.
pub struct Follower {
    server: Option<Server>,
    _folder: TempDir,
}

impl Follower {
    pub fn address(&self) -> SocketAddr {
        self.server.as_ref().unwrap().address()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

impl Drop for Texts {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

fn send(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    stream
}

/// Asks at an address.
pub fn ask_at(address: SocketAddr, method: &str, path: &str, headers: &str, body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut stream = send(address, method, path, &format!("connection: close\r\n{headers}"), &body);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: serde_json::from_str(body).unwrap_or(Value::Null) }
}

/// Asks for a stream at an address.
pub fn stream_at(address: SocketAddr, path: &str, body: &Value) -> Stream {
    let mut stream = Stream(BufReader::new(send(address, "POST", path, "connection: close\r\n", &body.to_string())));
    let mut status = String::new();
    stream.0.read_line(&mut status).unwrap();
    if !status.starts_with("HTTP/1.1 200") {
        let rest: String = stream.0.lines().map_while(Result::ok).filter(|line| line.starts_with('{')).collect();
        panic!("{status}: {rest}");
    }
    stream
}

pub fn records() -> Vec<Record> {
    let record = |row: usize| Record {
        id: RecordId::new(format!("record-{row}")).unwrap(),
        subject: None,
        target: Target::Text(["one", "three", "old", "e"][row % 4].to_owned()),
        ordinal: row as u64,
        payload: Payload::Text(format!("With which letter does the word {row} begin?")),
    };
    (0..RECORDS).map(record).collect()
}

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/llama-tiny")
}

/// Two shards of two slices: with each record's deletion a shard answers with other stages.
fn pipeline(folder: &Path, generation: GenerationSettings) -> Pipeline {
    let peft = Lora { rank: 2, alpha: 64.0, ..Lora::default() };
    let mut pipeline = Pipeline::new(model(), folder.join("store"), Labels::none(), peft);
    pipeline.task = Task::CausalLm;
    pipeline.shape = PartitionShape { shards: 2, slices: 2 };
    pipeline.budget = 2;
    pipeline.training = TrainingConfig { epochs: 2, batch_size: 4, learning_rate: 5e-2, ..TrainingConfig::default() };
    pipeline.serving.generation = generation;
    pipeline
}
