//! Task files.

use std::path::{Path, PathBuf};

use s3t_core::registry::unknown;
use s3t_data::Template;
use serde::Deserialize;

use super::TaskMetric;
use crate::EvalError;
use crate::text::Ignored;
use crate::toml_text::TomlText;

/// A task, as its file describes it.
pub struct LanguageTask {
    /// The name; without one the name of the file.
    pub name: String,
    /// The JSON lines with the questions.
    pub data: PathBuf,
    /// The key of a question's id; without it ids are `row-0`, `row-1`, ...
    pub id: Option<String>,
    /// The text that is continued; `None` for targets that stand alone.
    pub prompt: Option<Template>,
    /// The answer that is asked for.
    pub kind: TaskKind,
    /// The measures.
    pub metrics: Vec<TaskMetric>,
    /// Solved examples in front of every question.
    pub few_shot: Option<FewShot>,
}

/// The kinds of tasks.
pub enum TaskKind {
    /// The system continues the prompt, and the text is compared with the target.
    Generate {
        /// The text that is right.
        target: Template,
        /// The largest number of tokens of an answer.
        max_new_tokens: usize,
        /// Texts before which an answer ends.
        stop: Vec<String>,
        /// True if blanks around an answer and a target do not count.
        strip: bool,
        /// Differences that exact match does not count.
        ignored: Ignored,
    },
    /// The system finds one of several texts the likeliest behind the prompt.
    Choice {
        /// The texts.
        choices: Choices,
        /// The key of the right one: its text, or its position from 0.
        answer: String,
    },
    /// The likelihood of the target behind the prompt is measured.
    LogLikelihood {
        /// The text.
        target: Template,
    },
}

/// The texts of a choice.
pub enum Choices {
    /// The key of a list of texts.
    Key(String),
    /// A template for each text.
    Templates(Vec<Template>),
}

/// Solved examples in front of every question.
pub struct FewShot {
    /// The JSON lines with the examples.
    pub file: PathBuf,
    /// The number of examples: the first of the file.
    pub count: usize,
    /// The text behind each example.
    pub separator: String,
}

const KINDS: [&str; 3] = ["generate", "choice", "loglikelihood"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<String>,
    kind: String,
    data: PathBuf,
    id: Option<String>,
    prompt: Option<String>,
    target: Option<String>,
    choices: Option<ChoicesOfFile>,
    answer: Option<String>,
    metrics: Option<Vec<String>>,
    max_new_tokens: Option<usize>,
    stop: Option<Vec<String>>,
    strip: Option<bool>,
    ignore_case: Option<bool>,
    ignore_punctuation: Option<bool>,
    ignore_digits: Option<bool>,
    few_shot: Option<FewShotOfFile>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "`choices` takes the key of a list of texts, or a list of templates")]
