//! `s3t serve` and `s3t token`: arguments for the server, and its errors as exit codes.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use s3t::core::wording::counted;
use s3t::engine::{GenerationSettings, OnDeletion, Pipeline};
use s3t_server::{FollowSettings, NewToken, Role, Server, ServerSettings, TlsSettings, Token, TokenFile};

use crate::exit::{Failure, Outcome};
use crate::output::{Output, say, table};

#[derive(Args)]
pub(crate) struct ServeArgs {
    /// The pipeline file. Its section `[server]` has the same settings; options and variables come before it.
    pipeline: PathBuf,
    /// The address and port of answers, and of everything else without --private-address.
    #[arg(long, env = "S3T_SERVER_ADDRESS")]
    address: Option<String>,
    /// The address and port of deletions, proofs and the page, apart from answers.
    #[arg(long, env = "S3T_SERVER_PRIVATE_ADDRESS")]
    private_address: Option<String>,
    /// The address and port of health and figures alone, without encryption.
    #[arg(long, env = "S3T_SERVER_HEALTH_ADDRESS")]
    health_address: Option<String>,
    /// The file of tokens; `STORE.server/tokens.json` otherwise.
    #[arg(long, env = "S3T_SERVER_TOKENS")]
    tokens: Option<PathBuf>,
    /// The folder of the server's own database; `STORE.server` otherwise.
    #[arg(long, env = "S3T_SERVER_DATA")]
    data: Option<PathBuf>,
    /// The most records that wait for an answer.
    #[arg(long, env = "S3T_SERVER_QUEUE_RECORDS")]
    queue_records: Option<usize>,
    /// The most records that are answered together.
    #[arg(long, env = "S3T_SERVER_BATCH_RECORDS")]
    batch_records: Option<usize>,
    /// The most records of a request.
    #[arg(long, env = "S3T_SERVER_REQUEST_RECORDS")]
    request_records: Option<usize>,
    /// The most milliseconds from a request to its answer.
    #[arg(long, env = "S3T_SERVER_DEADLINE_MS")]
    deadline_ms: Option<u64>,
    /// The most seconds from a request to the end of its texts.
    #[arg(long, env = "S3T_SERVER_GENERATION_SECONDS")]
    generation_seconds: Option<f64>,
    /// The largest body of a request in bytes.
    #[arg(long, env = "S3T_SERVER_BODY_BYTES")]
    body_bytes: Option<usize>,
    /// The most open connections of each port.
    #[arg(long, env = "S3T_SERVER_CONNECTIONS")]
    connections: Option<usize>,
    /// The most seconds in which the head of a request has to arrive, and its body after that.
    #[arg(long, env = "S3T_SERVER_READ_SECONDS")]
    read_seconds: Option<f64>,
    /// The seconds between the signal to stop and the end of new connections.
    #[arg(long, env = "S3T_SERVER_STOP_DELAY_SECONDS")]
    stop_delay_seconds: Option<f64>,
    /// The most seconds for requests that are under way when the server stops.
    #[arg(long, env = "S3T_SERVER_DRAIN_SECONDS")]
    drain_seconds: Option<f64>,
    /// The minutes for which deletions with a due time are collected; 0 does each at once.
    #[arg(long, env = "S3T_SERVER_BATCH_MINUTES")]
    batch_minutes: Option<u64>,
    /// The requests that a shard is to survive at worst: a deletion that would leave fewer waits for a repair, an operator or its due time.
    #[arg(long, env = "S3T_SERVER_MIN_BUDGET")]
    min_budget: Option<usize>,
    /// Repair in the background whenever a stage is missing, or by the thresholds below.
    #[arg(long, env = "S3T_SERVER_REPAIR")]
    repair: bool,
    /// Repair in the background when shards serve with less than this share of the planned depth.
    #[arg(long, env = "S3T_SERVER_REPAIR_BELOW_DEPTH")]
    repair_below_depth: Option<f64>,
    /// Repair in the background when a shard could be killed with fewer requests than this.
    #[arg(long, env = "S3T_SERVER_REPAIR_BELOW_BUDGET")]
    repair_below_budget: Option<usize>,
    /// The most minutes of repair in an hour; 60 sets no limit.
    #[arg(long, env = "S3T_SERVER_REPAIR_MINUTES_PER_HOUR")]
    repair_minutes_per_hour: Option<u64>,
    /// The seconds for which a follower may answer after it was last in touch; 0 takes no followers.
    #[arg(long, env = "S3T_SERVER_LEASE_SECONDS")]
    lease_seconds: Option<f64>,
    /// Follow the server at this address: answer with its stages, without a store. The token with the role follow is in
    /// --follow-token-file or in the variable `S3T_SERVER_FOLLOW_TOKEN`.
    #[arg(long, env = "S3T_SERVER_FOLLOW", value_name = "URL")]
    follow: Option<String>,
    /// The file of the token for the leader.
    #[arg(long, env = "S3T_SERVER_FOLLOW_TOKEN_FILE")]
    follow_token_file: Option<PathBuf>,
    /// The certificates of the authority that signs the leader's, in PEM; the system's authorities otherwise.
    #[arg(long, env = "S3T_SERVER_FOLLOW_AUTHORITY")]
    follow_authority: Option<PathBuf>,
    /// The follower's own certificate, in PEM, for a leader that demands one.
    #[arg(long, env = "S3T_SERVER_FOLLOW_CERTIFICATE", requires = "follow_key")]
    follow_certificate: Option<PathBuf>,
    /// The private key of the follower's own certificate, in PEM.
    #[arg(long, env = "S3T_SERVER_FOLLOW_KEY", requires = "follow_certificate")]
    follow_key: Option<PathBuf>,
    /// The certificate of TLS, in PEM, with the ones that lead to its root.
    #[arg(long, env = "S3T_SERVER_TLS_CERTIFICATE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The private key of the certificate, in PEM.
    #[arg(long, env = "S3T_SERVER_TLS_KEY", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// The certificates of the authorities that sign clients' certificates; with it every client has to have one.
    #[arg(long, env = "S3T_SERVER_TLS_CLIENT_AUTHORITY", requires = "tls_certificate")]
    tls_client_authority: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token. It is shown once and stored nowhere; the file holds its hash.
    #[command(after_help = "\
Examples:
  s3t token create pipeline.toml --name shop --role ask --requests-per-second 200
  s3t token create pipeline.toml --name privacy-desk --role delete --role audit
  s3t token create pipeline.toml --name me --role operate --role ask
  s3t token create pipeline.toml --name replica-2 --role follow")]
    Create {
        #[command(flatten)]
        file: TokensArg,
        /// A name to recognise it by.
        #[arg(long)]
        name: String,
        /// A right: ask, delete, audit, operate or follow; may be given several times.
        #[arg(long, required = true)]
        role: Vec<Role>,
        /// The most requests a second.
        #[arg(long)]
        requests_per_second: Option<u32>,
    },
    /// List the tokens, without their secrets.
    List(TokensArg),
    /// Revoke a token. Running servers refuse it within a few seconds.
    Revoke {
        #[command(flatten)]
        file: TokensArg,
        /// The token's id, as `s3t token list` shows it.
        id: String,
    },
}

