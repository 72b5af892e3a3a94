//! Chat templates: texts and tokens are those of `apply_chat_template` in `transformers`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use s3t::core::{Payload, Record, RecordId, Target};
use s3t::models::{Backbone, Device, LoadOptions, Message, ModelError, Role};
use serde::Deserialize;

/// `chat.json`, made by `xtask/golden/chat.py`.
#[derive(Deserialize)]
struct Golden {
    templates: BTreeMap<String, String>,
    chats: BTreeMap<String, Vec<Message>>,
    cases: Vec<Case>,
}

/// The answers of Python; null where the template raises an error.
#[derive(Deserialize)]
struct Case {
    template: String,
    model: String,
    chat: String,
    whole: Option<Answer>,
    prompt: Option<Answer>,
    /// The mask of the tokens that are learnt; null for a chat that is refused, and not there for one without a turn to learn.
    #[serde(default = "absent")]
    learnt: serde_json::Value,
}

fn absent() -> serde_json::Value {
    false.into()
}

#[derive(Deserialize)]
struct Answer {
    text: String,
    ids: Vec<u32>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden-chat")
}

fn golden() -> Golden {
    serde_json::from_str(&std::fs::read_to_string(folder().join("chat.json")).unwrap()).unwrap()
}

/// A copy of a model with files beside it, and its folder.
fn with_files(model: &str, files: &[(&str, &str)]) -> (Result<Arc<Backbone>, ModelError>, tempfile::TempDir) {
    loaded(model, files, LoadOptions::default())
}

fn loaded(
    model: &str,
    files: &[(&str, &str)],
    options: LoadOptions,
) -> (Result<Arc<Backbone>, ModelError>, tempfile::TempDir) {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder().join(model)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    for (name, text) in files {
        std::fs::write(copy.path().join(name), text).unwrap();
    }
    (s3t::models::load(copy.path(), options, &Device::flex()), copy)
}

fn with_template(model: &str, template: &str) -> Arc<Backbone> {
    with_files(model, &[("chat_template.jinja", template)]).0.unwrap()
}

