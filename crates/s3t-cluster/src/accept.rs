//! The door: workers that connect, are greeted, and join the pool.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use s3t_executor::Link;

use crate::admission::{Refusal, admit, differences};
use crate::pool::Pool;
use crate::stream::split;

/// The time between two looks at whether somebody connects.
const LOOK: Duration = Duration::from_millis(20);

/// The time that somebody has to show an invitation.
const GREETING: Duration = Duration::from_secs(20);

/// Connections that may be in their greeting at a time.
const MAX_GREETINGS: usize = 256;

struct Greeting {
    socket: TcpStream,
    since: Instant,
    is_over: Arc<AtomicBool>,
}

/// Ends a greeting when it is dropped.
struct Ends(Arc<AtomicBool>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Lets workers in until the pool is over.
pub(crate) fn accept(pool: &Arc<Pool>, listener: &TcpListener) {
    let mut greetings: Vec<Greeting> = Vec::new();
    while !pool.is_over() {
        greetings.retain(|greeting| {
            if greeting.since.elapsed() > GREETING && !greeting.is_over.load(Ordering::Acquire) {
                let _ = greeting.socket.shutdown(Shutdown::Both);
            }
            !greeting.is_over.load(Ordering::Acquire)
        });
        // Others wait in the queue of the operating system.
        let accepted = (greetings.len() < MAX_GREETINGS).then(|| listener.accept().ok()).flatten();
        let Some((socket, peer)) = accepted else {
            std::thread::sleep(LOOK);
            continue;
        };
        let is_over = Arc::new(AtomicBool::new(false));
        let Ok(second) = socket.try_clone() else { continue };
        greetings.push(Greeting { socket: second, since: Instant::now(), is_over: Arc::clone(&is_over) });
        let pool = Arc::clone(pool);
        // Also where no thread can be started, or the greeting unwinds.
        let ends = Ends(is_over);
        let greet = move || {
            if let Err(problem) = greet(&pool, socket, &ends.0) {
                tracing::warn!(%peer, %problem, "a worker is not taken");
                pool.refused(&problem);
            }
        };
        let _ = std::thread::Builder::new().name("s3t-greeting".to_owned()).spawn(greet);
    }
}

fn greet(pool: &Arc<Pool>, socket: TcpStream, is_greeted: &AtomicBool) -> Result<(), Box<Refusal>> {
    let stranger = |problem: String| Box::new(Refusal { worker: None, problem });
    // Windows and BSD hand on that the listener does not wait.
    socket.set_nonblocking(false).map_err(|error| stranger(error.to_string()))?;
    let tls = pool.owner.connection().map_err(|error| stranger(error.to_string()))?;
    let (mut reader, mut writer) = split(tls.into(), socket, GREETING).map_err(|error| stranger(error.to_string()))?;
    let lease = pool.settings.lease();
    let objects = pool.objects.as_ref().map(|objects| objects.address());
    let registration = admit(&mut reader, &mut writer, &pool.owner.invitation, &pool.worker, lease, objects);
    let registration = registration?;
    is_greeted.store(true, Ordering::Release);
    let refused = |problem: String| Box::new(Refusal { worker: Some(registration.clone()), problem });
    let cut = reader.cut().map_err(|error| refused(error.to_string()))?;
    reader.greeted(lease).map_err(|error| refused(error.to_string()))?;
    let link = Link::open(registration.name(), reader, writer, &pool.worker, lease).map_err(|error| {
        // Nobody reads what may still come.
        cut.cut();
        refused(error.to_string())
    })?;
    if *link.environment() != pool.environment {
        let problem = differences(&pool.environment, link.environment());
        link.dismiss(problem.clone());
        return Err(refused(problem));
    }
    pool.join(registration, link, cut);
    Ok(())
}
