//! The plugins that pages of `docs/guide` write, made from the pages' code blocks by `build.rs`.

/// The method of `docs/guide/writing-a-peft-method.md`.
pub mod method {
    include!(concat!(env!("OUT_DIR"), "/writing-a-peft-method.rs"));
}

/// The model family of `docs/guide/writing-a-model-family.md`.
pub mod family {
    include!(concat!(env!("OUT_DIR"), "/writing-a-model-family.rs"));
}

/// The sequence strategy of `docs/guide/writing-a-strategy.md`.
pub mod strategy {
    include!(concat!(env!("OUT_DIR"), "/writing-a-strategy.rs"));
}

/// The aggregator, the choice of members and the partitioner of `docs/guide/writing-an-aggregator.md`.
pub mod aggregator {
    include!(concat!(env!("OUT_DIR"), "/writing-an-aggregator.rs"));
}
