//! A proxy between a follower and its leader: it passes requests on, or does not, or changes the answers.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The treatment of requests.
#[derive(Clone)]
pub enum Mode {
    Forward,
    /// Takes requests, and says nothing.
    Stall,
    /// Changes the bodies of what comes back, by path.
    Change(fn(&str, Vec<u8>) -> Vec<u8>),
    /// Answers with this status and body.
    Answer(u16, String),
}

pub struct Between {
    pub address: SocketAddr,
    state: Arc<Mutex<(Mode, SocketAddr)>>,
}

impl Between {
    pub fn new(leader: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new((Mode::Forward, leader)));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || pass(stream, &state));
            }
        });
        Self { address, state }
    }

    pub fn set(&self, mode: Mode) {
        self.state.lock().unwrap().0 = mode;
    }

    pub fn lead_to(&self, leader: SocketAddr) {
        self.state.lock().unwrap().1 = leader;
    }
}

/// Passes one request on; `None` if a side is gone.
fn pass(mut stream: TcpStream, state: &Mutex<(Mode, SocketAddr)>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut first, mut headers, mut length) = (String::new(), Vec::new(), 0);
    reader.read_line(&mut first).ok()?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match &*name.to_ascii_lowercase() {
            "content-length" => length = value.parse().ok()?,
            "host" | "connection" | "accept-encoding" | "user-agent" => {}
            name => headers.push((name.to_owned(), value.to_owned())),
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut parts = first.split(' ');
    let (method, path) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    // A connection that is cut is cut for what was on its way as well.
    let cut = || {
        while matches!(state.lock().unwrap().0, Mode::Stall) {
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let (mode, leader) = state.lock().unwrap().clone();
    let (status, answer) = match &mode {
        Mode::Stall => {
            cut();
            return None;
        }
        Mode::Answer(status, body) => (*status, body.clone().into_bytes()),
        Mode::Forward | Mode::Change(_) => {
            let config = ureq::Agent::config_builder().http_status_as_error(false);
            let agent = ureq::Agent::from(config.timeout_global(Some(Duration::from_secs(60))).build());
            let url = format!("http://{leader}{path}");
            let mut request = axum::http::Request::builder().method(&*method).uri(url);
            for (name, value) in &headers {
                request = request.header(name, value);
            }
            let mut response = match &*method {
                "GET" => agent.run(request.body(()).ok()?).ok()?,
                _ => agent.run(request.body(body).ok()?).ok()?,
            };
            (response.status().as_u16(), response.body_mut().with_config().limit(1 << 30).read_to_vec().ok()?)
        }
    };
    if matches!(state.lock().unwrap().0, Mode::Stall) {
        cut();
        return None;
    }
    let answer = if let Mode::Change(change) = mode { change(&path, answer) } else { answer };
    let length = if status == 204 { String::new() } else { format!("content-length: {}\r\n", answer.len()) };
    let place = if status == 302 { format!("location: http://{leader}{path}\r\n") } else { String::new() };
    write!(stream, "HTTP/1.1 {status} Said\r\n{length}{place}connection: close\r\n\r\n").ok()?;
    stream.write_all(&answer).ok()
}
