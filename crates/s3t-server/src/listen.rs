//! Connections: how many, how long the head of a request may take and how large it may be, how long an answer may wait to be read, and
//! their end when the server stops.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_io_timeout::TimeoutStream;

use crate::tls::Tls;

/// The largest head of a request in bytes, and the most headers in it. Beyond them the answer is 431.
const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_HEADERS: usize = 100;

/// The limits of a port's connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) read_time: Duration,
    pub(crate) drain_time: Duration,
}

/// Serves a port until `stop` becomes true, and then the requests that are under way, as long as the drain time lasts.
pub(crate) async fn listen(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((place, listener.accept().await))
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            _ = stop.wait_for(|stop| *stop) => None,
        };
        let Some((place, accepted)) = accepted else { break };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // No more files can be opened, perhaps; others close meanwhile.
                tracing::warn!(target: "s3t::server", "a connection could not be taken: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (router, watcher) = (router.clone(), graceful.watcher());
        let acceptor = tls.as_ref().map(|tls| tls.acceptor());
        tokio::spawn(async move {
            let _place = place;
            match acceptor {
                None => serve(stream, router, limits, watcher).await,
                Some(acceptor) => {
                    // Whoever does not finish the handshake in time, or cannot, is let go.
                    if let Ok(Ok(stream)) = tokio::time::timeout(limits.read_time, acceptor.accept(stream)).await {
                        serve(stream, router, limits, watcher).await;
                    }
                }
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(limits.drain_time, graceful.shutdown()).await.is_err() {
        tracing::warn!(target: "s3t::server", "some requests were still under way when the time to finish them was over");
    }
}

async fn serve<S>(stream: S, router: Router, limits: Limits, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.read_time)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    // hyper begins to count the time for a head when the answer before it is written.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(3 * limits.read_time));
    let connection = builder.serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router));
    // A connection that breaks, or whose request cannot be read, is over; hyper has answered it where it could.
    let _ = watcher.watch(connection).await;
}
