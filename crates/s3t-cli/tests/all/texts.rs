//! Texts over HTTP in the shape of OpenAI's interface, with the bundled language model.

use std::collections::BTreeSet;

use crate::texts_world::{Texts, ask_at, stream_at};
use s3t::core::{Message, Role as Author};
use s3t::engine::{GenerationSettings, OnDeletion};
use s3t::generate::{Prompt, Sampling};
use s3t_server::Role;
use serde_json::{Value, json};

fn question() -> Value {
    json!([{ "role": "user", "content": "With which letter does the word one begin?" }])
}

fn chat(more: &Value) -> Value {
    let mut body = json!({ "messages": question(), "max_completion_tokens": 12, "temperature": 0, "ignore_eos": true });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The text that the system itself makes, greedily.
fn expected(texts: &Texts, ids: Vec<u32>, max_tokens: usize) -> (Vec<u32>, String) {
    let system = texts.system();
    let sampling = Sampling { max_tokens, ignore_eos: true, ..Sampling::default() };
    let made = system.generate(vec![Prompt { ids, sampling }]).unwrap().remove(0);
    let ids: Vec<u32> = made.iter().map(|token| token.id).collect();
    let text = system.backbone().decode(&ids).unwrap();
    (ids, text)
}

/// The text of a stream's chunks of one choice.
fn text_of(chunks: &[Value], index: usize) -> String {
    let choices = chunks.iter().filter_map(|chunk| chunk["choices"].get(0)).filter(|choice| choice["index"] == index);
    choices.filter_map(|choice| choice["delta"]["content"].as_str().or(choice["text"].as_str())).collect()
}

/// The chunk that ends a text.
fn end_of(chunks: &[Value], index: usize) -> &Value {
    let ends = |chunk: &&Value| {
        let choice = &chunk["choices"][0];
        choice["index"] == index && !choice["finish_reason"].is_null()
    };
    chunks.iter().find(ends).unwrap_or_else(|| panic!("no end in {chunks:?}"))
}

#[test]
fn a_conversation_is_the_same_whole_and_streamed() {
    let texts = Texts::new(GenerationSettings::default());
    let user = |text: &str| Message::new(Author::User, text);
    let mut messages = vec![user("With which letter does the word one begin?")];
    let ids = texts.system().backbone().encode_chat(&messages).unwrap();
    let (made, text) = expected(&texts, ids.clone(), 12);
    let answer = texts.post("/v1/chat/completions", &chat(&json!({})));
    assert_eq!(answer.header("x-s3t-epoch"), Some("0"));
    let stages = answer.header("x-s3t-stages").unwrap().to_owned();
    let body = answer.expect(200);
    let choice = &body["choices"][0];
    assert_eq!(
        (choice["message"]["content"].as_str(), choice["message"]["role"].as_str()),
        (Some(&*text), Some("assistant"))
    );
    assert_eq!((&body["object"], &choice["finish_reason"]), (&json!("chat.completion"), &json!("length")));
    let total = ids.len() + made.len();
    assert_eq!(
        body["usage"],
        json!({ "prompt_tokens": ids.len(), "completion_tokens": made.len(), "total_tokens": total })
    );
    let models = texts.get("/v1/models").expect(200);
    let model = &models["data"][0];
    assert_eq!((&model["id"], &model["s3t"]), (&json!("llama-tiny"), &body["s3t"]));
    assert_eq!(&texts.get("/v1/models/llama-tiny").expect(200), model);
    for stage in model["s3t"]["stages"].as_array().unwrap() {
        assert!(stages.contains(stage["stage"].as_str().unwrap()), "{stages}");
    }

    let more =
        json!({ "stream": true, "stream_options": { "include_usage": true }, "logprobs": true, "top_logprobs": 2 });
    let chunks = texts.stream("/v1/chat/completions", &chat(&more)).chunks();
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    assert_eq!(text_of(&chunks, 0), text);
    assert!(chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == chunks[0]["id"]));
    let told: Vec<&Value> =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["logprobs"]["content"].get(0)).collect();
    assert_eq!(told.len(), made.len());
    for token in told {
        assert_eq!(token["logprob"], token["top_logprobs"][0]["logprob"], "greedy takes the likeliest: {token}");
        assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 2);
    }
    let usage = chunks.last().unwrap();
    assert_eq!((&usage["usage"], &usage["choices"]), (&body["usage"], &json!([])));
    assert_eq!(end_of(&chunks, 0)["s3t"], body["s3t"]);

    // The next turn.
    messages.extend([Message::new(Author::Assistant, text.clone()), user("And the word three?")]);
    let ids = texts.system().backbone().encode_chat(&messages).unwrap();
    let (_, next) = expected(&texts, ids, 12);
    let messages: Vec<Value> =
        messages.iter().map(|message| json!({ "role": message.role.name(), "content": message.content })).collect();
    let body = texts.post("/v1/chat/completions", &chat(&json!({ "messages": messages }))).expect(200);
    assert_eq!(body["choices"][0]["message"]["content"], next);
}

