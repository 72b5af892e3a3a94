//! The life of a server: start, reload, stop.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use s3t_engine::{CheckedPipeline, System};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::app::App;
use crate::audits::Audits;
use crate::desk::{Desk, DeskRules};
use crate::listen::{Limits, listen};
use crate::metrics::Metrics;
use crate::opendsr::OpenDsr;
use crate::queue::Queue;
use crate::repairs::Repairs;
use crate::requests::Requests;
use crate::service::Service;
use crate::sessions::Sessions;
use crate::tls::Tls;
use crate::tokens::Tokens;
use crate::witness::Witnesses;
use crate::{ServerError, ServerSettings, TokenFile, callbacks, keeper, repairing, routes};

/// A server that runs.
///
/// It answers from the moment [`start`](Self::start) returns until [`stop`](Self::stop) does.
pub struct Server {
    runtime: Runtime,
    app: Arc<App>,
    tls: Option<Arc<Tls>>,
    addresses: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    ports: Vec<tokio::task::JoinHandle<()>>,
    workers: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts a server for a system that was opened to change it.
    ///
    /// # Errors
    ///
    /// [`ServerError`] naming the setting, file or address that cannot be used.
    pub fn start(system: System, settings: ServerSettings) -> Result<Self, ServerError> {
        settings.check().map_err(|(key, problem)| ServerError::Setting { key, problem })?;
        let runtime = runtime()?;
        Self::start_on(runtime, system, settings)
    }

    fn start_on(runtime: Runtime, system: System, settings: ServerSettings) -> Result<Self, ServerError> {
        let store = system.store().path().to_path_buf();
        let tokens = Tokens::open(TokenFile::new(settings.token_file(&store)))?;
        let tls = settings.tls.clone().map(Tls::open).transpose()?.map(Arc::new);
        let opendsr = settings.opendsr.clone().map(OpenDsr::open).transpose()?.map(Arc::new);
        let witnesses = Witnesses::new(&settings.witnesses)?;
        let requests = Arc::new(Requests::open(&settings.data_folder(&store))?);
        let listeners = [Some(&settings.address), settings.private_address.as_ref()];
        let listeners: Vec<TcpListener> =
            listeners.into_iter().flatten().map(|address| runtime.block_on(bind(address))).collect::<Result<_, _>>()?;
        let failed = |source| ServerError::Listen { address: settings.address.clone(), source };
        let addresses: Vec<SocketAddr> =
            listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>().map_err(failed)?;
        if let Some(address) = addresses.iter().find(|address| tokens.is_empty() && !address.ip().is_loopback()) {
            return Err(ServerError::Open { address: address.to_string(), tokens: settings.token_file(&store) });
        }
        let metrics = Arc::new(Metrics::new());
        let service = Service::new(Arc::new(system));
        let (wake, woken) = mpsc::channel();
        let desk = Desk::new(
            service.clone(),
            Arc::clone(&requests),
            opendsr.clone(),
            Arc::clone(&metrics),
            DeskRules { batch_minutes: settings.batch_minutes, min_budget: settings.min_budget },
            wake,
        );
        let app = Arc::new(App {
            queue: Queue::new(settings.queue_records, settings.batch_records, Arc::clone(&metrics)),
            audits: Audits::default(),
            witnesses,
            repairs: Repairs::new(settings.repair.clone()),
            sessions: Sessions::default(),
            life: crate::app::Life::default(),
            answering: std::sync::Mutex::default(),
            followers: crate::page::places(),
            service,
            tokens,
            metrics,
            desk,
            opendsr,
            settings,
        });
        let mut workers = Vec::new();
        let answering = Arc::clone(&app);
        workers.push(start_thread("s3t-answers", move || answering.queue.work(&answering.service))?);
        let keeping = Arc::clone(&app);
        workers.push(start_thread("s3t-keeper", move || keeper::keep(&keeping, &woken))?);
        let app_to_repair = Arc::clone(&app);
        workers.push(start_thread("s3t-repair", move || repairing::work(&app_to_repair))?);
        if !app.witnesses.is_empty() {
            let shown = Arc::clone(&app);
            let work = move || shown.witnesses.work(&shown.service, || shown.life.is_over());
            workers.push(start_thread("s3t-witness", work)?);
        }
        if let Some(opendsr) = app.opendsr.clone() {
            let delivering = Arc::clone(&app);
            workers.push(start_thread("s3t-callbacks", move || callbacks::deliver(&delivering, &opendsr))?);
        }
        let (stop, stopped) = watch::channel(false);
        let limits = Limits {
            connections: app.settings.connections,
            read_time: app.settings.read_time(),
            drain_time: app.settings.drain_time(),
        };
        let routers = if listeners.len() == 1 { vec![routes::all(&app)] } else { routes::apart(&app).to_vec() };
        let port = |(listener, router)| runtime.spawn(listen(listener, tls.clone(), router, limits, stopped.clone()));
        let ports = listeners.into_iter().zip(routers).map(port).collect();
        for address in &addresses {
            tracing::info!(target: "s3t::server", %address, tls = tls.is_some(), "listening");
        }
        if app.tokens.is_empty() {
            tracing::warn!(target: "s3t::server", "there are no tokens: everybody on this machine may ask and delete");
        }
        Ok(Self { runtime, app, tls, addresses, stop, ports, workers })
    }

