//! Texts that are continued for callers: admission, the thread that continues them, and the news of each.
//!
//! # Proof note
//!
//! *Before*: a caller hands in prompts. *After*: each text has its news in order, ending with the reason and the epochs, and a caller who
//! is gone holds no memory. *Why*: the generator looks at the catalogue before each token (see `s3t_engine::Generator`); whoever listens
//! holds the receiving end, and the generator takes a text out before the next token once that is dropped.
//!
//! *Fairness*: as in the `queue` module, a caller may have as many texts as are free, so a caller alone fills half of the places.

mod figures;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use s3t_engine::{EngineError, Finished, Generator, Listener, ServesModels};
use s3t_engine::{FinishReason, GenerationSettings};
use s3t_generate::{NewToken, Prompt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::metrics::Metrics;
use crate::refusal::{Kind, Refusal};
use figures::Figures;

/// The time between two attempts to begin while no models answer.
const LOOK: Duration = Duration::from_millis(200);

/// The texts of a server.
pub(crate) struct Generation {
    source: Arc<dyn ServesModels>,
    settings: GenerationSettings,
    /// Empty until models answer for the first time.
    generator: OnceLock<Generator>,
    /// The reason why it is empty.
    problem: Mutex<Option<EngineError>>,
    texts: Arc<Mutex<Texts>>,
    figures: Arc<Figures>,
}

/// The texts that are there, of each caller and of all.
#[derive(Default)]
struct Texts {
    of_caller: HashMap<Arc<str>, usize>,
    all: usize,
}

/// News of a text.
#[derive(Debug)]
pub(crate) enum News {
    /// The tokens of the prompt with their log-probabilities, if these were asked for.
    Prompt(Vec<NewToken>),
    /// A token.
    Token(NewToken),
    /// The end.
    End(Finished),
}

impl Generation {
    pub(crate) fn new(source: Arc<dyn ServesModels>, metrics: &Metrics) -> Self {
        let settings = source.pipeline().serving.generation;
        let (generator, problem, texts) = (OnceLock::new(), Mutex::default(), Arc::default());
        let generation = Self { source, settings, generator, problem, texts, figures: Arc::new(Figures::new(metrics)) };
        generation.begin();
        generation
    }

    pub(crate) fn settings(&self) -> GenerationSettings {
        self.settings
    }

    /// Makes the generator, if models answer.
    fn begin(&self) -> Option<&Generator> {
        if self.generator.get().is_none() {
            match Generator::new(Arc::clone(&self.source)) {
                Ok(generator) => drop(self.generator.set(generator)),
                Err(error) => *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(error),
            }
        }
        self.generator.get()
    }

    /// Continues texts until it is closed or `is_over` says so.
    pub(crate) fn work(&self, is_over: impl Fn() -> bool) {
        while !is_over() {
            let Some(generator) = self.begin() else {
                std::thread::sleep(LOOK);
                continue;
            };
            // A text at which it panics is lost with those beside it: their callers are told. The next ones are continued.
            if catch_unwind(AssertUnwindSafe(|| generator.run())).is_ok() {
                return;
            }
        }
    }

    /// Ends the texts that are there, and takes no more.
    pub(crate) fn close(&self) {
        if let Some(generator) = self.generator.get() {
            generator.close();
        }
    }

    fn generator(&self) -> Result<&Generator, Refusal> {
        // A follower may have caught up since the thread looked.
        self.begin().ok_or_else(|| {
            let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
            match &*problem {
                Some(EngineError::Generate(error)) => Refusal::new(Kind::Unprocessable, error.to_string()),
                Some(error) => Refusal { retry_after: Some(1), ..Refusal::new(Kind::Unavailable, error.to_string()) },
                None => Refusal::new(Kind::Unavailable, "no models answer yet"),
            }
        })
    }

    /// Refuses a caller who has no room for one text more. Asked before a request is read, so that refusing it costs little.
    pub(crate) fn check_room(&self, caller: &Arc<str>) -> Result<(), Refusal> {
        self.room(&self.texts(), caller, 1)
    }

    fn texts(&self) -> MutexGuard<'_, Texts> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn room(&self, texts: &Texts, caller: &Arc<str>, number: usize) -> Result<(), Refusal> {
        let places = self.settings.max_texts + self.settings.max_waiting;
        let own = texts.of_caller.get(caller).copied().unwrap_or_default();
        if has_room(places, texts.all, own, number) {
            return Ok(());
        }
        if !has_room(places, 0, 0, number) {
            let message =
                format!("the request asks for {number} texts, and a caller has at most {} at a time", places / 2);
            return Err(Refusal::new(Kind::TooLarge, message));
        }
        self.figures.refused();
        let message = format!("{} texts are being continued or wait, {own} of them of this caller", texts.all);
        Err(Refusal::overloaded(message, 1))
    }

    /// Hands prompts in: the news of each. Dropping these ends the texts.
    pub(crate) fn submit(
        &self,
        caller: &Arc<str>,
        prompts: Vec<Prompt>,
    ) -> Result<Vec<UnboundedReceiver<News>>, Refusal> {
        let generator = self.generator()?;
        for prompt in &prompts {
            generator.check(prompt).map_err(refused)?;
        }
        {
            let mut texts = self.texts();
            self.room(&texts, caller, prompts.len())?;
            texts.all += prompts.len();
            *texts.of_caller.entry(Arc::clone(caller)).or_default() += prompts.len();
        }
        // Before any is handed in, so that the places of all are given back whatever happens.
        let ears: Vec<(Box<Ear>, UnboundedReceiver<News>)> = prompts.iter().map(|_| self.ear(caller)).collect();
        let mut heard = Vec::with_capacity(prompts.len());
        for (prompt, (ear, news)) in prompts.into_iter().zip(ears) {
            self.figures.prompt(prompt.ids.len());
            generator.submit(prompt, ear).map_err(refused)?;
            heard.push(news);
        }
        Ok(heard)
    }

    fn ear(&self, caller: &Arc<str>) -> (Box<Ear>, UnboundedReceiver<News>) {
        let (news, heard) = unbounded_channel();
        let place = Place { texts: Arc::clone(&self.texts), caller: Arc::clone(caller) };
        let ear =
            Ear { news, figures: Arc::clone(&self.figures), asked: Instant::now(), is_first: true, _place: place };
        (Box::new(ear), heard)
    }

    /// Brings the figures up to date.
    pub(crate) fn look(&self) {
        if let Some(generator) = self.generator.get() {
            self.figures.set(&generator.figures());
        }
    }
}