#[test]
fn texts_and_tokens_are_those_of_transformers() {
    let golden = golden();
    let mut models: BTreeMap<(&str, &str), Arc<Backbone>> = BTreeMap::new();
    assert_eq!(golden.cases.len(), 2 * golden.templates.len() * golden.chats.len());
    let mut wrong = Vec::new();
    for case in &golden.cases {
        let key = (case.model.as_str(), case.template.as_str());
        let model = models.entry(key).or_insert_with(|| with_template(key.0, &golden.templates[key.1]));
        let (template, messages) = (model.chat_template().unwrap(), &golden.chats[&case.chat]);
        let what = format!("{} by {} on {}", case.chat, case.template, case.model);
        for (answer, prompt) in [(&case.whole, false), (&case.prompt, true)] {
            let text = template.render(messages, prompt);
            let same = match answer {
                Some(answer) => text.as_ref().is_ok_and(|text| *text == answer.text),
                None => matches!(text, Err(ModelError::ChatTemplate { .. })),
            };
            if !same {
                let expected = answer.as_ref().map(|answer| &answer.text);
                wrong.push(format!("{what}, prompt {prompt}: {text:?}, but in Python {expected:?}"));
            }
        }
        let ids = model.encode_chat(messages).ok();
        // An empty text is no prompt.
        let expected = case.prompt.as_ref().map(|answer| &answer.ids).filter(|ids| !ids.is_empty());
        if ids.as_ref() != expected {
            wrong.push(format!("{what}: other tokens"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn hello() -> [Message; 1] {
    [Message::new(Role::User, "Hello")]
}

#[test]
fn a_template_of_the_configuration_is_used_where_no_file_has_one_and_changes_no_digest() {
    let config = |template: &str| format!("{{\"bos_token\": \"<s>\", \"chat_template\": {template}}}");
    let ids = |files: &[(&str, &str)]| {
        let model = with_files("bytes", files).0.unwrap();
        let ids = model.encode_chat(&hello()).map_err(|error| error.to_string());
        (model.digest(), ids.map(|ids| model.decode(&ids).unwrap()))
    };
    let text = config("\"A {{ messages[0].content }}\"");
    let (digest, of_text) = ids(&[("tokenizer_config.json", &text)]);
    assert_eq!(of_text, Ok("A Hello".into()));
    let named = config(
        "[{\"name\": \"rag\", \"template\": \"x\"}, {\"name\": \"default\", \"template\": \"B {{ messages[0].content }}\"}]",
    );
    assert_eq!(ids(&[("tokenizer_config.json", &named)]), (digest, Ok("B Hello".into())));
    let both = [("tokenizer_config.json", &*text), ("chat_template.jinja", "C {{ messages[0].content }}")];
    assert_eq!(ids(&both), (digest, Ok("C Hello".into())));
    // A template that cannot be used is told when it is asked for: the model answers otherwise as before.
    let (same, refused) = ids(&[("chat_template.jinja", "{% for %}")]);
    assert_eq!(same, digest);
    assert!(
        refused.unwrap_err().contains("chat_template.jinja`: the chat template cannot be used: line 1: syntax error")
    );
    let unnamed = config("[{\"name\": \"rag\", \"template\": \"x\"}]");
    let (_, refused) = ids(&[("tokenizer_config.json", &unnamed)]);
    assert!(refused.unwrap_err().contains("`rag`, but none named `default`"));
    let (_, missing) = ids(&[]);
    let message = missing.unwrap_err();
    assert!(
        message.starts_with("the model has no chat template") && message.contains("chat_template.jinja`"),
        "{message}"
    );
}

#[test]
fn a_prompt_leaves_room_for_a_response() {
    let model = with_template("bytes", "{{ messages[0].content }}");
    assert_eq!(model.encode_prompt("</s>").unwrap(), [2]);
    for text in ["", "a b c d e f g h ".repeat(100).as_str()] {
        let message = model.encode_prompt(text).unwrap_err().to_string();
        assert!(message.contains("prompts have 1 to 1023, so that a response follows"), "{message}");
        assert!(model.encode_chat(&[Message::new(Role::User, text)]).is_err());
    }
    assert!(model.encode_chat(&[]).unwrap_err().to_string().contains("it was given no messages"));
}

/// A model whose records are chats.
fn of_chats(model: &str, template: &str, max_tokens: Option<usize>) -> Arc<Backbone> {
    let options = LoadOptions { chats: true, max_tokens, ..LoadOptions::default() };
    loaded(model, &[("chat_template.jinja", template)], options).0.unwrap()
}

fn record(messages: &[Message], target: Target) -> Record {
    let payload = Payload::Messages(messages.to_vec());
    Record { id: RecordId::new("chat-1").unwrap(), subject: None, target, ordinal: 0, payload }
}

#[test]
fn the_tokens_that_are_learnt_are_those_of_python() {
    let golden = golden();
    let mut models: BTreeMap<(&str, &str), Arc<Backbone>> = BTreeMap::new();
    let (mut compared, mut refused) = (0, 0);
    for case in golden.cases.iter().filter(|case| !case.learnt.is_boolean()) {
        let key = (case.model.as_str(), case.template.as_str());
        let model = models.entry(key).or_insert_with(|| of_chats(key.0, &golden.templates[key.1], None));
        let what = format!("{} by {} on {}", case.chat, case.template, case.model);
        let messages = &golden.chats[&case.chat];
        let record = record(messages, Target::Turns);
        let input = model.prepare(&record);
        let Some(mask) = case.learnt.as_array().filter(|mask| mask.contains(&1.into())) else {
            assert!(
                matches!(input, Err(ModelError::Chat { .. } | ModelError::ChatTemplate { .. })),
                "{what}: {input:?}"
            );
            refused += 1;
            continue;
        };
        let input = input.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(input.ids, case.whole.as_ref().unwrap().ids, "{what}");
        let is_learnt = |token: usize| input.targets.iter().any(|range| range.contains(&token));
        let found: Vec<usize> = (0..input.ids.len()).map(|token| usize::from(is_learnt(token))).collect();
        assert_eq!(serde_json::json!(found), serde_json::json!(mask), "{what}");
        assert_eq!(input.learnt(), found.iter().sum::<usize>(), "{what}");
        compared += 1;
    }
    assert!(compared > 100 && refused > 10, "{compared} and {refused}");
}

const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' }}\
                      {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

#[test]
fn a_chat_is_cut_to_a_limit_and_asked_about_its_last_answer() {
    let messages = [(Role::User, "a b c"), (Role::Assistant, "d e f"), (Role::User, "g"), (Role::Assistant, "h i j")];
    let messages = messages.map(|(role, text)| Message::new(role, text));
    let chat = record(&messages, Target::Turns);
    let whole = of_chats("bytes", CHATML, None);
    let input = whole.prepare(&chat).unwrap();
    let [first, second] = input.targets.as_slice() else { panic!("{:?}", input.targets) };
    assert_eq!(second.end, input.ids.len(), "the end of a turn is learnt");
    let at = |limit: usize| {
        let model = of_chats("bytes", CHATML, Some(limit));
        model.prepare(&chat).map(|input| (input.targets, input.cut)).map_err(|error| error.to_string())
    };
    let cut = input.ids.len() - (second.start + 1);
    assert_eq!(at(second.start + 1), Ok((vec![first.clone(), second.start..second.start + 1], cut)));
    assert_eq!(at(second.start).unwrap().0, std::slice::from_ref(first));
    assert_eq!(at(first.start + 1).unwrap().0, vec![Range { start: first.start, end: first.start + 1 }]);
    assert!(at(first.start).unwrap_err().contains(&format!("prompt of {} tokens", first.start)));
    // A question ends where the answer begins, and has nothing that is learnt.
    let question = chat.as_question();
    let asked = whole.prepare(&question).unwrap();
    assert_eq!((asked.ids.as_slice(), asked.learnt()), (&input.ids[..second.start], 0));
    assert_eq!(asked.ids, whole.encode_chat(&messages[..3]).unwrap());
}

#[test]
fn chats_that_cannot_be_learnt_are_refused_with_the_reason() {
    let model = of_chats("bytes", CHATML, None);
    let refused = |messages: &[(Role, &str)], problem: &str| {
        let messages: Vec<Message> = messages.iter().map(|(role, text)| Message::new(*role, *text)).collect();
        let message = model.prepare(&record(&messages, Target::Turns)).unwrap_err().to_string();
        assert!(
            message.starts_with("record `chat-1`: its chat cannot be used: ") && message.contains(problem),
            "{message}"
        );
    };
    refused(&[(Role::User, "secret")], "no message of the assistant");
    refused(&[(Role::Assistant, "secret")], "begins with the assistant");
    refused(&vec![(Role::User, "secret"); 1025], "it has 1025 messages; a chat has at most 1024");
    // The last turn is written otherwise than those before.
    let last = "{% for message in messages %}{{ message.content }}{{ '!' if loop.last }}{% endfor %}";
    let changes = of_chats("bytes", last, None);
    let turns = [(Role::User, "a"), (Role::Assistant, "b"), (Role::User, "c"), (Role::Assistant, "d")];
    let turns = turns.map(|(role, text)| Message::new(role, text));
    let message = changes.prepare(&record(&turns, Target::Turns)).unwrap_err().to_string();
    assert!(
        message.contains("writes the first 1 messages with the prompt for the answer otherwise when more follow"),
        "{message}"
    );
    // A model that was not loaded for chats answers them, and does not learn from them.
    let other = with_template("bytes", CHATML);
    assert!(other.prepare(&record(&turns, Target::None)).is_ok());
    let message = other.prepare(&record(&turns, Target::Turns)).unwrap_err().to_string();
    assert!(message.contains("chats are learnt from where `messages` of `data.train` names them"), "{message}");
    let missing = loaded("bytes", &[], LoadOptions { chats: true, ..LoadOptions::default() }).0;
    assert!(matches!(missing.err(), Some(ModelError::NoChatTemplate { .. })));
}

#[test]
fn a_template_is_part_of_the_digest_where_records_are_chats() {
    let digest = |template: &str| of_chats("bytes", template, None).digest();
    let changed = CHATML.replace("<|im_end|>", "</s>");
    assert_ne!(digest(CHATML), digest(&changed));
    assert_ne!(digest(CHATML), with_template("bytes", CHATML).digest());
    assert_eq!(with_template("bytes", CHATML).digest(), with_template("bytes", &changed).digest());
}
