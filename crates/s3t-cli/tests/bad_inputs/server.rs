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
        case("time for a text out of range", |w| setting(w, "generation_seconds = 0"), TOKENS, 2, "pipeline.toml line 45: `server.generation_seconds` is 0; it takes 0.1 to 86400"),
        case("TLS without a key", |w| setting(w, "tls = { certificate = \"cert.pem\" }"), TOKENS, 2, "pipeline.toml line 45: `server.tls`: missing field `key`"),
        case("lease out of range", |w| setting(w, "lease_seconds = 0.1"), TOKENS, 2, "pipeline.toml line 45: `server.lease_seconds` is 0.1; it takes 0.5 to 3600, or 0 for no followers"),
        case("leader without a scheme", |w| setting(w, "follow = { leader = \"leader:3000\" }"), TOKENS, 2, "pipeline.toml line 45: `server.follow.leader` takes an address such as https://leader.example:3000, without name, password and query"),
        case("leader with a password", |w| setting(w, "follow = { leader = \"https://me:word@leader\" }"), TOKENS, 2, "pipeline.toml line 45: `server.follow.leader` takes an address such as https://leader.example:3000, without name, password and query"),
        case("certificate of a follower without its key", |w| setting(w, "follow = { leader = \"https://leader\", certificate = \"cert.pem\" }"), TOKENS, 2, "pipeline.toml line 45: `server.follow.certificate` and `follow.key` belong together; give both or neither"),
        case("follower with a private port", |w| setting(w, "private_address = \"127.0.0.1:0\"\nfollow = { leader = \"https://leader\" }"), TOKENS, 2, "pipeline.toml line 45: `server.private_address` is for a leader; a follower has answers only, and all on `server.address`"),
        case("token for a leader that is not there", |w| setting(w, "address = \"127.0.0.1:0\"\nfollow = { leader = \"http://127.0.0.1:1\", token_file = \"none.token\" }"), SERVE, 2, "the server's `follow.token_file` `none.token` cannot be read: No such file or directory"),
        case("file that holds no token for a leader", |w| setting(w, "address = \"127.0.0.1:0\"\nfollow = { leader = \"http://127.0.0.1:1\", token_file = \"train.jsonl\" }"), SERVE, 2, "the server's `follow.token_file` `train.jsonl` does not hold a token"),
        case("authority of a leader without a certificate", |w| setting(w, "address = \"127.0.0.1:0\"\nfollow = { leader = \"https://leader\", authority = \"train.jsonl\" }"), SERVE, 2, "`train.jsonl` cannot be used: it holds no certificate in PEM"),
        case("unknown role", |_| {}, CREATE, 2, "unknown role `buy`; the roles are ask, delete, audit, operate, follow"),
        case("unknown token", |_| {}, REVOKE, 3, "no token `0123456789ab` in `store.server/tokens.json`; `s3t token list` shows the ids"),
        case("file that holds no tokens", |w| {
            setting(w, "tokens = \"train.jsonl\"");
        }, TOKENS, 2, "`train.jsonl` cannot be used: "),
        case("server that others reach, without tokens", trained, SERVE, 2, "can be reached from other machines, but there is no token in `store.server/tokens.json`: make one with `s3t token create`, or listen on 127.0.0.1"),
    ]
}
