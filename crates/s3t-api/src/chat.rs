//! `chat`: a conversation with a language model.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use s3t_engine::{EngineError, FinishReason, Finished, Generator, Listener, ServesModels, System};
use s3t_generate::{NewToken, Prompt, Sampling};
use s3t_models::{Message, Role};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::open::to_read;
use crate::receipt::ShardServes;
use crate::reply::plain_answers;
use crate::{ApiError, ErrorKind};

/// The request to talk to a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChatRequest {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// The system prompt: what stands before the first message.
    #[serde(default)]
    pub system: Option<String>,
    /// The choice of tokens. Each turn has the next seed.
    #[serde(default)]
    pub sampling: Sampling,
}

/// A turn: a question, and the model's message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChatTurn {
    /// The question.
    pub user: String,
    /// The model's message.
    pub assistant: String,
    /// The reason of its end: `stop`, `length` or `deletion`.
    pub finish_reason: String,
    /// The tokens of the conversation up to the question.
    pub prompt_tokens: usize,
    /// The tokens of the message.
    pub new_tokens: usize,
    /// The number of deletions that the first token knows of.
    pub first_epoch: u64,
    /// The number of deletions that the last token knows of.
    pub epoch: u64,
    /// Each shard that the last token came from, with the last of its stages.
    pub stages: Vec<ShardServes>,
}

/// The answer to `chat`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChatAnswer {
    /// The turns.
    pub turns: Vec<ChatTurn>,
}

plain_answers!(ChatAnswer);

/// A conversation. Deletions by other processes count from the next token on.
pub struct Chat {
    system: Arc<System>,
    generator: Arc<Generator>,
    thread: Option<JoinHandle<()>>,
    first: Vec<Message>,
    messages: Vec<Message>,
    sampling: Sampling,
    turns: u64,
}

impl Chat {
    /// Opens the system of a request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NothingServes`] if no shard can answer; [`ErrorKind::Refused`] for a model without a chat template, or for a setting
    /// out of its range.
    pub fn open(request: ChatRequest) -> Result<Self, ApiError> {
        let system = Arc::new(to_read(&request.pipeline)?);
        system.backbone().chat_template().map_err(EngineError::from)?;
        request.sampling.check().map_err(EngineError::from)?;
        let generator = Arc::new(Generator::new(Arc::clone(&system) as Arc<dyn ServesModels>)?);
        let first: Vec<Message> =
            request.system.into_iter().map(|content| Message { role: Role::System, content }).collect();
        let of_thread = Arc::clone(&generator);
        let thread = std::thread::Builder::new().name("generate".into()).spawn(move || of_thread.run());
        let failed =
            |error: std::io::Error| ApiError::new(ErrorKind::Failed, format!("cannot start a thread: {error}"));
        let thread = Some(thread.map_err(failed)?);
        let (messages, sampling) = (first.clone(), request.sampling);
        Ok(Self { system, generator, thread, first, messages, sampling, turns: 0 })
    }

    /// Forgets all messages but the system prompt.
    pub fn begin_again(&mut self) {
        self.messages.clone_from(&self.first);
    }

    /// Says something, and gives the model's words to `on_text` as they come. A message that is refused leaves the conversation as it was.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] for a conversation that has become too long for the model; [`ErrorKind::NothingServes`] if no shard can
    /// answer any more.
    pub fn say(&mut self, user: &str, on_text: &mut dyn FnMut(&str)) -> Result<ChatTurn, ApiError> {
        self.messages.push(Message { role: Role::User, content: user.to_owned() });
        let turn = self.turn(user, on_text);
        match &turn {
            Ok(turn) => {
                let content = turn.assistant.clone();
                self.messages.push(Message { role: Role::Assistant, content });
                self.turns += 1;
            }
            Err(_) => drop(self.messages.pop()),
        }
        turn
    }

    fn turn(&self, user: &str, on_text: &mut dyn FnMut(&str)) -> Result<ChatTurn, ApiError> {
        let ids = self.system.backbone().encode_chat(&self.messages).map_err(EngineError::from)?;
        let seed = self.sampling.seed.wrapping_add(self.turns);
        let sampling = Sampling { seed, ..self.sampling.clone() };
        let (said, heard) = channel();
        self.generator.submit(Prompt { ids, sampling }, Box::new(Ear(said)))?;
        let (assistant, finished) = listen(&heard, on_text)?;
        let finish_reason = match finished.reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Deletion => "deletion",
            FinishReason::Cancelled => {
                return Err(ApiError::new(ErrorKind::Interrupted, "the conversation was closed"));
            }
            FinishReason::Failed(problem) => return Err(ApiError::new(ErrorKind::NothingServes, problem)),
        };
        Ok(ChatTurn {
            user: user.to_owned(),
            assistant,
            finish_reason: finish_reason.to_owned(),
            prompt_tokens: finished.prompt_tokens,
            new_tokens: finished.new_tokens,
            first_epoch: finished.began.0,
            epoch: finished.epoch.0,
            stages: finished.stages.iter().cloned().map(ShardServes::from).collect(),
        })
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        self.generator.close();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was told where it happened.
            drop(thread.join());
        }
    }
}

enum News {
    Text(String),
    End(Box<Finished>),
}

struct Ear(Sender<News>);

impl Listener for Ear {
    fn is_there(&self) -> bool {
        true
    }

    fn token(&mut self, token: NewToken) {
        // Whoever listened has gone.
        let _ = self.0.send(News::Text(token.text));
    }

    fn end(&mut self, finished: Finished) {
        let _ = self.0.send(News::End(Box::new(finished)));
    }
}

/// The text until its end.
fn listen(heard: &Receiver<News>, on_text: &mut dyn FnMut(&str)) -> Result<(String, Finished), ApiError> {
    let mut all = String::new();
    let mut hear = |text: &str| {
        all.push_str(text);
        on_text(text);
    };
    loop {
        match heard.recv() {
            Ok(News::Text(text)) => hear(&text),
            Ok(News::End(finished)) => {
                hear(&finished.text);
                return Ok((all, *finished));
            }
            Err(_) => return Err(ApiError::new(ErrorKind::Failed, "the thread that continues texts has ended")),
        }
    }
}
