//! A network between two sides: it can be cut, and it can stop to deliver.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    sockets: Mutex<Vec<TcpStream>>,
    is_frozen: AtomicBool,
}

impl Proxy {
    pub fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (shared, target) = (Arc::<Shared>::default(), target.to_owned());
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (near, Ok(far)) = (socket.unwrap(), TcpStream::connect(&target)) else { return };
                let both = || [near.try_clone().unwrap(), far.try_clone().unwrap()];
                accepting.sockets.lock().unwrap().extend(both());
                for [mut from, mut to] in [both(), {
                    let [one, other] = both();
                    [other, one]
                }] {
                    let shared = Arc::clone(&accepting);
                    std::thread::spawn(move || {
                        let mut bytes = [0; 4096];
                        while let Ok(received @ 1..) = from.read(&mut bytes) {
                            while shared.is_frozen.load(Ordering::SeqCst) {
                                std::thread::sleep(Duration::from_millis(5));
                            }
                            if to.write_all(&bytes[..received]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self { address, shared }
    }

    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// Ends all connections.
    pub fn cut(&self) {
        for socket in self.shared.sockets.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Delivers nothing, and says nothing about it.
    pub fn freeze(&self) {
        self.shared.is_frozen.store(true, Ordering::SeqCst);
    }

    pub fn is_frozen(&self) -> bool {
        self.shared.is_frozen.load(Ordering::SeqCst)
    }

    pub fn thaw(&self) {
        self.shared.is_frozen.store(false, Ordering::SeqCst);
    }
}
