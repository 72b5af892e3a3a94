//! Settings and tokens of a server.

use super::Case;
use super::workspace::Workspace;

/// A pipeline with a setting of the server.
fn setting(w: &Workspace, line: &str) {
    w.edit("pipeline.toml", "[run]", &format!("[server]\n{line}\n\n[run]"));
}

const TOKENS: &[&str] = &["token", "list", "pipeline.toml"];
const CREATE: &[&str] = &["token", "create", "pipeline.toml", "--name", "shop", "--role", "buy"];
const REVOKE: &[&str] = &["token", "revoke", "pipeline.toml", "0123456789ab"];
const SERVE: &[&str] = &["serve", "pipeline.toml"];

#[rustfmt::skip]
pub fn cases() -> Vec<Case> {
    const PART: &str = "Server";
    let case = |situation, spoil, args, code, message| Case { part: PART, situation, spoil, args, code, message };
    let trained = |w: &Workspace| {
        w.json(&["train", "pipeline.toml"]);
        setting(w, "address = \"0.0.0.0:0\"");
    };
    vec![
        case("unknown setting", |w| setting(w, "colour = 1"), TOKENS, 2, "pipeline.toml line 45: `server.colour`: unknown field `colour`"),
        case("setting out of range", |w| setting(w, "batch_records = 0"), TOKENS, 2, "pipeline.toml line 45: `server.batch_records` is 0; it takes 1 to 4096"),
        case("queue too small for a request", |w| setting(w, "queue_records = 10"), TOKENS, 2, "pipeline.toml line 45: `server.queue_records` is 10; it takes 64 to"),
        case("TLS without a key", |w| setting(w, "tls = { certificate = \"cert.pem\" }"), TOKENS, 2, "pipeline.toml line 45: `server.tls`: missing field `key`"),
        case("unknown role", |_| {}, CREATE, 2, "unknown role `buy`; the roles are ask, delete, audit, operate"),
        case("unknown token", |_| {}, REVOKE, 3, "no token `0123456789ab` in `store.server/tokens.json`; `s3t token list` shows the ids"),
        case("file that holds no tokens", |w| {
            setting(w, "tokens = \"train.jsonl\"");
        }, TOKENS, 2, "`train.jsonl` cannot be used: "),
        case("server that others reach, without tokens", trained, SERVE, 2, "can be reached from other machines, but there is no token in `store.server/tokens.json`: make one with `s3t token create`, or listen on 127.0.0.1"),
    ]
}
