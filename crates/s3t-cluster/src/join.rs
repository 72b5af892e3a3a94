//! The worker's way to the owner.

use std::io::Write;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use s3t_executor::{Lease, ObjectFolder, read_frame, write_frame};

use crate::admission::Admission;
use crate::stream::split;
use crate::{ClusterError, Invitation, Reading, Registration, Writing, tls};

/// The time of one attempt to connect, and of the other side for each message of the greeting.
const PATIENCE: Duration = Duration::from_secs(10);

/// The time between the first two attempts to connect, and the longest: each is twice as long as the one before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// A connection with an owner that has taken this worker: what [`s3t_executor::work`] needs.
pub struct Joined {
    /// The half that receives.
    pub reader: Reading,
    /// The half that sends.
    pub writer: Writing,
    /// The lease of this worker.
    pub lease: Lease,
    /// The folder of object storage in which parts of jobs may be.
    pub objects: Option<Arc<dyn ObjectFolder>>,
}

/// Joins the owner of a store at `address`, a host and a port. An owner that cannot be reached is tried again for `patience`.
///
/// # Errors
///
/// [`ClusterError::Unreachable`], [`ClusterError::Connection`] if the other side is not the owner of the invitation, and
/// [`ClusterError::Refused`] with the owner's reason. [`ClusterError::Machine`] if the owner's object storage cannot be opened here.
pub fn join(
    address: &str,
    invitation: &Invitation,
    registration: &Registration,
    patience: Duration,
) -> Result<Joined, ClusterError> {
    let socket = connect(address, patience)?;
    let failed =
        |problem: String| ClusterError::Connection { peer: format!("the owner of the store at {address}"), problem };
    let tls = tls::connection(invitation).map_err(|error| failed(error.to_string()))?;
    let (mut reader, mut writer) = split(tls.into(), socket, PATIENCE).map_err(|error| failed(error.to_string()))?;
    // The lease counts from before the request for it.
    let since = Instant::now();
    let frame = write_frame(registration).map_err(|error| failed(error.to_string()))?;
    let sent = writer.write_all(&*invitation.token).and_then(|()| writer.write_all(&frame));
    sent.and_then(|()| writer.flush()).map_err(|error| failed(error.to_string()))?;
    match read_frame(&mut reader).map_err(|error| failed(error.to_string()))? {
        Some(Admission::Admitted { lease: length, objects }) => {
            reader.greeted(length).map_err(|error| failed(error.to_string()))?;
            let opened = objects.map(|address| address.open()).transpose();
            let objects = opened.map_err(|error| ClusterError::Machine(error.to_string()))?;
            let objects = objects.map(|launch| Arc::new(launch) as Arc<dyn ObjectFolder>);
            Ok(Joined { reader, writer, lease: Lease { length, since }, objects })
        }
        Some(Admission::Refused(reason)) => Err(ClusterError::Refused(reason)),
        None => Err(failed("it went away before it answered".into())),
    }
}

fn connect(address: &str, patience: Duration) -> Result<TcpStream, ClusterError> {
    let start = Instant::now();
    let mut pause = PAUSES.0;
    loop {
        let attempt = address.to_socket_addrs().and_then(|addresses| {
            // A name may have addresses at which nobody listens, of IPv6 for example.
            let mut last = std::io::Error::other("the name has no address");
            for address in addresses {
                match TcpStream::connect_timeout(&address, PATIENCE) {
                    Ok(socket) => return Ok(socket),
                    Err(error) => last = error,
                }
            }
            Err(last)
        });
        match attempt {
            Ok(socket) => return Ok(socket),
            Err(error) if start.elapsed() >= patience => {
                let (address, problem) = (address.to_owned(), error.to_string());
                return Err(ClusterError::Unreachable { address, patience, problem });
            }
            Err(_) => {
                std::thread::sleep(pause);
                pause = (2 * pause).min(PAUSES.1);
            }
        }
    }
}
