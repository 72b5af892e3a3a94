//! The two halves of a TLS connection, each for a thread of its own.
//!
//! The state of TLS is shared, and held only while bytes are sealed or opened, never while a socket is waited for: so a side that only
//! sends never keeps the other half from receiving.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::Connection;

/// Bytes that are sealed at a time: a record of TLS.
const PIECE: usize = 16 * 1024;

struct Shared {
    tls: Mutex<Connection>,
    socket: TcpStream,
}

impl Shared {
    fn tls(&self) -> MutexGuard<'_, Connection> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The half that receives. It ends where the connection ends, in whatever way: frames say whether they are whole.
pub struct Reading {
    shared: Arc<Shared>,
    sealed: Vec<u8>,
    /// The part of `sealed` that was received and not opened yet.
    left: std::ops::Range<usize>,
}

/// The half that sends. When it is dropped, the other side is told that nothing more comes.
pub struct Writing {
    shared: Arc<Shared>,
    sealed: Vec<u8>,
}

/// Greets the other side, which has this time for each of its messages, and splits the connection.
pub(crate) fn split(mut tls: Connection, mut socket: TcpStream, patience: Duration) -> Result<(Reading, Writing)> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))?;
    while tls.is_handshaking() {
        tls.complete_io(&mut socket)?;
    }
    let shared = Arc::new(Shared { tls: Mutex::new(tls), socket });
    let reading = Reading { shared: Arc::clone(&shared), sealed: vec![0; 2 * PIECE], left: 0..0 };
    Ok((reading, Writing { shared, sealed: Vec::new() }))
}

impl Reading {
    /// The greeting is over: reading waits without end, and writing as long as a lease lasts for the other side to take anything.
    pub(crate) fn greeted(&self, lease: Duration) -> Result<()> {
        self.shared.socket.set_read_timeout(None)?;
        self.shared.socket.set_write_timeout(Some(lease))
    }

    /// A second handle of the connection, by which it can be cut.
    pub(crate) fn cut(&self) -> Result<Cut> {
        self.shared.socket.try_clone().map(Cut)
    }
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            let mut tls = self.shared.tls();
            match tls.reader().read(buffer) {
                Ok(read) => return Ok(read),
                // The other side is gone without a word.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if self.left.is_empty() {
                drop(tls);
                match (&self.shared.socket).read(&mut self.sealed) {
                    Ok(0) => return Ok(0),
                    Ok(received) => self.left = 0..received,
                    Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                        return Ok(0);
                    }
                    Err(error) => return Err(error),
                }
                tls = self.shared.tls();
            }
            self.left.start += tls.read_tls(&mut &self.sealed[self.left.clone()])?;
            tls.process_new_packets().map_err(|error| std::io::Error::new(ErrorKind::InvalidData, error))?;
        }
    }
}

impl Writing {
    /// Sends what is sealed.
    fn send(&mut self, close: bool) -> Result<()> {
        self.sealed.clear();
        {
            let mut tls = self.shared.tls();
            if close {
                tls.send_close_notify();
            }
            while tls.wants_write() {
                tls.write_tls(&mut self.sealed)?;
            }
        }
        (&self.shared.socket).write_all(&self.sealed)
    }
}

impl Write for Writing {
    fn write(&mut self, buffer: &[u8]) -> Result<usize> {
        let piece = &buffer[..buffer.len().min(PIECE)];
        let written = self.shared.tls().writer().write(piece)?;
        self.send(false)?;
        Ok(written)
    }

    fn flush(&mut self) -> Result<()> {
        self.send(false)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let _ = self.send(true);
        let _ = self.shared.socket.shutdown(Shutdown::Write);
    }
}

/// Cuts a connection, whatever its two halves wait for.
pub(crate) struct Cut(TcpStream);

impl Cut {
    pub(crate) fn cut(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::tls;

    fn pair() -> ((Reading, Writing), (Reading, Writing)) {
        let owner = tls::Owner::new().unwrap();
        let invitation = owner.invitation.clone();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let worker = std::thread::spawn(move || {
            let tls = tls::connection(&invitation).unwrap().into();
            split(tls, TcpStream::connect(address).unwrap(), Duration::from_secs(60)).unwrap()
        });
        let socket = listener.accept().unwrap().0;
        let owner = split(owner.connection().unwrap().into(), socket, Duration::from_secs(60)).unwrap();
        (owner, worker.join().unwrap())
    }

    #[test]
    fn both_sides_send_much_at_once_and_every_byte_comes() {
        let ((mut owner_in, mut owner_out), (mut worker_in, mut worker_out)) = pair();
        // More than all buffers on the way hold.
        let bytes: Vec<u8> =
            (0..40_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let bytes = &bytes;
        std::thread::scope(|scope| {
            scope.spawn(move || owner_out.write_all(bytes).unwrap());
            scope.spawn(move || worker_out.write_all(bytes).unwrap());
            for input in [&mut owner_in, &mut worker_in] {
                scope.spawn(move || {
                    let mut received = Vec::new();
                    input.read_to_end(&mut received).unwrap();
                    assert!(received == *bytes, "{} bytes of {}", received.len(), bytes.len());
                });
            }
        });
    }

    #[test]
    fn a_cut_ends_both_sides() {
        let ((mut owner_in, owner_out), (mut worker_in, _worker_out)) = pair();
        let cut = owner_in.cut().unwrap();
        let waiting = std::thread::spawn(move || owner_in.read(&mut [0; 8]).unwrap());
        cut.cut();
        assert_eq!(waiting.join().unwrap(), 0);
        assert_eq!(worker_in.read(&mut [0; 8]).unwrap(), 0);
        drop(owner_out);
    }

    #[test]
    fn another_certificate_is_refused() {
        let (owner, other) = (tls::Owner::new().unwrap(), tls::Owner::new().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let worker = std::thread::spawn(move || {
            let tls = tls::connection(&other.invitation).unwrap().into();
            split(tls, TcpStream::connect(address).unwrap(), Duration::from_secs(60)).err().unwrap().to_string()
        });
        let socket = listener.accept().unwrap().0;
        assert!(split(owner.connection().unwrap().into(), socket, Duration::from_secs(60)).is_err());
        let refusal = worker.join().unwrap();
        assert!(refusal.contains("its certificate is not the one of the invitation"), "{refusal}");
    }
}
