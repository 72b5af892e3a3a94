//! Systems of real model families, on tiny models. The files are one program, because linking one takes seconds: `cargo test -p s3t --test all chat::` runs
//! the tests of `chat.rs`.

mod attack_on_language;
mod batches;
mod chat;
mod chat_systems;
mod generator;
mod language_tasks;
mod memorisation;
mod pictures;
mod plugin_laws;
mod text_systems;
