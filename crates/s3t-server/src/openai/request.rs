//! Requests for texts: what they ask for, made into prompts.

use std::collections::BTreeMap;

use s3t_core::chat::Message;
use s3t_generate::{Prompt, Sampling};
use s3t_models::ModelError;
use serde::Deserialize;
use serde_json::Value;

use super::fields::Fields;
use crate::model::Model;
use crate::random::random_bytes;
use crate::refusal::{Kind, Refusal};

/// Tokens behind the prompt of a completion that does not say how many.
const COMPLETION_TOKENS: usize = 16;

/// Tokens of a message that does not say how many, at most: memory for all of them is reserved.
const CHAT_TOKENS: usize = 1024;

/// The interface by which texts are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `/v1/completions`.
    Completion,
    /// `/v1/chat/completions`.
    Chat,
}

/// The texts that a request asks for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) form: Form,
    pub(crate) prompts: Vec<Prompt>,
    /// The prompts' texts, if the answer is to begin with them.
    pub(crate) echo: Option<Vec<String>>,
    /// The way in which it is streamed; `None` for a whole answer.
    pub(crate) stream: Option<Streamed>,
    pub(crate) tells_scores: bool,
    /// `true` if a token that ends a text is told as any other. A harness that scores a prompt asks for one token more, and takes it
    /// for granted that it comes.
    pub(crate) tells_ends: bool,
}

/// The way in which an answer is streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Streamed {
    /// `true` if a last chunk tells the number of tokens.
    pub(crate) tells_usage: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stops {
    One(String),
    Many(Vec<String>),
}

impl Asked {
    /// The texts that a body asks for.
    pub(crate) fn read(form: Form, model: &Model, max: usize, media_type: &str, body: &[u8]) -> Result<Self, Refusal> {
        let mut fields = Fields::read(media_type, body)?;
        let name = fields.take::<String>("model")?;
        if let Some(name) = name.filter(|name| *name != model.name()) {
            let (asked, known) = (s3t_core::limits::shown(&name), model.name());
            return Err(Refusal::not_found(format!("no model `{asked}`; this server has `{known}`")));
        }
        // Personal, and of no use here: passed over, and noted nowhere.
        let _ = fields.take::<String>("user")?;
        let streams = fields.take("stream")?.unwrap_or(false);
        let options: Option<StreamOptions> = fields.take("stream_options")?;
        if options.is_some() && !streams {
            return Err(Refusal::invalid("`stream_options` is for answers with `stream`"));
        }
        let mut sampling = sampling(&mut fields)?;
        let tells_usage = options.is_some_and(|options| options.include_usage);
        let stream = streams.then_some(Streamed { tells_usage });
        let (ids, echo) = match form {
            Form::Completion => completion(&mut fields, &mut sampling, model, max)?,
            Form::Chat => (chat(&mut fields, &mut sampling, model)?, None),
        };
        fields.finish()?;
        let tells_scores = sampling.logprobs.is_some();
        let tells_ends = sampling.prompt_logprobs && sampling.max_tokens == 1 && !sampling.ignore_eos;
        sampling.ignore_eos |= tells_ends;
        let prompts = ids.into_iter().map(|ids| Prompt { ids, sampling: sampling.clone() }).collect();
        Ok(Self { form, prompts, echo, stream, tells_scores, tells_ends })
    }
}

/// The choice of tokens, with the fields that both interfaces have.
fn sampling(fields: &mut Fields) -> Result<Sampling, Refusal> {
    let stops = match fields.take("stop")? {
        Some(Stops::One(stop)) => vec![stop],
        Some(Stops::Many(stops)) => stops,
        None => Vec::new(),
    };
    let bias: Option<BTreeMap<String, f32>> = fields.take("logit_bias")?;
    let token = |(token, bias): (String, f32)| {
        let number = token.parse::<u32>();
        let refuse = |_| format!("`logit_bias` has the key `{}`, which is no token", s3t_core::limits::shown(&token));
        Ok((number.map_err(refuse).map_err(Refusal::invalid)?, bias))
    };
    let seed = fields.take::<Value>("seed")?.map(|seed| {
        let number = seed.as_u64().or_else(|| seed.as_i64().map(i64::cast_unsigned));
        number.ok_or_else(|| Refusal::invalid("`seed` takes a whole number"))
    });
    let by_default = Sampling::default();
    Ok(Sampling {
        temperature: fields.take("temperature")?.unwrap_or(1.0),
        top_p: fields.take("top_p")?.unwrap_or(by_default.top_p),
        // As vLLM writes it, -1 is for all.
        top_k: usize::try_from(fields.take::<i64>("top_k")?.unwrap_or(0)).unwrap_or(0),
        min_p: fields.take("min_p")?.unwrap_or(by_default.min_p),
        repetition_penalty: fields.take("repetition_penalty")?.unwrap_or(by_default.repetition_penalty),
        frequency_penalty: fields.take("frequency_penalty")?.unwrap_or(by_default.frequency_penalty),
        presence_penalty: fields.take("presence_penalty")?.unwrap_or(by_default.presence_penalty),
        logit_bias: bias.unwrap_or_default().into_iter().map(token).collect::<Result<_, Refusal>>()?,
        seed: seed.transpose()?.map_or_else(|| random_bytes().map(u64::from_le_bytes), Ok)?,
        stop: stops,
        stop_token_ids: fields.take("stop_token_ids")?.unwrap_or_default(),
        ignore_eos: fields.take("ignore_eos")?.unwrap_or(false),
        ..by_default
    })
}