    /// The address of answers.
    ///
    /// # Panics
    ///
    /// Never: a server that runs has an address.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// The address of deletions, proofs and the page; the same as that of answers unless they are apart.
    pub fn private_address(&self) -> SocketAddr {
        *self.addresses.last().unwrap_or(&self.addresses[0])
    }

    /// Reads the tokens and certificates again.
    ///
    /// # Errors
    ///
    /// [`ServerError`] naming the file that cannot be used; what was read before stays.
    pub fn reload(&self) -> Result<(), ServerError> {
        self.app.tokens.reload()?;
        self.tls.as_ref().map_or(Ok(()), |tls| tls.reload())
    }

    /// Stops: `/readyz` says so at once, new connections are taken for `stop_delay_seconds` more, requests under way are answered,
    /// and then the threads end. Deletions that were accepted and not erased yet are erased by the next server or command.
    pub fn stop(self) {
        let Self { runtime, app, stop, ports, workers, .. } = self;
        app.life.stopping();
        app.repairs.wake();
        runtime.block_on(async {
            tokio::time::sleep(app.settings.stop_delay()).await;
            let _ = stop.send(true);
            for port in ports {
                let _ = port.await;
            }
        });
        app.queue.close();
        app.life.over();
        for worker in workers {
            let _ = worker.join();
        }
        runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    }
}

/// Serves a pipeline until SIGTERM or SIGINT; SIGHUP reads tokens and certificates again. `started` is told the addresses.
///
/// # Errors
///
/// [`ServerError`] naming what keeps the server from starting.
pub fn serve(
    pipeline: CheckedPipeline,
    settings: ServerSettings,
    started: impl FnOnce(&Server),
) -> Result<(), ServerError> {
    settings.check().map_err(|(key, problem)| ServerError::Setting { key, problem })?;
    let runtime = runtime()?;
    // Before the model is loaded, which takes its time: a signal that comes meanwhile is not lost.
    let mut signals = runtime.block_on(async { Signals::listen() })?;
    let system = System::open_to_delete(pipeline)?;
    let server = Server::start_on(runtime, system, settings)?;
    started(&server);
    loop {
        match server.runtime.block_on(signals.next()) {
            Signal::Stop => break,
            Signal::Reload => match server.reload() {
                Ok(()) => tracing::info!(target: "s3t::server", "tokens and certificates were read again"),
                Err(error) => tracing::error!(target: "s3t::server", "{error}; the ones read before stay"),
            },
        }
    }
    tracing::info!(target: "s3t::server", "stopping");
    server.stop();
    Ok(())
}

enum Signal {
    Stop,
    // Only where there is SIGHUP.
    #[cfg_attr(not(unix), allow(dead_code))]
    Reload,
}

#[cfg(unix)]
struct Signals {
    stop: [tokio::signal::unix::Signal; 2],
    reload: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> Result<Self, ServerError> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| {
            let failed =
                |error: std::io::Error| ServerError::System { action: "wait for signals", problem: error.to_string() };
            signal(kind).map_err(failed)
        };
        let stop = [listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?];
        Ok(Self { stop, reload: listen(SignalKind::hangup())? })
    }

    async fn next(&mut self) -> Signal {
        let [terminate, interrupt] = &mut self.stop;
        tokio::select! {
            _ = terminate.recv() => Signal::Stop,
            _ = interrupt.recv() => Signal::Stop,
            _ = self.reload.recv() => Signal::Reload,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> Result<Self, ServerError> {
        Ok(Self)
    }

    async fn next(&mut self) -> Signal {
        let _ = tokio::signal::ctrl_c().await;
        Signal::Stop
    }
}

fn runtime() -> Result<Runtime, ServerError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("s3t-http").build();
    runtime.map_err(|error| ServerError::System { action: "start threads", problem: error.to_string() })
}

async fn bind(address: &str) -> Result<TcpListener, ServerError> {
    let failed = |source| ServerError::Listen { address: address.to_owned(), source };
    TcpListener::bind(address).await.map_err(failed)
}

fn start_thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, ServerError> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map_err(|error| ServerError::System { action: "start threads", problem: error.to_string() })
}
