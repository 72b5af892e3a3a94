//! Texts as they are written: whole, or as server-sent events.

use std::convert::Infallible;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Json, Response};
use futures_util::stream;
use s3t_engine::{FinishReason, Finished};
use s3t_generate::NewToken;
use serde::Serialize;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use crate::answers::Answers;
use crate::generation::{News, reason_name};
use crate::openai::{
    Asked, ChatAnswer, ChatChoice, ChatScores, Choice, Completion, CompletionChoice, CompletionScores, Delta, Form,
    Head, OpenAiError, Origin, Score, Usage,
};
use crate::random::random_name;
use crate::refusal::{Kind, Refusal};

/// The texts of a request, from their first news on.
pub(crate) struct Writing {
    app: Answers,
    head: Head,
    asked: Asked,
    heard: Vec<Option<UnboundedReceiver<News>>>,
    /// The first news, which came before it was decided how to answer.
    first: Option<(usize, News)>,
    /// The characters of each text so far.
    written: Vec<usize>,
    /// Texts whose last token ends a text, and was told.
    stopped: Vec<usize>,
    usage: Usage,
    origins: Vec<Origin>,
    until: Instant,
    /// The text whose news are looked at first the next time.
    turn: usize,
}

/// The place of a stream.
enum Part {
    /// Each message begins with its role.
    Roles,
    Texts,
    Usage,
    Done,
    Over,
}

impl Writing {
    /// Waits for the first news: what fails before is refused with its status.
    pub(crate) async fn begin(
        app: &Answers,
        asked: Asked,
        heard: Vec<UnboundedReceiver<News>>,
    ) -> Result<Self, Refusal> {
        let (prefix, object) = match (asked.form, asked.stream.is_some()) {
            (Form::Completion, _) => ("cmpl", "text_completion"),
            (Form::Chat, false) => ("chatcmpl", "chat.completion"),
            (Form::Chat, true) => ("chatcmpl", "chat.completion.chunk"),
        };
        let id = format!("{prefix}-{}", random_name::<12>()?);
        let created = crate::clock::now_ms() / 1000;
        let number = heard.len();
        let mut writing = Self {
            head: Head { id, object, created, model: app.model.name() },
            app: app.clone(),
            heard: heard.into_iter().map(Some).collect(),
            asked,
            first: None,
            written: vec![0; number],
            stopped: Vec::new(),
            usage: Usage::default(),
            origins: Vec::new(),
            until: Instant::now() + app.settings.generation_time(),
            turn: 0,
        };
        let deadline = app.settings.deadline();
        let first = tokio::time::timeout(deadline, writing.next()).await;
        let late = |_| Refusal::new(Kind::Deadline, format!("no token within {} ms", deadline.as_millis()));
        let first = first.map_err(late)??;
        if let Some((_, News::End(finished))) = &first
            && finished.new_tokens == 0
        {
            writing.check(finished)?;
        }
        writing.first = first;
        Ok(writing)
    }