/// A prompt as it is given.
#[derive(Deserialize)]
#[serde(untagged)]
enum Given {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    Many(Vec<Vec<u32>>),
}

type Prompts = (Vec<Vec<u32>>, Option<Vec<String>>);

fn completion(fields: &mut Fields, sampling: &mut Sampling, model: &Model, max: usize) -> Result<Prompts, Refusal> {
    let refuse =
        || Refusal::invalid("`prompt` takes a text, a list of texts, a list of tokens, or a list of lists of tokens");
    let given: Value = fields.take("prompt")?.ok_or_else(refuse)?;
    let given = serde_json::from_value(given).map_err(|_| refuse())?;
    let many = |found: usize| {
        let message = format!("`prompt` has {found} prompts, and 1 to {max} are taken");
        let kind = if found == 0 { Kind::Validation } else { Kind::TooLarge };
        if (1..=max).contains(&found) { Ok(()) } else { Err(Refusal::new(kind, message)) }
    };
    let texts = match given {
        Given::Text(text) => Ok(vec![text]),
        Given::Texts(texts) if texts.is_empty() => return Err(refuse()),
        Given::Texts(texts) => Ok(texts),
        Given::Tokens(ids) => Err(vec![ids]),
        Given::Many(ids) => Err(ids),
    };
    let (ids, texts) = match texts {
        Ok(texts) => {
            many(texts.len())?;
            let encode = |text: &String| model.backbone().encode_prompt(text).map_err(|error| of_model(&error));
            (texts.iter().map(encode).collect::<Result<_, Refusal>>()?, Some(texts))
        }
        Err(ids) => {
            many(ids.len())?;
            (ids, None)
        }
    };
    let echoes = fields.take("echo")?.unwrap_or(false);
    let decode = |ids: &Vec<u32>| model.backbone().decode(ids).unwrap_or_default();
    let echo = echoes.then(|| texts.unwrap_or_else(|| ids.iter().map(decode).collect()));
    sampling.max_tokens = fields.take("max_tokens")?.unwrap_or(COMPLETION_TOKENS);
    sampling.logprobs = fields.take("logprobs")?;
    sampling.prompt_logprobs = echoes && sampling.logprobs.is_some();
    if sampling.max_tokens == 0 && !echoes {
        return Err(Refusal::invalid("`max_tokens` is 0: nothing is asked for without `echo`"));
    }
    Ok((ids, echo))
}

fn chat(fields: &mut Fields, sampling: &mut Sampling, model: &Model) -> Result<Vec<Vec<u32>>, Refusal> {
    let messages: Option<Value> = fields.take("messages")?;
    let messages = messages.ok_or_else(|| Refusal::invalid("`messages` is missing"))?;
    let messages = Message::list(&messages).map_err(|problem| Refusal::invalid(format!("`messages` {problem}")))?;
    let ids = model.backbone().encode_chat(&messages).map_err(|error| of_model(&error))?;
    let (new, old) = (fields.take::<usize>("max_completion_tokens")?, fields.take::<usize>("max_tokens")?);
    if let (Some(new), Some(old)) = (new, old)
        && new != old
    {
        return Err(Refusal::invalid("`max_tokens` and `max_completion_tokens` are one setting, and are not the same"));
    }
    let room = model.backbone().max_tokens().saturating_sub(ids.len());
    sampling.max_tokens = new.or(old).unwrap_or_else(|| room.min(CHAT_TOKENS));
    if sampling.max_tokens == 0 {
        return Err(Refusal::invalid("`max_completion_tokens` is 0, or the messages leave no room for an answer"));
    }
    let tells = fields.take("logprobs")?.unwrap_or(false);
    let top: Option<usize> = fields.take("top_logprobs")?;
    if top.is_some_and(|top| top > 0) && !tells {
        return Err(Refusal::invalid("`top_logprobs` is for answers with `logprobs`"));
    }
    sampling.logprobs = tells.then(|| top.unwrap_or(0));
    Ok(vec![ids])
}

fn of_model(error: &ModelError) -> Refusal {
    Refusal::invalid(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use utoipa::PartialSchema as _;

    use super::*;
    use crate::openai::document::Choosing;

    #[test]
    fn the_document_names_the_fields_that_are_read() {
        let mut fields = Fields::read("application/json", b"{}").unwrap();
        sampling(&mut fields).unwrap();
        let read: BTreeSet<&str> =
            fields.taken().iter().copied().chain(["model", "user", "stream", "stream_options"]).collect();
        let schema = serde_json::to_value(Choosing::schema()).unwrap();
        let documented: BTreeSet<&str> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(documented, read);
    }
}