/// `true` if a caller who has `own` of `all` texts may have so many more: no more than are free then.
fn has_room(places: usize, all: usize, own: usize, number: usize) -> bool {
    own + number <= places.saturating_sub(all + number)
}

/// The refusal of a prompt that cannot be continued, or not now.
fn refused(error: EngineError) -> Refusal {
    match error {
        EngineError::Busy { .. } => Refusal::overloaded(error.to_string(), 1),
        EngineError::Generate(error) => Refusal::invalid(error.to_string()),
        error => error.into(),
    }
}

/// The place of a text, given back when it is dropped.
struct Place {
    texts: Arc<Mutex<Texts>>,
    caller: Arc<str>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        texts.all -= 1;
        if let Some(own) = texts.of_caller.get_mut(&self.caller) {
            *own -= 1;
            if *own == 0 {
                texts.of_caller.remove(&self.caller);
            }
        }
    }
}

/// Hands news on to whoever asked. As many tokens wait there as were asked for, at most.
struct Ear {
    news: UnboundedSender<News>,
    figures: Arc<Figures>,
    asked: Instant,
    is_first: bool,
    _place: Place,
}

impl Listener for Ear {
    fn is_there(&self) -> bool {
        !self.news.is_closed()
    }

    fn prompt(&mut self, tokens: Vec<NewToken>) {
        let _ = self.news.send(News::Prompt(tokens));
    }

    fn token(&mut self, token: NewToken) {
        if std::mem::take(&mut self.is_first) {
            self.figures.first_token(self.asked.elapsed());
        }
        let _ = self.news.send(News::Token(token));
    }

    fn end(&mut self, finished: Finished) {
        self.figures.end(&finished);
        let _ = self.news.send(News::End(finished));
    }
}

/// The name of a reason as clients read it; `None` for a text that has failed.
pub(crate) fn reason_name(reason: &FinishReason) -> Option<&'static str> {
    match reason {
        FinishReason::Stop => Some("stop"),
        FinishReason::Length => Some("length"),
        FinishReason::Deletion => Some("deletion"),
        FinishReason::Cancelled | FinishReason::Failed(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_alone_fills_half_and_leaves_room_for_the_next() {
        assert!(has_room(6, 0, 0, 3) && !has_room(6, 0, 0, 4));
        assert!(has_room(6, 2, 2, 1) && !has_room(6, 3, 3, 1), "half are its own");
        assert!(has_room(6, 3, 0, 1) && !has_room(6, 3, 0, 2), "what the next finds");
        assert!(!has_room(6, 6, 0, 1) && !has_room(1, 0, 0, 1));
    }
}
