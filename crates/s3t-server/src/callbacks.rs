//! The thread that delivers callbacks.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::clock::now_ms;
use crate::opendsr::OpenDsr;

/// The time between two looks at what is due.
const LOOK: Duration = Duration::from_millis(200);

/// Callbacks taken at a time.
const AT_ONCE: u32 = 32;

/// Delivers callbacks until the server stops.
pub(crate) fn deliver(app: &Arc<App>, opendsr: &OpenDsr) {
    while !app.life.is_over() {
        let due = app.desk.requests().due_callbacks(now_ms(), AT_ONCE).unwrap_or_else(|error| {
            tracing::error!(target: "s3t::callbacks", "{error}");
            Vec::new()
        });
        let is_idle = due.is_empty();
        for delivery in due {
            if app.life.is_over() {
                return;
            }
            let sent = opendsr.send(&delivery);
            if let Err(problem) = &sent {
                // Neither the address nor the request: each may name somebody.
                tracing::warn!(target: "s3t::callbacks", attempts = delivery.attempts + 1, "not delivered: {problem}");
            }
            if let Err(error) = app.desk.requests().attempted(&delivery, sent.is_ok(), now_ms()) {
                tracing::error!(target: "s3t::callbacks", "{error}");
            }
        }
        if is_idle {
            std::thread::sleep(LOOK);
        }
    }
}