#[test]
fn completions_take_texts_and_tokens_and_tell_scores() {
    let texts = Texts::new(GenerationSettings::default());
    let ask = |body: Value| texts.post("/v1/completions", &body).expect(200);
    let prompt = "With which letter";
    let ids = texts.system().backbone().encode_prompt(prompt).unwrap();
    let (made, text) = expected(&texts, ids.clone(), 8);
    let greedy = |prompt: Value| json!({ "prompt": prompt, "max_tokens": 8, "temperature": 0, "ignore_eos": true });
    for given in [json!(prompt), json!(ids), json!([ids]), json!([prompt, "The word", prompt])] {
        let body = ask(greedy(given));
        assert_eq!(body["choices"][0]["text"], text);
        let last = body["choices"].as_array().unwrap().len() - 1;
        assert_eq!(body["choices"][last]["text"], text, "in the place of its prompt");
    }
    let mut scored = greedy(json!(prompt));
    scored["logprobs"] = json!(3);
    scored["echo"] = json!(true);
    let body = ask(scored);
    assert_eq!(body["choices"][0]["text"], format!("{prompt}{text}"));
    let scores = &body["choices"][0]["logprobs"];
    let length = ids.len() + made.len();
    for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(scores[list].as_array().unwrap().len(), length, "{list}");
    }
    assert!(scores["token_logprobs"][0].is_null() && scores["token_logprobs"][1].as_f64().unwrap() < 0.0);
    let nothing = ask(json!({ "prompt": prompt, "max_tokens": 0, "echo": true }));
    assert_eq!((&nothing["choices"][0]["text"], &nothing["usage"]["completion_tokens"]), (&json!(prompt), &json!(0)));

    // The same seed gives the same text, whatever is asked beside it; and a text ends before a stop.
    let drawn = |prompt: Value| json!({ "prompt": prompt, "max_tokens": 20, "temperature": 1.5, "seed": -7, "ignore_eos": true });
    let alone = ask(drawn(json!(prompt)));
    let beside = ask(drawn(json!(["The word three", prompt, "e"])));
    assert_eq!(alone["choices"][0]["text"], beside["choices"][1]["text"]);
    let whole = alone["choices"][0]["text"].as_str().unwrap();
    let stop: String = whole.chars().skip(3).take(2).collect();
    let mut stopped = drawn(json!(prompt));
    stopped["stop"] = json!([stop]);
    let body = ask(stopped.clone());
    let expected = &whole[..whole.find(&stop).unwrap()];
    assert_eq!(
        (body["choices"][0]["text"].as_str(), &body["choices"][0]["finish_reason"]),
        (Some(expected), &json!("stop"))
    );
    stopped["stream"] = json!(true);
    assert_eq!(text_of(&texts.stream("/v1/completions", &stopped).chunks(), 0), expected);
}

