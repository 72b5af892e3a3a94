//! Rows of docs/bad-inputs.md about chats, on the golden model of chats.

use std::path::Path;

use crate::workspace::Workspace;
use crate::{Case, planned};

const TEMPLATE: &str = "{% for message in messages %}{{ message.role + ': ' + message.content + '</s>' }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";

const PIPELINE: &str = r#"[model]
path = "chat-model"

[store]
path = "store"

[data]
task = "causal-lm"

[data.train]
type = "jsonl"
file = "chats.jsonl"
messages = "messages"

[partition]
type = "keyed-hash"
shards = 1
slices = 1

[sequences]
type = "cyclic"
budget = 1

[peft]
type = "lora"

[training]
epochs = 1
"#;

const CHAT: &str = r#"[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]"#;

/// A pipeline of chats: one that can be learnt, and one with these messages.
fn chats(w: &Workspace, messages: &str) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../s3t/tests/golden-chat/bytes");
    std::fs::create_dir_all(w.path("chat-model")).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(golden.join(file), w.path("chat-model").join(file)).unwrap();
    }
    w.write("chat-model/chat_template.jinja", TEMPLATE);
    w.write("pipeline.toml", PIPELINE);
    w.write("chats.jsonl", format!("{{\"messages\": {CHAT}}}\n{{\"messages\": {messages}}}\n"));
}

fn with_template(w: &Workspace, template: &str) {
    chats(
        w,
        r#"[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]"#,
    );
    w.write("chat-model/chat_template.jinja", template);
}

fn with_pipeline(w: &Workspace, old: &str, new: &str) {
    chats(w, CHAT);
    w.edit("pipeline.toml", old, new);
}

#[rustfmt::skip]
pub fn cases() -> Vec<Case> {
    vec![
        planned("Chats", "unknown role", |w| chats(w, r#"[{"role": "usr", "content": "Hi"}]"#),
            "`chats.jsonl` line 2: `messages`: message 1: unknown role `usr`; known: system, user, assistant"),
        planned("Chats", "role of a tool", |w| chats(w, r#"[{"role": "user", "content": "Hi"}, {"role": "tool", "content": "7"}]"#),
            "`chats.jsonl` line 2: `messages`: message 2: role `tool` is that of a tool call, which is not supported; roles: system, user, assistant"),
        planned("Chats", "call of a tool", |w| chats(w, r#"[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "", "tool_calls": [{}]}]"#),
            "`chats.jsonl` line 2: `messages`: message 2: has `tool_calls`; tool calls are not supported"),
        planned("Chats", "content that is no text", |w| chats(w, r#"[{"role": "user", "content": [{"type": "image_url"}]}]"#),
            "`chats.jsonl` line 2: `messages`: message 1: `content` is a list of parts; give one text (other than texts is not supported)"),
        planned("Chats", "message without content", |w| chats(w, r#"[{"role": "user"}]"#),
            "`chats.jsonl` line 2: `messages`: message 1: has no `content`; give a text"),
        planned("Chats", "unknown field of a message", |w| chats(w, r#"[{"role": "user", "content": "Hi", "name": "x"}]"#),
            "`chats.jsonl` line 2: `messages`: message 1: unknown field `name`; known: role, content"),
        planned("Chats", "no message", |w| chats(w, "[]"),
            "`chats.jsonl` line 2: `messages`: is an empty list; a chat has at least one message"),
        planned("Chats", "text in the place of messages", |w| chats(w, "\"Hi\""),
            "`chats.jsonl` line 2: `messages`: is not a list of messages; write [{\"role\": \"user\", \"content\": \"...\"}, ...]"),
        planned("Chats", "nothing that is learnt", |w| chats(w, r#"[{"role": "user", "content": "Hi"}]"#),
            "`chats.jsonl` line 2: `messages`: has no message of the assistant, so that nothing is learnt of it"),
        planned("Chats", "assistant who begins", |w| chats(w, r#"[{"role": "assistant", "content": "Hi"}]"#),
            "`chats.jsonl` line 2: `messages`: begins with the assistant, who has nothing to answer"),
        planned("Chats", "packing", |w| with_pipeline(w, "messages = \"messages\"", "messages = \"messages\"\npacking = true"),
            "`chats.jsonl`: has `packing = true`, which joins records to fill a sequence: a record would then change what is learnt of its neighbours, and a deletion would reach all of them. Leave it out; `training.batch_tokens` fills batches without joining records"),
        planned("Chats", "messages and a text", |w| with_pipeline(w, "messages = \"messages\"", "messages = \"messages\"\ntext = \"text\""),
            "`chats.jsonl`: has `messages` and `text`; a chat is the whole content, so give one of them"),
        planned("Chats", "chats for another task", |w| with_pipeline(w, "task = \"causal-lm\"", "task = \"regression\""),
            "`data.train.messages` are chats, which task `causal-lm` learns from, but `data.task` is `regression`"),
        planned("Chats", "size of a batch in records and in tokens", |w| with_pipeline(w, "epochs = 1", "batch_size = 4\nbatch_tokens = 64"),
            "pipeline.toml line 29: `training.batch_tokens` and `training.batch_size` both say how large a batch is; give one of them"),
        planned("Chats", "prompts for a model of classes", |w| w.edit("pipeline.toml", "[run]", "[run]\nask = [\"Hi\"]"),
            "`run.ask` is for language models, of task `causal-lm`, but `data.task` is `classification`"),
        planned("Chats", "model without a template", |w| { chats(w, CHAT); std::fs::remove_file(w.path("chat-model/chat_template.jinja")).unwrap(); },
            "the model has no chat template, which says what a chat is as a text; add `chat-model/chat_template.jinja`, as the model's authors publish it, or `chat_template` to tokenizer_config.json"),
        planned("Chats", "template that is not Jinja", |w| with_template(w, "{% for message %}"),
            "`chat-model/chat_template.jinja`: the chat template cannot be used: line 1: syntax error: "),
        planned("Chats", "template that asks for the date", |w| with_template(w, "{{ strftime_now('%d') }}"),
            "`chat-model/chat_template.jinja`: the chat template cannot be used: line 1: it asks for today's date (`strftime_now`), so that a text would depend on the day; guard it with `is defined` or write a date"),
        planned("Chats", "template that refuses the messages", |w| with_template(w, "{{ raise_exception('Only one turn') }}"),
            "`chat-model/chat_template.jinja`: the chat template cannot be used: line 1: it refuses these messages: Only one turn"),
        planned("Chats", "template without an end", |w| with_template(w, "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
            "`chat-model/chat_template.jinja`: the chat template cannot be used: line 1: it takes more work than a chat may; shorten the messages or simplify it"),
        planned("Chats", "template whose earlier text changes", |w| with_template(w, "{% for message in messages %}{{ message.content }}{{ '.' if loop.last }}{% endfor %}"),
            "record `row-0`: its chat cannot be used: the template writes the first 1 messages with the prompt for the answer otherwise when more follow, so that what is learnt of a turn would not be what the model is asked; give chats of one turn, or a template whose text only grows"),
    ]
}