#[derive(Args)]
pub(crate) struct TokensArg {
    /// The pipeline file.
    pipeline: PathBuf,
    /// The file of tokens, in place of the pipeline's.
    #[arg(long, env = "S3T_SERVER_TOKENS")]
    tokens: Option<PathBuf>,
}

pub(crate) fn serve(args: ServeArgs, output: &mut Output) -> Outcome {
    let pipeline = Pipeline::read(&args.pipeline)?;
    let settings = args.into_settings(ServerSettings::of_pipeline(&pipeline)?);
    // A follower has no store.
    let leader = settings.follow.as_ref().map(|follow| follow.leader.clone());
    let pipeline = if leader.is_some() { pipeline } else { pipeline.with_store()? };
    let started = |server: &Server| {
        let (address, private) = (server.address().to_string(), server.private_address().to_string());
        let texts = server.generation();
        let mut answer = match &leader {
            Some(leader) => serde_json::json!({ "address": address, "leader": leader }),
            None => serde_json::json!({ "address": address, "private_address": private }),
        };
        if let Some(texts) = texts {
            answer["generation"] = serde_json::json!(texts);
        }
        output.answer(&answer, || {
            match &leader {
                Some(leader) => say!("answers on {address}; follows {leader}"),
                None => say!("answers on {address}; deletions, proofs and the page on {private}"),
            }
            if let Some(texts) = texts {
                say!("{}", limits_of_texts(texts));
            }
        });
    };
    s3t_server::serve(pipeline, settings, started)?;
    Ok(0)
}

/// The limits of texts in words.
fn limits_of_texts(texts: GenerationSettings) -> String {
    let GenerationSettings { max_texts, max_waiting, cache_mb, on_deletion } = texts;
    let then = match on_deletion {
        OnDeletion::Stop => "ends the texts that it hits",
        OnDeletion::Continue => "lets the texts that it hits go on with what lives",
    };
    let texts = counted(max_texts, "text");
    format!(
        "continues {texts} at a time, {max_waiting} more may wait; {cache_mb} MB of keys and values; a deletion {then}"
    )
}