#[test]
fn what_cannot_be_done_is_refused_by_name_in_openais_shape() {
    let (texts, tokens) = Texts::with(GenerationSettings::default(), &[Role::Ask, Role::Delete], |_| {});
    let [ask, delete] = &tokens[..] else { panic!() };
    let bearer = |token: &str| format!("authorization: Bearer {token}\r\n");
    let completion = |more: Value| {
        let mut body = json!({ "prompt": "one", "max_tokens": 2 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("/v1/completions", body)
    };
    let long: Vec<u32> = vec![5; 128];
    let cases = [
        (completion(json!({ "n": 2 })), 400, "`n` is not supported"),
        (completion(json!({ "best_of": 4 })), 400, "`best_of` is not supported"),
        (completion(json!({ "use_beam_search": true })), 400, "beam search"),
        (completion(json!({ "temprature": 1 })), 400, "did you mean `temperature`?"),
        (completion(json!({ "temperature": -1 })), 400, "`temperature` is -1"),
        (completion(json!({ "top_p": "a" })), 400, "`top_p`: invalid type"),
        (completion(json!({ "logit_bias": { "word": 1 } })), 400, "`logit_bias` has the key `word`"),
        (completion(json!({ "stream_options": {} })), 400, "`stream_options` is for answers with `stream`"),
        (completion(json!({ "max_tokens": 0 })), 400, "`max_tokens` is 0"),
        (completion(json!({ "prompt": [] })), 400, "the prompt has no token"),
        (completion(json!({ "prompt": [1, "a"] })), 400, "`prompt` takes"),
        (completion(json!({ "prompt": [100_000] })), 400, "the prompt has the token 100000"),
        (completion(json!({ "prompt": long })), 400, "the prompt has 128 tokens"),
        (completion(json!({ "prompt": vec!["a"; 33] })), 413, "`prompt` has 33 prompts, and 1 to 32 are taken"),
        (completion(json!({ "model": "gpt" })), 404, "no model `gpt`; this server has `llama-tiny`"),
        (("/v1/chat/completions", json!({})), 400, "`messages` is missing"),
        (("/v1/chat/completions", json!({ "messages": [{ "role": "tool", "content": "" }] })), 400, "role `tool`"),
        (("/v1/chat/completions", chat(&json!({ "tools": [{}] }))), 400, "`tools` is not supported"),
        (("/v1/chat/completions", chat(&json!({ "top_logprobs": 2 }))), 400, "`top_logprobs` is for answers"),
        (("/v1/chat/completions", chat(&json!({ "max_tokens": 3 }))), 400, "are one setting"),
    ];
    for ((path, body), status, message) in cases {
        let answer = texts.ask("POST", path, &bearer(ask), &body);
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(answer.message().contains(message), "{body}: {}", answer.body);
        assert!(answer.body["error"]["type"].is_string() && answer.body["error"]["code"].is_string());
    }
    let (path, body) = completion(json!({}));
    assert_eq!(texts.post(path, &body).status, 401);
    assert_eq!(texts.ask("POST", path, &bearer(delete), &body).body["error"]["type"], "permission_error");
    let past = texts.ask("POST", path, &format!("{}x-s3t-min-epoch: 9\r\n", bearer(ask)), &body);
    assert_eq!((past.status, &past.body["error"]["code"]), (412, &json!("epoch-not-reached")));
    assert_eq!(texts.ask("GET", "/v1/models/gpt", &bearer(ask), &Value::Null).status, 404);
    assert_eq!(texts.ask("GET", path, &bearer(ask), &Value::Null).status, 405);
    texts.ask("POST", path, &bearer(ask), &body).expect(200);
    // Classes and numbers are asked for elsewhere, and the refusal there has its own shape.
    let elsewhere = texts.ask("POST", "/predict", &bearer(ask), &json!({ "inputs": "one" })).expect(422);
    assert!(elsewhere["error"].as_str().unwrap().contains("/v1/completions"), "{elsewhere}");
}

#[test]
fn a_caller_alone_fills_half_of_the_places() {
    let texts = Texts::new(GenerationSettings { max_texts: 2, max_waiting: 4, ..GenerationSettings::default() });
    let body = |number: usize| json!({ "prompt": vec!["one"; number], "max_tokens": 2 });
    texts.post("/v1/completions", &body(3)).expect(200);
    let too_many = texts.post("/v1/completions", &body(4));
    assert_eq!((too_many.status, too_many.message().contains("at most 3 at a time")), (413, true), "{}", too_many.body);
    for _ in 0..50 {
        let stream = texts.stream("/v1/completions", &many(3));
        let answer = texts.post("/v1/completions", &body(1));
        let chunks = stream.chunks();
        assert_eq!(end_of(&chunks, 2)["choices"][0]["finish_reason"], "length", "what was taken goes on");
        texts.wait_until_idle();
        if answer.status == 429 {
            assert_eq!(answer.header("retry-after"), Some("1"), "{}", answer.head);
            assert_eq!(answer.body["error"]["type"], "rate_limit_error");
            assert_eq!(texts.figure("s3t_texts_refused_total"), 1.0);
            // The places are free again.
            texts.post("/v1/completions", &body(3)).expect(200);
            return;
        }
        // The stream was over before.
        answer.expect(200);
    }
    panic!("three texts ended each time before the next request");
}

/// Texts that go on for long, all in one stream.
fn many(number: usize) -> Value {
    json!({ "prompt": vec!["one"; number], "max_tokens": 120, "temperature": 1, "ignore_eos": true, "stream": true })
}

/// Streams of texts with a deletion after the first token, until a deletion has come before an end: the chunks and the epoch.
fn with_deletion(texts: &Texts) -> (Vec<Value>, u64) {
    for attempt in 0..10 {
        let mut stream = texts.stream("/v1/completions", &many(24));
        let first: Value = serde_json::from_str(&stream.next().unwrap()).unwrap();
        let epoch = texts.delete(attempt);
        let mut chunks = vec![first];
        chunks.extend(stream.chunks());
        for index in 0..24 {
            let origin = &end_of(&chunks, index)["s3t"];
            assert!(origin["began"].as_u64() <= origin["epoch"].as_u64() && origin["epoch"].as_u64().unwrap() <= epoch);
        }
        if (0..24).any(|index| end_of(&chunks, index)["s3t"]["began"].as_u64().unwrap() < epoch) {
            let hit = (0..24).any(|index| {
                let end = end_of(&chunks, index);
                end["choices"][0]["finish_reason"] == "deletion" || end["s3t"]["began"] != end["s3t"]["epoch"]
            });
            if hit {
                return (chunks, epoch);
            }
        }
        texts.repair();
    }
    panic!("every text ended before the deletion");
}

#[test]
fn a_deletion_ends_a_text_or_lets_it_go_on_and_is_never_silent() {
    for on_deletion in [OnDeletion::Stop, OnDeletion::Continue] {
        let texts = Texts::new(GenerationSettings { on_deletion, ..GenerationSettings::default() });
        let before = texts.get("/v1/models").expect(200)["data"][0]["s3t"].clone();
        let (chunks, epoch) = with_deletion(&texts);
        for index in 0..24 {
            let end = end_of(&chunks, index);
            let (reason, origin) = (end["choices"][0]["finish_reason"].as_str().unwrap(), &end["s3t"]);
            match (on_deletion, reason) {
                // It had ended before, or began afterwards.
                (_, "length") if origin["began"] == origin["epoch"] => {}
                (OnDeletion::Stop, "deletion") => assert!(origin["epoch"].as_u64().unwrap() < epoch, "{origin}"),
                (OnDeletion::Continue, "length") => {
                    assert_eq!(origin["epoch"], epoch);
                    assert_ne!(origin["stages"], before["stages"]);
                }
                other => panic!("{other:?}: {end}"),
            }
        }
        // Whatever begins now knows of it.
        let headers = format!("x-s3t-min-epoch: {epoch}\r\n");
        let body = json!({ "prompt": "one", "max_tokens": 2 });
        let after = texts.ask("POST", "/v1/completions", &headers, &body).expect(200);
        assert_eq!((&after["s3t"]["began"], &after["s3t"]["epoch"]), (&json!(epoch), &json!(epoch)));
    }
}

#[test]
fn a_follower_continues_texts_as_its_leader_does_and_none_with_a_dead_stage() {
    let texts = Texts::with(GenerationSettings::default(), &[], |settings| settings.lease_seconds = 5.0).0;
    let follower = texts.follower();
    let body = json!({ "prompt": "one", "max_tokens": 12, "temperature": 0, "logprobs": 2 });
    let of_both = || {
        let theirs = texts.post("/v1/completions", &body).expect(200);
        let own = ask_at(follower.address(), "POST", "/v1/completions", "", &body).expect(200);
        assert_eq!((&own["choices"], &own["s3t"]), (&theirs["choices"], &theirs["s3t"]));
        own
    };
    of_both();
    let mut stream = stream_at(follower.address(), "/v1/completions", &many(24));
    let first: Value = serde_json::from_str(&stream.next().unwrap()).unwrap();
    // Acknowledged when the follower has confirmed it.
    let epoch = texts.delete(0);
    let headers = format!("x-s3t-min-epoch: {epoch}\r\n");
    let after = ask_at(follower.address(), "POST", "/v1/completions", &headers, &body).expect(200);
    assert_eq!((&after["s3t"]["began"], &after["s3t"]["epoch"]), (&json!(epoch), &json!(epoch)));
    let receipts = texts.system().store().receipts().unwrap();
    let stages = after["s3t"]["stages"].to_string();
    assert!(!receipts[0].effect.cut.is_empty());
    assert!(receipts[0].effect.cut.iter().all(|key| !stages.contains(&key.to_string())), "{stages}");
    // Texts that were under way have ended before it, or say that it ended them: none goes on with other stages.
    let mut chunks = vec![first];
    chunks.extend(stream.chunks());
    for index in 0..24 {
        let end = end_of(&chunks, index);
        let (reason, origin) = (end["choices"][0]["finish_reason"].as_str().unwrap(), &end["s3t"]);
        assert_eq!(origin["began"], origin["epoch"], "{end}");
        assert!(reason == "length" || (reason == "deletion" && origin["epoch"].as_u64().unwrap() < epoch), "{end}");
    }
    of_both();
}

#[test]
fn a_client_that_hangs_up_ends_its_text() {
    let texts = Texts::new(GenerationSettings::default());
    for _ in 0..50 {
        let mut stream = texts.stream("/v1/completions", &many(24));
        stream.next().unwrap();
        drop(stream);
        texts.wait_until_idle();
        if texts.figure("s3t_texts_total{reason=\"cancelled\"}") > 0.0 {
            assert_eq!(texts.figure("s3t_text_cache_bytes{state=\"reserved\"}"), 0.0);
            return;
        }
    }
    panic!("every text ended before its client was gone");
}

/// Texts at a time; more with `S3T_TEXTS`.
const TEXTS: usize = 40;

#[test]
fn texts_come_and_go_with_deletions_and_leave_nothing_behind() {
    let number = std::env::var("S3T_TEXTS").ok().and_then(|number| number.parse().ok()).unwrap_or(TEXTS);
    let settings = GenerationSettings {
        max_texts: 32,
        max_waiting: 4 * number,
        on_deletion: OnDeletion::Continue,
        ..GenerationSettings::default()
    };
    let texts = Texts::new(settings);
    // The stages that are dead, by the epoch at which they died.
    let (epoch, dead) = (std::sync::atomic::AtomicU64::new(0), std::sync::Mutex::new(Vec::<(u64, String)>::new()));
    let address = texts.address();
    let rounds = if number > TEXTS { 4 } else { 1 };
    for round in 0..rounds {
        std::thread::scope(|scope| {
            let ask = |index: usize| {
                let (epoch, texts) = (&epoch, &texts);
                move || {
                    let acknowledged = epoch.load(std::sync::atomic::Ordering::SeqCst);
                    let body = json!({
                        "prompt": format!("The word {index}"), "max_tokens": 1 + (index * 13) % 100, "seed": index,
                        "ignore_eos": true, "stream": true,
                    });
                    let mut stream = crate::texts_world::stream_at(address, "/v1/completions", &body);
                    match index % 4 {
                        // Hangs up at once, or after a few tokens.
                        0 => None,
                        1 => {
                            stream.by_ref().take(index % 7).for_each(drop);
                            None
                        }
                        _ => {
                            let chunks = stream.chunks();
                            let origin = end_of(&chunks, 0)["s3t"].clone();
                            assert!(origin["began"].as_u64().unwrap() >= acknowledged, "{origin} after {acknowledged}");
                            let _ = texts;
                            Some(origin)
                        }
                    }
                }
            };
            let asked: Vec<_> = (0..number).map(|index| scope.spawn(ask(index))).collect();
            for record in 10 * round..10 * round + 6 {
                let body = json!({ "request_id": format!("ticket-{record}"), "records": [format!("record-{record}")] });
                let made = texts.post("/deletions", &body).expect(201);
                let receipt = texts.get(&format!("/deletions/ticket-{record}/receipt")).expect(200);
                let now = made["epoch"].as_u64().unwrap();
                let cut = receipt["effect"]["cut"].as_array().unwrap();
                dead.lock().unwrap().extend(cut.iter().map(|key| (now, key.as_str().unwrap().to_owned())));
                epoch.store(now, std::sync::atomic::Ordering::SeqCst);
                texts.repair();
            }
            let dead = dead.lock().unwrap();
            for origin in asked.into_iter().filter_map(|asked| asked.join().unwrap()) {
                let known = origin["epoch"].as_u64().unwrap();
                let gone: BTreeSet<&str> =
                    dead.iter().filter(|(epoch, _)| *epoch <= known).map(|(_, key)| key.as_str()).collect();
                for stage in origin["stages"].as_array().unwrap() {
                    assert!(!gone.contains(stage["stage"].as_str().unwrap_or_default()), "{origin} has a dead stage");
                }
            }
        });
        texts.wait_until_idle();
        assert_eq!(texts.figure("s3t_text_cache_bytes{state=\"reserved\"}"), 0.0);
        let ended: f64 = ["stop", "length", "deletion", "cancelled", "failed"]
            .map(|reason| texts.figure(&format!("s3t_texts_total{{reason=\"{reason}\"}}")))
            .iter()
            .sum();
        let failed = texts.figure("s3t_texts_total{reason=\"failed\"}");
        say(&format!("{ended} texts, {failed} failed, {} kB", memory()));
        assert_eq!((ended as usize, failed), (number * (round + 1), 0.0));
    }
}

/// The resident memory of this process in kB, where the system tells it.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[allow(clippy::print_stdout, reason = "a soak says what it did")]
fn say(text: &str) {
    println!("{text}");
}
