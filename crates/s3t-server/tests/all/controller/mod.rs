//! A controller on this machine that takes callbacks over TLS.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A controller that takes callbacks.
pub struct Controller {
    pub port: u16,
    /// The head and body of each that came.
    pub came: Receiver<(Vec<String>, Vec<u8>)>,
    /// The certificate that signs for the address, in PEM.
    pub authority: String,
}

impl Controller {
    /// Listens on a port of its own; `status` gives the answer to each callback, counted from 0.
    pub fn start(status: impl Fn(usize) -> u16 + Send + 'static) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap().pem();
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let private = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, private).unwrap());
        let listener = TcpListener::bind("localhost:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, came) = channel();
        std::thread::spawn(move || {
            for (index, socket) in listener.incoming().enumerate() {
                let stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), socket.unwrap());
                // Whoever is killed in the middle comes again.
                let _ = take(stream, &tell, status(index));
            }
        });
        Self { port, came, authority: certificate }
    }
}

/// Reads one request, tells of it and answers.
fn take<S: std::io::Read + std::io::Write>(
    stream: S,
    tell: &Sender<(Vec<String>, Vec<u8>)>,
    status: u16,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_lowercase());
    }
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.get_mut().write_all(answer.as_bytes()).ok()?;
    let _ = stream.get_mut().flush();
    tell.send((head, body)).ok()
}