impl ServeArgs {
    /// The settings, with what was given here in place of the pipeline's.
    fn into_settings(self, mut settings: ServerSettings) -> ServerSettings {
        let Self {
            address, queue_records, batch_records, request_records, deadline_ms, body_bytes, connections, ..
        } = self;
        let tls = self.tls_certificate.zip(self.tls_key);
        let tls =
            tls.map(|(certificate, key)| TlsSettings { certificate, key, client_authority: self.tls_client_authority });
        set(&mut settings.address, address);
        set(&mut settings.queue_records, queue_records);
        set(&mut settings.batch_records, batch_records);
        set(&mut settings.request_records, request_records);
        set(&mut settings.deadline_ms, deadline_ms);
        set(&mut settings.generation_seconds, self.generation_seconds);
        set(&mut settings.body_bytes, body_bytes);
        set(&mut settings.connections, connections);
        set(&mut settings.read_seconds, self.read_seconds);
        set(&mut settings.stop_delay_seconds, self.stop_delay_seconds);
        set(&mut settings.drain_seconds, self.drain_seconds);
        set(&mut settings.batch_minutes, self.batch_minutes);
        settings.min_budget = self.min_budget.or(settings.min_budget);
        let thresholds = self.repair_below_depth.is_some() || self.repair_below_budget.is_some();
        if self.repair || thresholds || self.repair_minutes_per_hour.is_some() {
            let repair = settings.repair.get_or_insert_default();
            repair.below_depth = self.repair_below_depth.or(repair.below_depth);
            repair.below_budget = self.repair_below_budget.or(repair.below_budget);
            set(&mut repair.minutes_per_hour, self.repair_minutes_per_hour);
        }
        set(&mut settings.lease_seconds, self.lease_seconds);
        let follow = self.follow.map(FollowSettings::of);
        if let Some(leader) = follow {
            // The address alone is another leader, not another token.
            match &mut settings.follow {
                Some(known) => known.leader = leader.leader,
                None => settings.follow = Some(leader),
            }
        }
        if let Some(follow) = &mut settings.follow {
            follow.token_file = self.follow_token_file.or(follow.token_file.take());
            follow.authority = self.follow_authority.or(follow.authority.take());
            follow.certificate = self.follow_certificate.or(follow.certificate.take());
            follow.key = self.follow_key.or(follow.key.take());
        }
        settings.private_address = self.private_address.or(settings.private_address);
        settings.health_address = self.health_address.or(settings.health_address);
        settings.tokens = self.tokens.or(settings.tokens);
        settings.data = self.data.or(settings.data);
        settings.tls = tls.or(settings.tls);
        settings
    }
}

fn set<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

pub(crate) fn token(command: TokenCommand, output: &mut Output) -> Outcome {
    match command {
        TokenCommand::Create { file, name, role, requests_per_second } => {
            let roles: BTreeSet<Role> = role.into_iter().collect();
            let (token, secret) = file.open()?.create(NewToken { name, roles, requests_per_second })?;
            output.answer(&serde_json::json!({ "id": token.id, "token": secret }), || {
                say!("{secret}");
                say!("This is the only time that the token is shown. Its id is {}.", token.id);
            });
        }
        TokenCommand::List(file) => {
            let tokens = file.open()?.tokens()?;
            let json: Vec<_> = tokens.iter().map(shown).collect();
            output.answer(&serde_json::json!({ "tokens": json }), || {
                let row = |token: &Token| {
                    let rate = token.requests_per_second.map(|rate| format!("{rate}/s")).unwrap_or_default();
                    vec![token.id.clone(), token.name.clone(), roles(token), rate, token.made.clone()]
                };
                table(&["id", "name", "roles", "rate", "made"], tokens.iter().map(row).collect(), 5);
            });
        }
        TokenCommand::Revoke { file, id } => {
            let token = file.open()?.revoke(&id)?;
            output.answer(&serde_json::json!({ "revoked": shown(&token) }), || {
                say!("{} ({}) is revoked", token.id, token.name);
            });
        }
    }
    Ok(0)
}

fn roles(token: &Token) -> String {
    token.roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(" ")
}

fn shown(token: &Token) -> serde_json::Value {
    serde_json::json!({
        "id": token.id,
        "name": token.name,
        "roles": token.roles,
        "requests_per_second": token.requests_per_second,
        "made": token.made,
    })
}

impl TokensArg {
    fn open(&self) -> Result<TokenFile, Failure> {
        if let Some(path) = &self.tokens {
            return Ok(TokenFile::new(path));
        }
        // Tokens may be made before there is a store.
        let pipeline = Pipeline::read(&self.pipeline)?;
        Ok(TokenFile::new(ServerSettings::of_pipeline(&pipeline)?.token_file(&pipeline.store)))
    }
}