enum ChoicesOfFile {
    Key(String),
    Templates(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FewShotOfFile {
    file: PathBuf,
    count: usize,
    separator: Option<String>,
}

impl LanguageTask {
    /// Reads a task file. Relative paths in it start from its folder.
    ///
    /// # Errors
    ///
    /// [`EvalError::Read`], or [`EvalError::File`] for the first thing in it that cannot be used, with its line.
    pub fn read(path: &Path) -> Result<Self, EvalError> {
        let text = TomlText::read(path)?;
        let file: File = text.parse()?;
        let kind = file.kind.as_str();
        if !KINDS.contains(&kind) {
            return Err(text.refuse("kind", format!("is an {}", unknown(&format!("kind `{kind}`"), kind, &KINDS))));
        }
        file.check_kind(&text)?;
        let template =
            |key: &str, template: &str| Template::parse(template).map_err(|problem| text.refuse(key, problem));
        let needed = |key: &'static str, value: &Option<String>| -> Result<Template, EvalError> {
            let value = value.as_ref().ok_or_else(|| text.refuse(key, format!("is missing; `{kind}` needs it")))?;
            template(key, value)
        };
        let prompt = file.prompt.as_deref().map(|prompt| template("prompt", prompt)).transpose()?;
        if prompt.is_none() && kind != "loglikelihood" {
            return Err(text.refuse("prompt", format!("is missing; `{kind}` needs it")));
        }
        let (parsed, allowed): (TaskKind, &[TaskMetric]) = match kind {
            "generate" => {
                let max_new_tokens = file.max_new_tokens.unwrap_or(64);
                if max_new_tokens == 0 {
                    return Err(text.refuse("max_new_tokens", "is 0; use at least 1"));
                }
                let stop = file.stop.clone().unwrap_or_default();
                if stop.iter().any(String::is_empty) {
                    return Err(text.refuse("stop", "has an empty text, before which every answer would end"));
                }
                let ignored = Ignored {
                    case: file.ignore_case.unwrap_or(false),
                    punctuation: file.ignore_punctuation.unwrap_or(false),
                    digits: file.ignore_digits.unwrap_or(false),
                };
                let target = needed("target", &file.target)?;
                let strip = file.strip.unwrap_or(false);
                (TaskKind::Generate { target, max_new_tokens, stop, strip, ignored }, &TaskMetric::GENERATED)
            }
            "choice" => {
                let answer = file.answer.clone();
                let answer =
                    answer.ok_or_else(|| text.refuse("answer", "is missing; it is the key of the right choice"))?;
                let choices = match &file.choices {
                    None => return Err(text.refuse("choices", "is missing; `choice` needs it")),
                    Some(ChoicesOfFile::Key(key)) => Choices::Key(key.clone()),
                    Some(ChoicesOfFile::Templates(texts)) if texts.len() < 2 => {
                        return Err(text.refuse("choices", format!("has {}; give at least 2", texts.len())));
                    }
                    Some(ChoicesOfFile::Templates(texts)) => {
                        Choices::Templates(texts.iter().map(|one| template("choices", one)).collect::<Result<_, _>>()?)
                    }
                };
                (TaskKind::Choice { choices, answer }, &TaskMetric::CHOSEN)
            }
            _ => (TaskKind::LogLikelihood { target: needed("target", &file.target)? }, &TaskMetric::LIKELIHOOD),
        };
        let metrics = match &file.metrics {
            None => allowed.to_vec(),
            Some(names) if names.is_empty() => return Err(text.refuse("metrics", "is empty; leave it out for all")),
            Some(names) => names
                .iter()
                .map(|name| TaskMetric::among(allowed, name).map_err(|problem| text.refuse("metrics", problem)))
                .collect::<Result<_, _>>()?,
        };
        let few_shot = match file.few_shot {
            Some(few_shot) if few_shot.count == 0 => {
                return Err(text.refuse("few_shot.count", "is 0; use at least 1, or leave the section out"));
            }
            few_shot => few_shot.map(|few_shot| FewShot {
                file: text.path(&few_shot.file),
                count: few_shot.count,
                separator: few_shot.separator.unwrap_or_else(|| "\n\n".to_owned()),
            }),
        };
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self {
            name: file.name.unwrap_or(stem),
            data: text.path(&file.data),
            id: file.id,
            prompt,
            kind: parsed,
            metrics,
            few_shot,
        })
    }

    /// The name of its kind.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            TaskKind::Generate { .. } => KINDS[0],
            TaskKind::Choice { .. } => KINDS[1],
            TaskKind::LogLikelihood { .. } => KINDS[2],
        }
    }
}

impl File {
    /// Refuses keys that the kind does not use.
    fn check_kind(&self, text: &TomlText) -> Result<(), EvalError> {
        let generate: &[&str] = &["generate"];
        let given: [(&str, bool, &[&str]); 9] = [
            ("target", self.target.is_some(), &["generate", "loglikelihood"]),
            ("choices", self.choices.is_some(), &["choice"]),
            ("answer", self.answer.is_some(), &["choice"]),
            ("max_new_tokens", self.max_new_tokens.is_some(), generate),
            ("stop", self.stop.is_some(), generate),
            ("strip", self.strip.is_some(), generate),
            ("ignore_case", self.ignore_case.is_some(), generate),
            ("ignore_punctuation", self.ignore_punctuation.is_some(), generate),
            ("ignore_digits", self.ignore_digits.is_some(), generate),
        ];
        match given.iter().find(|(_, given, kinds)| *given && !kinds.contains(&self.kind.as_str())) {
            Some((key, _, kinds)) => {
                let kinds: Vec<String> = kinds.iter().map(|kind| format!("`{kind}`")).collect();
                Err(text
                    .refuse(key, format!("is for tasks of kind {}; this one is `{}`", kinds.join(" and "), self.kind)))
            }
            None => Ok(()),
        }
    }
}
