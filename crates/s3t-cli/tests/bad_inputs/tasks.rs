//! Files of `s3t eval`: tasks, and canaries.

use super::{Case, Workspace, trained};

const EVAL: &[&str] = &["eval", "pipeline.toml", "--task", "task.toml"];

const TASK: &str = r#"kind = "generate"
data = "questions.jsonl"
prompt = "{question}"
target = "{answer}"
"#;

const QUESTIONS: &str = "{\"question\": \"One?\", \"answer\": \"two\", \"options\": [\"one\", \"two\"]}\n";

/// A task file with a line more, and its questions.
fn with(w: &Workspace, line: &str) {
    w.write("task.toml", format!("{TASK}{line}\n"));
    w.write("questions.jsonl", QUESTIONS);
}

/// A task file in which one text is another.
fn edited(w: &Workspace, old: &str, new: &str) {
    with(w, "");
    w.edit("task.toml", old, new);
}

fn choice(w: &Workspace, lines: &str) {
    w.write(
        "task.toml",
        format!("kind = \"choice\"\ndata = \"questions.jsonl\"\nprompt = \"{{question}}\"\n{lines}\n"),
    );
    w.write("questions.jsonl", QUESTIONS);
}

const MEMORISATION: &[&str] = &["eval", "pipeline.toml", "--memorisation", "canaries.toml"];

/// A file of one canary with these lines.
fn canary(w: &Workspace, lines: &str) {
    w.write("canaries.toml", format!("[[canaries]]\nid = \"code\"\nprompt = \"The code is\"\n{lines}\n"));
}

const fn memorised(situation: &'static str, spoil: fn(&Workspace), message: &'static str) -> Case {
    Case { part: "Memorisation", situation, spoil, args: MEMORISATION, code: 2, message }
}

const fn task(situation: &'static str, spoil: fn(&Workspace), message: &'static str) -> Case {
    Case { part: "Tasks of language models", situation, spoil, args: EVAL, code: 2, message }
}

#[rustfmt::skip]
pub fn cases() -> Vec<Case> {
    vec![
        task("no task file", |_| {}, "cannot read `task.toml`: No such file or directory (os error 2)"),
        task("not TOML", |w| edited(w, "kind =", "kind"), "task.toml line 1: key with no value, expected `=`"),
        task("unknown key", |w| with(w, "metric = [\"rougeL\"]"), "task.toml line 5: unknown field `metric`, expected one of `name`, `kind`, "),
        task("unknown kind", |w| edited(w, "\"generate\"", "\"generated\""),
            "task.toml line 1: `kind` is an unknown kind `generated`; known: generate, choice, loglikelihood; did you mean `generate`?"),
        task("unknown measure", |w| with(w, "metrics = [\"rouge_l\"]"), "task.toml line 5: `metrics` names an unknown measure `rouge_l`; known: exact_match, rougeL"),
        task("no measure", |w| with(w, "metrics = []"), "task.toml line 5: `metrics` is empty; leave it out for all"),
        task("key of another kind", |w| with(w, "choices = \"options\""), "task.toml line 5: `choices` is for tasks of kind `choice`; this one is `generate`"),
        task("no prompt", |w| edited(w, "prompt = \"{question}\"\n", ""), "task.toml: `prompt` is missing; `generate` needs it"),
        task("no target", |w| edited(w, "target = \"{answer}\"\n", ""), "task.toml: `target` is missing; `generate` needs it"),
        task("template without a column", |w| edited(w, "{question}", "question"), "task.toml line 3: `prompt` names no column; write `{column}` where a column's text goes"),
        task("no token", |w| with(w, "max_new_tokens = 0"), "task.toml line 5: `max_new_tokens` is 0; use at least 1"),
        task("empty stop text", |w| with(w, "stop = [\"\"]"), "task.toml line 5: `stop` has an empty text, before which every answer would end"),
        task("no example", |w| with(w, "[few_shot]\nfile = \"solved.jsonl\"\ncount = 0"), "task.toml line 7: `few_shot.count` is 0; use at least 1, or leave the section out"),
        task("one choice", |w| choice(w, "choices = [\"{question}\"]\nanswer = \"answer\""), "task.toml line 4: `choices` has 1; give at least 2"),
        task("choice without its answer", |w| choice(w, "choices = \"options\""), "task.toml: `answer` is missing; it is the key of the right choice"),
        task("a pipeline of classes", |w| { with(w, ""); trained(w); }, "the pipeline's task is `classification`; a task of texts needs `data.task = \"causal-lm\"`"),
        Case { args: &["eval", "pipeline.toml", "--limit", "3"], ..task("limit without a task", |_| {}, "error: the following required arguments were not provided") },
        memorised("no file", |_| {}, "cannot read `canaries.toml`: No such file or directory (os error 2)"),
        memorised("nothing to measure", |w| w.write("canaries.toml", "seed = 1\n"), "canaries.toml: `canaries` is missing; give `[[canaries]]`, `[extraction]`, or both"),
        memorised("unknown key", |w| canary(w, "target = \" {secret}\"\nsecrets = [\"1\"]"), "canaries.toml line 5: unknown field `secrets`, expected one of `id`, `prompt`, "),
        memorised("canary without a space", |w| canary(w, "target = \" {secret}\"\nsecret = \"1\""),
            "canaries.toml: `canaries` `code` needs either `alphabet` and `length`, or `choices`, to say which secrets there are"),
        memorised("target without its secret", |w| canary(w, "target = \" 1\"\nsecret = \"1\"\nchoices = [\"1\", \"2\"]"),
            "canaries.toml: `canaries` `code` has `{secret}` 0 times in its `target`; it takes it once"),
        memorised("secret outside of its space", |w| canary(w, "target = \" {secret}\"\nsecret = \"12\"\nalphabet = \"12\"\nlength = 3"),
            "canaries.toml: `canaries` `code` has a `secret` that is not one of its space"),
        memorised("alphabet with a letter twice", |w| canary(w, "target = \" {secret}\"\nsecret = \"12\"\nalphabet = \"122\"\nlength = 2"),
            "canaries.toml: `canaries` `code` has `2` twice in its alphabet"),
        memorised("space of one", |w| canary(w, "target = \" {secret}\"\nsecret = \"1\"\nchoices = [\"1\"]"), "canaries.toml: `canaries` `code` has 1; give at least 2 secrets"),
        memorised("too few samples", |w| w.write("canaries.toml", "samples = 5\n[extraction]\n"), "canaries.toml line 1: `samples` is 5; use at least 30"),
        memorised("no token to come back", |w| w.write("canaries.toml", "[extraction]\nsuffix_tokens = 0\n"),
            "canaries.toml line 2: `extraction.suffix_tokens` is 0; use at least 1, or leave it out for all"),
        memorised("a pipeline of classes", |w| { w.write("canaries.toml", "[extraction]\n"); trained(w); },
            "the pipeline's task is `classification`; memorisation of texts needs `data.task = \"causal-lm\"`"),
    ]
}
