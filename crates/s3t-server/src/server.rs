//! The life of a server: start, reload, stop.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use axum::Router;
use s3t_engine::{CheckedPipeline, GenerationSettings, Replica, System};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::answers::Answers;
use crate::app::App;
use crate::audits::Audits;
use crate::desk::{Desk, DeskRules};
use crate::follow::Follower;
use crate::followers::Followers;
use crate::listen::{Limits, listen};
use crate::metrics::Metrics;
use crate::model::Model;
use crate::opendsr::OpenDsr;
use crate::priority::{ANSWERS, step_back};
use crate::repairs::Repairs;
use crate::requests::Requests;
use crate::service::Service;
use crate::tls::Tls;
use crate::tokens::Tokens;
use crate::witness::Witnesses;
use crate::{ServerError, ServerSettings, TokenFile, callbacks, keeper, repairing, routes};

/// A server that runs.
///
/// It answers from the moment [`start`](Self::start) returns until [`stop`](Self::stop) does.
pub struct Server {
    runtime: Runtime,
    app: Answers,
    tls: Option<Arc<Tls>>,
    addresses: Vec<SocketAddr>,
    health: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    ports: Vec<tokio::task::JoinHandle<()>>,
    workers: Vec<JoinHandle<()>>,
    /// Wakes those who are to notice that the server stops.
    stopping: Box<dyn Fn() + Send + Sync>,
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

    /// Starts a server that answers with the stages of the leader in the settings.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start). A leader that cannot be reached is no error: it is tried again.
    pub fn follow(replica: Replica, settings: ServerSettings) -> Result<Self, ServerError> {
        settings.check().map_err(|(key, problem)| ServerError::Setting { key, problem })?;
        let runtime = runtime()?;
        Self::follow_on(runtime, replica, settings)
    }

    fn start_on(runtime: Runtime, system: System, settings: ServerSettings) -> Result<Self, ServerError> {
        let store = system.store().path().to_path_buf();
        let ports = Ports::open(&runtime, &settings, &store)?;
        let opendsr = settings.opendsr.clone().map(OpenDsr::open).transpose()?.map(Arc::new);
        let witnesses = Witnesses::new(&settings.witnesses)?;
        let requests = Arc::new(Requests::open(&settings.data_folder(&store))?);
        let followers = Arc::new(Followers::new(Arc::clone(&requests), settings.lease())?);
        let metrics = Arc::new(Metrics::new());
        let system = Arc::new(system);
        let service = Service::new(Arc::clone(&system));
        let (wake, woken) = mpsc::channel();
        let desk = Desk::new(
            service.clone(),
            Arc::clone(&requests),
            opendsr.clone(),
            Arc::clone(&followers),
            Arc::clone(&metrics),
            DeskRules { batch_minutes: settings.batch_minutes, min_budget: settings.min_budget },
            wake,
        );
        let repair = settings.repair.clone();
        let answers = Answers::new(settings, Model::Store(system), ports.tokens()?, metrics);
        let app = Arc::new(App {
            answers: answers.clone(),
            audits: Audits::default(),
            witnesses,
            repairs: Repairs::new(repair),
            noted: Mutex::default(),
            watchers: crate::page::places(),
            service,
            desk,
            opendsr,
            followers,
        });
        let mut workers = Vec::new();
        let keeping = Arc::clone(&app);
        let (erase, to_erase) = mpsc::channel();
        workers.push(start_thread("s3t-keeper", move || keeper::keep(&keeping, &woken, &erase))?);
        let erasing = Arc::clone(&app);
        workers.push(start_thread("s3t-erase", move || keeper::erase(&erasing, &to_erase))?);
        let app_to_repair = Arc::clone(&app);
        workers.push(start_thread("s3t-repair", move || repairing::work(&app_to_repair))?);
        if !app.witnesses.is_empty() {
            let shown = Arc::clone(&app);
            let work = move || shown.witnesses.work(&shown.service, || shown.life.is_over());
            workers.push(start_thread("s3t-witness", work)?);
        }
        let watching = Arc::clone(&app);
        workers.push(start_thread("s3t-followers", move || keeper::watch_followers(&watching))?);
        if let Some(opendsr) = app.opendsr.clone() {
            let delivering = Arc::clone(&app);
            workers.push(start_thread("s3t-callbacks", move || callbacks::deliver(&delivering, &opendsr))?);
        }
        let routers = if ports.listeners.len() == 1 { vec![routes::all(&app)] } else { routes::apart(&app).to_vec() };
        let probes = routes::health_only(&app);
        let stopping = Box::new(move || app.repairs.wake());
        Self::run(runtime, answers, ports, routers, probes, workers, stopping)
    }

