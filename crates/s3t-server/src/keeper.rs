//! The threads that do what nobody waits for: batches of deletions, the figures and the file of tokens; and erasures, which may take long.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use crate::app::App;
use crate::clock::now_ms;
use crate::tokens::Tokens;

/// The longest time between two looks at what is due.
const LOOK: Duration = Duration::from_secs(1);

/// The longest time for which erasures wait for a pause between requests.
const MAX_HOLD: Duration = Duration::from_secs(1);

/// The time between two looks for that pause.
const PAUSE: Duration = Duration::from_millis(20);

/// The longest time between two attempts at an erasure that fails.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Reads the file of tokens again if it has changed.
pub(crate) fn reload_tokens(tokens: &Tokens) {
    match tokens.reload_if_changed() {
        Ok(true) => tracing::info!(target: "s3t::server", "the file of tokens was read again"),
        Ok(false) => {}
        Err(error) => tracing::warn!(target: "s3t::server", "{error}; the tokens known before stay"),
    }
}

/// Notes as in effect what followers have confirmed, until the server stops.
pub(crate) fn watch_followers(app: &Arc<App>) {
    while !app.life.is_over() {
        let waits = app.desk.take_effect().unwrap_or_else(|refusal| {
            tracing::warn!(target: "s3t::followers", "{}", refusal.message);
            false
        });
        app.followers.wait(waits);
    }
}

/// Works until the other end of the channel is gone or the server stops, and wakes the thread that erases.
pub(crate) fn keep(app: &Arc<App>, wake: &Receiver<()>, erasing: &Sender<()>) {
    let mut last_look = None::<Instant>;
    while !app.life.is_over() {
        if let Err(refusal) = app.desk.recover() {
            tracing::warn!(target: "s3t::deletions", "deletions that were accepted could not be noted: {}", refusal.message);
        }
        if let Err(refusal) = app.desk.run_due() {
            tracing::warn!(target: "s3t::deletions", "deletions that wait could not be done: {}", refusal.message);
        }
        if let Err(refusal) = app.desk.run_held() {
            tracing::warn!(target: "s3t::deletions", "deletions that are held could not be done: {}", refusal.message);
        }
        // It is gone when the server stops.
        let _ = erasing.send(());
        // While requests arrive one upon the other, the figures can wait.
        let looks = !app.desk.is_busy() || last_look.is_none_or(|at| at.elapsed() >= LOOK);
        if looks {
            if let Err(refusal) = app.look() {
                tracing::warn!(target: "s3t::server", "{}", refusal.message);
            }
            last_look = Some(Instant::now());
        }
        reload_tokens(&app.tokens);
        let next = app
            .desk
            .requests()
            .next_run()
            .ok()
            .flatten()
            .map_or(LOOK, |at| Duration::from_millis((at - now_ms()).max(10) as u64));
        if !is_woken(wake, next.min(if looks { LOOK } else { PAUSE })) {
            return;
        }
    }
}

/// Erases what was deleted, until the other end of the channel is gone or the server stops.
pub(crate) fn erase(app: &Arc<App>, wake: &Receiver<()>) {
    let mut wait = Duration::ZERO;
    let mut last = Instant::now();
    let mut not_before = last;
    while !app.life.is_over() {
        // While requests arrive one upon the other, erasures wait for a pause, and are done together: they need the same files and
        // would keep the requests from taking effect.
        let waits = app.desk.is_busy() && last.elapsed() < MAX_HOLD;
        if !waits && Instant::now() >= not_before {
            let erased = app.desk.erase();
            if let Err(refusal) = &erased {
                tracing::warn!(target: "s3t::erase", "{}", refusal.message);
            }
            // What fails is tried again after 1 s, 2 s, 4 s, ...
            let failed = erased.is_err() || app.desk.problem().is_some();
            wait = if failed { (2 * wait).clamp(LOOK, MAX_WAIT) } else { Duration::ZERO };
            last = Instant::now();
            not_before = last + wait;
        }
        if !is_woken(wake, if waits { PAUSE } else { LOOK }) {
            return;
        }
    }
}

/// Waits to be woken, or for a time: `false` if the other end of the channel is gone.
fn is_woken(wake: &Receiver<()>, time: Duration) -> bool {
    match wake.recv_timeout(time) {
        // Those that came meanwhile are done together.
        Ok(()) => {
            while wake.try_recv().is_ok() {}
            true
        }
        Err(RecvTimeoutError::Timeout) => true,
        Err(RecvTimeoutError::Disconnected) => false,
    }
}