    /// The next news, and the place of its prompt; `None` when all texts have ended.
    async fn next(&mut self) -> Result<Option<(usize, News)>, Refusal> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let (heard, turn) = (&mut self.heard, &mut self.turn);
        let next = poll_fn(|context| {
            let mut waits = false;
            for step in 0..heard.len() {
                let index = (*turn + step) % heard.len();
                let Some(news) = &mut heard[index] else { continue };
                match news.poll_recv(context) {
                    Poll::Ready(news) => {
                        *turn = index + 1;
                        if !matches!(news, Some(News::Prompt(_) | News::Token(_))) {
                            heard[index] = None;
                        }
                        let lost = || Refusal::new(Kind::Failed, "the text was lost; the log says why");
                        return Poll::Ready(news.map(|news| Some((index, news))).ok_or_else(lost));
                    }
                    Poll::Pending => waits = true,
                }
            }
            if waits { Poll::Pending } else { Poll::Ready(Ok(None)) }
        });
        let seconds = self.app.settings.generation_time().as_secs_f64();
        let late = |_| Refusal::new(Kind::Deadline, format!("the text was not done within {seconds} s"));
        tokio::time::timeout_at(self.until, next).await.map_err(late)?
    }

    /// Refuses a text that has failed.
    fn check(&self, finished: &Finished) -> Result<(), Refusal> {
        match &finished.reason {
            FinishReason::Failed(problem) => {
                self.app.model.readiness()?;
                Err(Refusal::new(Kind::Failed, problem.clone()))
            }
            FinishReason::Cancelled => Err(Refusal::new(Kind::Unavailable, "the server stops; ask another")),
            FinishReason::Stop | FinishReason::Length | FinishReason::Deletion => Ok(()),
        }
    }

    fn scores(&self, tokens: &[NewToken]) -> Option<Vec<Score>> {
        let backbone = self.app.model.backbone();
        let decode = |id: u32| backbone.decode(&[id]).unwrap_or_default();
        self.asked.tells_scores.then(|| tokens.iter().map(|token| Score::new(token, decode)).collect())
    }

    /// The part of a text that news bring; `None` if there is nothing to show.
    fn part(&mut self, index: usize, news: News) -> Result<Option<Choice>, Refusal> {
        let mut choice = Choice { index, offset: self.written[index], ..Choice::default() };
        match news {
            News::Prompt(tokens) => {
                let scores = self.scores(&tokens);
                choice.text = self.echo(index);
                choice.scores = scores;
            }
            News::Token(token) => {
                if self.asked.tells_ends && self.app.model.backbone().end_tokens().contains(&token.id) {
                    self.stopped.push(index);
                }
                choice.text = self.echo(index) + &token.text;
                choice.scores = self.scores(std::slice::from_ref(&token));
                if choice.text.is_empty() && choice.scores.is_none() {
                    return Ok(None);
                }
            }
            News::End(finished) => {
                self.check(&finished)?;
                choice.text = self.echo(index) + &finished.text;
                let is_stopped = self.stopped.contains(&index);
                choice.finish_reason = if is_stopped { Some("stop") } else { reason_name(&finished.reason) };
                let origin = Origin::of(&finished);
                self.usage.add(&finished);
                self.origins.push(origin.clone());
                choice.origin = Some(origin);
            }
        }
        self.written[index] += choice.text.chars().count();
        Ok(Some(choice))
    }

    /// The prompt's text, the first time.
    fn echo(&mut self, index: usize) -> String {
        let text = self.asked.echo.as_mut().and_then(|texts| texts.get_mut(index));
        text.map(std::mem::take).unwrap_or_default()
    }

    /// The whole answer.
    pub(crate) async fn into_answer(mut self) -> Result<(Origin, Response), Refusal> {
        let mut choices: Vec<Choice> =
            (0..self.heard.len()).map(|index| Choice { index, ..Choice::default() }).collect();
        if self.asked.tells_scores {
            choices.iter_mut().for_each(|choice| choice.scores = Some(Vec::new()));
        }
        while let Some((index, news)) = self.next().await? {
            let Some(part) = self.part(index, news)? else { continue };
            let whole = &mut choices[index];
            whole.text.push_str(&part.text);
            if let (Some(scores), Some(more)) = (&mut whole.scores, part.scores) {
                scores.extend(more);
            }
            (whole.finish_reason, whole.origin) = (part.finish_reason, part.origin);
        }
        let origin = Origin::oldest(self.origins.iter());
        let origin = origin.ok_or_else(|| Refusal::new(Kind::Failed, "no text was made; the log says why"))?;
        let usage = Some(self.usage);
        let body = self.body(choices, usage, Some(origin.clone()), false);
        Ok((origin, body.into_response()))
    }

    fn body(&self, choices: Vec<Choice>, usage: Option<Usage>, s3t: Option<Origin>, is_chunk: bool) -> Body {
        let head = self.head.clone();
        match self.asked.form {
            Form::Completion => {
                let choices = choices.into_iter().map(completion_choice).collect();
                Body::Completion(Completion { head, choices, usage, s3t })
            }
            Form::Chat => {
                let choices = choices.into_iter().map(|choice| chat_choice(choice, is_chunk)).collect();
                Body::Chat(ChatAnswer { head, choices, usage, s3t })
            }
        }
    }

    /// The answer as server-sent events.
    pub(crate) fn into_events(self) -> Response {
        let begin = if self.asked.form == Form::Chat { Part::Roles } else { Part::Texts };
        let events = stream::unfold((self, begin), |(mut writing, part)| async move {
            let (event, next) = writing.event(part).await?;
            Some((Ok::<_, Infallible>(event), (writing, next)))
        });
        Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(10))).into_response()
    }

    async fn event(&mut self, part: Part) -> Option<(Event, Part)> {
        match part {
            Part::Roles => {
                let role = Delta { role: Some("assistant"), content: Some(String::new()) };
                let choice = ChatChoice {
                    index: 0,
                    message: None,
                    delta: Some(role),
                    logprobs: None,
                    finish_reason: None,
                    s3t: None,
                };
                let body = ChatAnswer { head: self.head.clone(), choices: vec![choice], usage: None, s3t: None };
                Some((datum(&body), Part::Texts))
            }
            Part::Texts => loop {
                let news = match self.next().await {
                    Ok(Some((index, news))) => self.part(index, news),
                    Ok(None) if self.asked.stream.is_some_and(|stream| stream.tells_usage) => {
                        return Box::pin(self.event(Part::Usage)).await;
                    }
                    Ok(None) => return Box::pin(self.event(Part::Done)).await,
                    Err(refusal) => Err(refusal),
                };
                match news {
                    Ok(None) => {}
                    Ok(Some(choice)) => {
                        let origin = choice.origin.clone();
                        return Some((datum(&self.body(vec![choice], None, origin, true)), Part::Texts));
                    }
                    // The status is sent already, so the event says it.
                    Err(refusal) => {
                        self.heard.clear();
                        return Some((datum(&OpenAiError::new(&refusal)), Part::Done));
                    }
                }
            },
            Part::Usage => {
                let origin = Origin::oldest(self.origins.iter());
                Some((datum(&self.body(Vec::new(), Some(self.usage), origin, true)), Part::Done))
            }
            Part::Done => Some((Event::default().data("[DONE]"), Part::Over)),
            Part::Over => None,
        }
    }
}

/// A body in one of the two forms.
#[derive(Serialize)]
#[serde(untagged)]
enum Body {
    Completion(Completion),
    Chat(ChatAnswer),
}

impl Body {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

fn datum(body: &impl Serialize) -> Event {
    Event::default().data(serde_json::to_string(body).unwrap_or_default())
}

fn completion_choice(choice: Choice) -> CompletionChoice {
    let Choice { index, text, scores, offset, finish_reason, origin } = choice;
    let logprobs = scores.map(|scores| CompletionScores::new(&scores, offset));
    CompletionChoice { index, text, logprobs, finish_reason, s3t: origin }
}

fn chat_choice(choice: Choice, is_chunk: bool) -> ChatChoice {
    let Choice { index, text, scores, finish_reason, origin, .. } = choice;
    let logprobs = scores.map(|scores| ChatScores::new(&scores));
    let (message, delta) = if is_chunk {
        // The last part may be without text.
        let content = (!text.is_empty() || finish_reason.is_none()).then_some(text);
        (None, Some(Delta { role: None, content }))
    } else {
        (Some(Delta { role: Some("assistant"), content: Some(text) }), None)
    };
    ChatChoice { index, message, delta, logprobs, finish_reason, s3t: origin }
}
