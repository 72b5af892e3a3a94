//! Chat templates: texts and tokens are those of `apply_chat_template` in `transformers`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder().join(model)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    for (name, text) in files {
        std::fs::write(copy.path().join(name), text).unwrap();
    }
    (s3t::models::load(copy.path(), LoadOptions::default(), &Device::flex()), copy)
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
