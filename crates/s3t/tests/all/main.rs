//! Systems of real families on tiny models, in one program as each is linked with everything: `cargo test -p s3t --test all chat::` runs the tests of one file.

mod batches;
mod chat;
mod chat_systems;
mod generator;
mod language_tasks;
mod memorisation;
mod pictures;
mod plugin_laws;
mod text_systems;