    fn follow_on(runtime: Runtime, replica: Replica, settings: ServerSettings) -> Result<Self, ServerError> {
        let missing =
            || ServerError::Setting { key: "follow", problem: "is missing; give the leader's address".into() };
        let follow = settings.follow.clone().ok_or_else(missing)?;
        let ports = Ports::open(&runtime, &settings, &replica.pipeline().store.clone())?;
        let metrics = Arc::new(Metrics::new());
        let follower = Arc::new(Follower::open(replica, &follow, &metrics)?);
        let model = Model::Leader(Arc::clone(&follower));
        let answers = Answers::new(settings, model, ports.tokens()?, metrics);
        let routers = vec![routes::of_follower(&answers, follower.leader())];
        let [watching, fetching, guarding] = [(); 3].map(|()| (Arc::clone(&follower), answers.clone()));
        let workers = vec![
            start_thread("s3t-follow", move || watching.0.watch(&watching.1.life))?,
            start_thread("s3t-fetch", move || fetching.0.fetch(&fetching.1.life))?,
            start_thread("s3t-lease", move || {
                guarding.0.guard(&guarding.1.life, || keeper::reload_tokens(&guarding.1.tokens));
            })?,
        ];
        let probes = routes::health_of_follower(&answers);
        Self::run(runtime, answers, ports, routers, probes, workers, Box::new(|| {}))
    }

    /// Answers on open ports.
    fn run(
        runtime: Runtime,
        app: Answers,
        ports: Ports,
        routers: Vec<Router>,
        probes: Router,
        mut workers: Vec<JoinHandle<()>>,
        stopping: Box<dyn Fn() + Send + Sync>,
    ) -> Result<Self, ServerError> {
        let Ports { listeners, addresses, health, tls, .. } = ports;
        let health_address = health.as_ref().and_then(|listener| listener.local_addr().ok());
        let answering = app.clone();
        s3t_train::on_each_shared_thread(|| step_back(ANSWERS));
        let work = move || {
            step_back(ANSWERS);
            answering.queue.work(&answering.model);
        };
        workers.push(start_thread("s3t-answers", work)?);
        if let Ok(generation) = app.generation().cloned() {
            let living = app.clone();
            let work = move || {
                step_back(ANSWERS);
                generation.work(|| living.life.is_over());
            };
            workers.push(start_thread("s3t-texts", work)?);
        }
        let (stop, stopped) = watch::channel(false);
        let limits = Limits {
            connections: app.settings.connections,
            read_time: app.settings.read_time(),
            drain_time: app.settings.drain_time(),
        };
        let port = |(listener, router)| runtime.spawn(listen(listener, tls.clone(), router, limits, stopped.clone()));
        let mut ports: Vec<tokio::task::JoinHandle<()>> = listeners.into_iter().zip(routers).map(port).collect();
        if let Some(listener) = health {
            // Without encryption and with connections of its own, so that a probe is answered however many others are open.
            ports.push(runtime.spawn(listen(listener, None, probes, limits, stopped.clone())));
        }
        for address in &addresses {
            tracing::info!(target: "s3t::server", %address, tls = tls.is_some(), "listening");
        }
        if app.tokens.is_empty() {
            tracing::warn!(target: "s3t::server", "there are no tokens: everybody on this machine may ask and delete");
        }
        Ok(Self { runtime, app, tls, addresses, health: health_address, stop, ports, workers, stopping })
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

    /// The address of health and figures alone, if they have one.
    pub fn health_address(&self) -> Option<SocketAddr> {
        self.health
    }

    /// The limits of texts that are continued, for a model that does that.
    pub fn generation(&self) -> Option<GenerationSettings> {
        self.app.generation().ok().map(|generation| generation.settings())
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
        let Self { runtime, app, stop, ports, workers, stopping, .. } = self;
        app.life.stopping();
        stopping();
        runtime.block_on(async {
            tokio::time::sleep(app.settings.stop_delay()).await;
            let _ = stop.send(true);
            for port in ports {
                let _ = port.await;
            }
        });
        app.queue.close();
        app.life.over();
        if let Ok(generation) = app.generation() {
            generation.close();
        }
        for worker in workers {
            let _ = worker.join();
        }
        if let Model::Leader(follower) = &app.model {
            follower.leave();
        }
        runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    }
}

/// The ports of a server, and who may use them.
struct Ports {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    /// The port of health and figures alone, which anybody may use.
    health: Option<TcpListener>,
    tls: Option<Arc<Tls>>,
    tokens: TokenFile,
}

impl Ports {
    fn open(runtime: &Runtime, settings: &ServerSettings, store: &Path) -> Result<Self, ServerError> {
        let tokens = TokenFile::new(settings.token_file(store));
        let tls = settings.tls.clone().map(Tls::open).transpose()?.map(Arc::new);
        let listeners = [Some(&settings.address), settings.private_address.as_ref()];
        let listeners: Vec<TcpListener> =
            listeners.into_iter().flatten().map(|address| runtime.block_on(bind(address))).collect::<Result<_, _>>()?;
        let failed = |source| ServerError::Listen { address: settings.address.clone(), source };
        let addresses: Vec<SocketAddr> =
            listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>().map_err(failed)?;
        let is_open = addresses.iter().find(|address| !address.ip().is_loopback());
        if let Some(address) = is_open
            && tokens.tokens()?.is_empty()
        {
            return Err(ServerError::Open { address: address.to_string(), tokens: tokens.path().to_path_buf() });
        }
        let health = settings.health_address.as_ref().map(|address| runtime.block_on(bind(address))).transpose()?;
        Ok(Self { listeners, addresses, health, tls, tokens })
    }

    fn tokens(&self) -> Result<Tokens, ServerError> {
        Tokens::open(self.tokens.clone())
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
    let server = if settings.follow.is_some() {
        Server::follow_on(runtime, Replica::open(pipeline)?, settings)?
    } else {
        Server::start_on(runtime, System::open_to_delete(pipeline)?, settings)?
    };
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
