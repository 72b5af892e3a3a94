use std::path::PathBuf;

/// A field of a file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct FieldError {
    /// The field.
    pub field: String,
    /// The problem, as it follows the field's name in a sentence, with the values that are accepted.
    pub problem: String,
}

impl FieldError {
    /// The error of a field.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// A model directory, or a record for a model, that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file that cannot be read.
    #[error("cannot read `{path}`: {cause}; a model is a folder with `config.json` and `model.safetensors`")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
    /// A file that cannot be written.
    #[error("cannot write `{path}`: {cause}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
    /// A field of a file with a value that cannot be used.
    #[error("`{path}`: {error}")]
    Field {
        /// The file.
        path: PathBuf,
        /// The field and the problem.
        error: FieldError,
    },
    /// A JSON file that is not what it should be.
    #[error("`{path}`: {problem}")]
    Config {
        /// The file.
        path: PathBuf,
        /// The problem, and the values that are accepted.
        problem: String,
    },
    /// A weight file that is not valid safetensors.
    #[error("`{path}` is not a valid safetensors file: {problem}; fetch it again")]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// Tensors that the model needs and the file does not have.
    #[error("`{path}` lacks {} of the model's tensors: {}", .names.len(), shown(.names))]
    MissingTensors {
        /// The file.
        path: PathBuf,
        /// The tensors.
        names: Vec<String>,
    },
    /// Tensors in the file that the model has no place for.
    #[error("`{path}` holds {} tensors that the model described by config.json has no place for: {}; `num_hidden_layers` and switches such as `qkv_bias` or `attention_bias` say what it has", .names.len(), shown(.names))]
    ExtraTensors {
        /// The file.
        path: PathBuf,
        /// The tensors.
        names: Vec<String>,
    },
    /// A tensor with a value that is not a finite number.
    #[error("`{path}`: tensor `{name}` holds {value} at position {position}; a model of finite numbers is needed")]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The value.
        value: f32,
        /// Its flat position.
        position: usize,
    },
    /// A head of which a part is missing.
    #[error(
        "`{path}` holds a part of a head, {}, but not {}, which transformers would fill with random numbers",
        shown(.present), shown(.names)
    )]
    HeadLacks {
        /// The file.
        path: PathBuf,
        /// The tensors of the head that are there.
        present: Vec<String>,
        /// The missing tensors.
        names: Vec<String>,
    },
    /// Tensors of a head that the model's type has no place for.
    #[error("`{path}` holds {}, which the head of this model type has no place for", shown(.names))]
    HeadExtra {
        /// The file.
        path: PathBuf,
        /// The tensors.
        names: Vec<String>,
    },
    /// Outputs that are not finite.
    #[error(
        "record `{record}`: the model's outputs are not finite numbers; its weights or an adapter's are too large for 32-bit arithmetic"
    )]
    OutputNotFinite {
        /// The record's id.
        record: String,
    },
    /// A tensor of another shape or number format than the model's.
    #[error("`{path}`: tensor `{name}` is {found}, but config.json asks for {expected}")]
    WrongTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The tensor's or record's kind.
        found: String,
        /// The shape and number format that config.json asks for.
        expected: String,
    },
    /// A tokenizer that cannot be read.
    #[error("cannot read `{path}`: {cause}; a model of texts comes with its `tokenizer.json`")]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
    /// A layer of more inputs than sums of 8-bit integers have room for.
    #[error("`{layer}` has {inputs} inputs; `model.weights` = \"int8\" takes layers of at most {max}, so use \"full\"")]
    TooManyInputs {
        /// The layer.
        layer: String,
        /// Its inputs.
        inputs: usize,
        /// The largest number.
        max: usize,
    },
    /// More or fewer tokens than the model can take.
    #[error("`max_tokens` is {asked}; this model takes 4 to {positions}")]
    MaxTokens {
        /// The tokens asked for.
        asked: usize,
        /// The number of positions of the model.
        positions: usize,
    },
    /// A chat template that cannot be used, or that refuses messages.
    #[error("`{path}`: the chat template cannot be used: {problem}")]
    ChatTemplate {
        /// The file.
        path: PathBuf,
        /// The problem, with its line.
        problem: String,
    },
    /// A model without a chat template that is asked to chat.
    #[error(
        "the model has no chat template, which says what a chat is as a text; add `{path}`, as the model's authors publish it, or \
         `chat_template` to tokenizer_config.json"
    )]
    NoChatTemplate {
        /// The file to add.
        path: PathBuf,
    },
    /// A chat that cannot be learnt from or asked about.
    #[error("record `{record}`: its chat cannot be used: {problem}")]
    Chat {
        /// The record's id.
        record: String,
        /// The problem.
        problem: String,
    },
    /// A prompt that the model cannot take.
    #[error("the prompt cannot be used: {problem}")]
    Prompt {
        /// The problem.
        problem: String,
    },
    /// A record that the model cannot take.
    #[error("record `{record}` is a {found}, but the model takes {expected}")]
    WrongInput {
        /// The record's id.
        record: String,
        /// The tensor's or record's kind.
        found: String,
        /// The kind that the model takes.
        expected: String,
    },
}

/// The first five names.
fn shown(names: &[String]) -> String {
    let mut text = names.iter().take(5).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > 5 {
        text.push_str(", ...");
    }
    text
}
