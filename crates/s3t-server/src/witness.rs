//! Witnesses of the ledger (C2SP tlog-witness): each is shown every published checkpoint with a proof that it continues the last one that
//! the witness has signed, and its cosignature is served beside the log's own signature.
//!
//! A witness that is down delays nothing but its own cosignature.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use s3t_ledger::WitnessKey;

use crate::ServerError;
use crate::service::Service;
use crate::settings::WitnessSettings;

/// The longest time for which a witness is waited for.
const TIME: Duration = Duration::from_secs(10);

/// The time between two looks at whether a checkpoint is new, and between attempts at a witness that fails.
const LOOK: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_secs(300);

/// The largest answer of a witness that is read, in bytes.
const MAX_ANSWER: u64 = 16 * 1024;

/// The witnesses of a server.
pub(crate) struct Witnesses {
    agent: ureq::Agent,
    list: Vec<Witness>,
    /// The cosignature lines of the newest checkpoint that each witness has signed, by the place of the witness.
    signed: Mutex<BTreeMap<usize, Signed>>,
}

struct Witness {
    url: String,
    key: WitnessKey,
}

#[derive(Clone)]
struct Signed {
    checkpoint: String,
    line: String,
}

/// The state of a witness between looks.
#[derive(Default)]
pub(crate) struct Attempts {
    /// The size that the witness has signed, as far as is known; `None` before it was asked.
    size: Option<u64>,
    wait: Duration,
    not_before: Option<Instant>,
}

/// The answer of a witness.
enum Answer {
    /// Its signature lines.
    Signed(String),
    /// It has signed a tree of another size.
    OtherSize(u64),
}

impl Witnesses {
    pub(crate) fn new(settings: &[WitnessSettings]) -> Result<Self, ServerError> {
        let witness = |settings: &WitnessSettings| {
            let key = settings.key.parse::<WitnessKey>();
            let key = key.map_err(|error| ServerError::Setting { key: "witnesses.key", problem: error.to_string() })?;
            Ok(Witness { url: format!("{}/add-checkpoint", settings.url.trim_end_matches('/')), key })
        };
        let config = ureq::Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_global(Some(TIME))
            .proxy(None)
            .build();
        let witnesses = settings.iter().map(witness).collect::<Result<_, ServerError>>()?;
        Ok(Self { agent: config.into(), list: witnesses, signed: Mutex::default() })
    }

    /// `true` if there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The cosignature lines of a checkpoint, as far as they are there.
    pub(crate) fn lines(&self, checkpoint: &str) -> String {
        let signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        let of_this = signed.values().filter(|signed| signed.checkpoint == checkpoint);
        of_this.map(|signed| format!("{}\n", signed.line)).collect()
    }

    /// Shows new checkpoints to the witnesses until `is_over`.
    pub(crate) fn work(&self, service: &Service, is_over: impl Fn() -> bool) {
        let mut attempts: Vec<Attempts> = self.list.iter().map(|_| Attempts::default()).collect();
        while !is_over() {
            self.look(service, &mut attempts);
            std::thread::sleep(LOOK);
        }
    }

    fn look(&self, service: &Service, attempts: &mut [Attempts]) {
        let published = service.checkpoint().unwrap_or_else(|error| {
            tracing::warn!(target: "s3t::witness", "{error}");
            None
        });
        let Some((checkpoint, size)) = published else { return };
        for (place, (witness, attempt)) in self.list.iter().zip(attempts).enumerate() {
            let is_signed = {
                let signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
                signed.get(&place).is_some_and(|signed| signed.checkpoint == checkpoint)
            };
            if is_signed || attempt.not_before.is_some_and(|at| Instant::now() < at) {
                continue;
            }
            match self.show(service, witness, attempt, &checkpoint, size) {
                Ok(line) => {
                    (attempt.size, attempt.wait, attempt.not_before) = (Some(size), Duration::ZERO, None);
                    let signed = Signed { checkpoint: checkpoint.clone(), line };
                    self.signed.lock().unwrap_or_else(PoisonError::into_inner).insert(place, signed);
                }
                Err(problem) => {
                    attempt.wait = (2 * attempt.wait).clamp(LOOK, MAX_WAIT);
                    attempt.not_before = Some(Instant::now() + attempt.wait);
                    tracing::warn!(target: "s3t::witness", witness = witness.key.name(), "no cosignature: {problem}");
                }
            }
        }
    }

    /// Shows a checkpoint to a witness: its checked cosignature line.
    fn show(
        &self,
        service: &Service,
        witness: &Witness,
        attempt: &mut Attempts,
        checkpoint: &str,
        size: u64,
    ) -> Result<String, String> {
        // A server that has just started does not know what its predecessor has shown; the witness says.
        for _ in 0..2 {
            let old = attempt.size.unwrap_or(0);
            match self.ask(service, witness, old, checkpoint, size)? {
                Answer::Signed(lines) => {
                    let (line, _) = witness.key.check(checkpoint, &lines).map_err(|error| error.to_string())?;
                    return Ok(line.to_owned());
                }
                Answer::OtherSize(other) if other <= size && attempt.size != Some(other) => attempt.size = Some(other),
                Answer::OtherSize(other) => {
                    return Err(format!(
                        "it has signed {other} entries, and the ledger has {size}: was the store rolled back?"
                    ));
                }
            }
        }
        Err("it names another size every time".to_owned())
    }

    fn ask(
        &self,
        service: &Service,
        witness: &Witness,
        old: u64,
        checkpoint: &str,
        size: u64,
    ) -> Result<Answer, String> {
        let proof = service.consistency_proof(old, size).map_err(|error| error.to_string())?;
        let mut body = format!("old {old}\n");
        for hash in &proof {
            let _ = writeln!(body, "{}", STANDARD.encode(hash.as_bytes()));
        }
        body.push('\n');
        body.push_str(checkpoint);
        let sent = self.agent.post(&witness.url).send(body.as_bytes());
        let mut response = sent.map_err(|error| format!("cannot reach it: {error}"))?;
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(MAX_ANSWER).read_to_string();
        let text = text.map_err(|error| format!("cannot read its answer: {error}"))?;
        match status {
            200 => Ok(Answer::Signed(text)),
            409 => match text.trim().parse() {
                Ok(other) => Ok(Answer::OtherSize(other)),
                Err(_) => Err("it answered 409 without a size".to_owned()),
            },
            403 => Err("it does not trust the ledger's key (403)".to_owned()),
            404 => Err("it does not know this ledger (404)".to_owned()),
            422 => Err("it does not accept the proof (422)".to_owned()),
            other => Err(format!("it answered {other}")),
        }
    }
}
