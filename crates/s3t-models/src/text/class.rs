//! The tokenizers that classes of Python's library build for themselves.
//!
//! `AutoTokenizer` of transformers 5.24 takes the vocabulary, the merges and the added tokens of `tokenizer.json`; where the class
//! that the files name sets the rest up itself, it passes over what `tokenizer.json` says of it. Llama's class is followed. For those of
//! BERT, RoBERTa, XLM-RoBERTa, GPT-2 and Qwen2 `tokenizer.json` has to say the same. The others are refused by name.

use serde_json::{Map, Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

use super::chat::special;
use crate::FieldError;
use crate::fields::{ACCEPT, shown};
use crate::model_file::ModelFile;

/// The way in which texts are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `tokenizer.json` as it is.
    File,
    Bert,
    Gpt2,
    Llama,
    Qwen2,
    Roberta,
    XlmRoberta,
    /// Something of its own that is not known here.
    Other,
}

/// The classes that are subclasses or other names of BERT's, and those with the types of the tokens of a pair among their outputs.
const BERT: [&str; 8] = [
    "BertTokenizer",
    "ConvBertTokenizer",
    "DistilBertTokenizer",
    "DPRContextEncoderTokenizer",
    "DPRQuestionEncoderTokenizer",
    "ElectraTokenizer",
    "MobileBertTokenizer",
    "SqueezeBertTokenizer",
];
const ROBERTA: [&str; 5] = ["RobertaTokenizer", "BartTokenizer", "LEDTokenizer", "LongformerTokenizer", "MvpTokenizer"];

/// The other classes of the library that set a tokenizer up themselves, whatever `tokenizer.json` says.
const OTHERS: [&str; 45] = [
    "AlbertTokenizer",
    "BarthezTokenizer",
    "BigBirdTokenizer",
    "BlenderbotTokenizer",
    "CLIPTokenizer",
    "CamembertTokenizer",
    "CodeGenTokenizer",
    "CodeLlamaTokenizer",
    "CohereTokenizer",
    "DPRReaderTokenizer",
    "DebertaTokenizer",
    "DebertaV2Tokenizer",
    "EsmcTokenizer",
    "FNetTokenizer",
    "FunnelTokenizer",
    "GPTNeoXTokenizer",
    "GemmaTokenizer",
    "HerbertTokenizer",
    "LasrTokenizer",
    "LayoutLMv2Tokenizer",
    "LayoutLMv3Tokenizer",
    "LayoutXLMTokenizer",
    "LukeTokenizer",
    "MBart50Tokenizer",
    "MBartTokenizer",
    "MLukeTokenizer",
    "MPNetTokenizer",
    "MarkupLMTokenizer",
    "NllbTokenizer",
    "NougatTokenizer",
    "OpenAIGPTTokenizer",
    "PegasusTokenizer",
    "Qwen3_5Tokenizer",
    "ReformerTokenizer",
    "RemBertTokenizer",
    "SeamlessM4TTokenizer",
    "Siglip2Tokenizer",
    "SplinterTokenizer",
    "T5Tokenizer",
    "Tipsv2Tokenizer",
    "UdopTokenizer",
    "VideoPrismTokenizer",
    "WhisperTokenizer",
    "XGLMTokenizer",
    "XLNetTokenizer",
];

/// The letter that stands for a blank in vocabularies of pieces.
const BLANK: &str = "\u{2581}";

/// The pattern by which Qwen2's class splits texts before it cuts them.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The class that the files of a model name.
pub(super) struct Class {
    kind: Kind,
    /// The name as the files have it; empty if they name none.
    name: String,
    /// True if the tokens of the second text of a pair get a type of their own.
    pub(super) types: bool,
}

impl Class {
    /// The class of a name, as `AutoTokenizer` resolves it. Without a name `tokenizer.json` counts as it is.
    pub(super) fn of(name: &str, file: &ModelFile, config: &Map<String, Value>, json: &Value) -> Self {
        let class = name.strip_suffix("Fast").unwrap_or(name);
        let model_type = file.fields().get("model_type").and_then(Value::as_str).unwrap_or_default();
        let kind = match (model_type, class) {
            (_, "") | ("mistral", _) => Kind::File,
            // Its files are known to name wrong classes.
            ("qwen2", _) | (_, "Qwen2Tokenizer") => Kind::Qwen2,
            (_, "LlamaTokenizer") if has_byte_level(json) => Kind::File,
            (_, "LlamaTokenizer") => Kind::Llama,
            (_, "GPT2Tokenizer") => Kind::Gpt2,
            (_, "XLMRobertaTokenizer") => Kind::XlmRoberta,
            (_, class) if BERT.contains(&class) => Kind::Bert,
            (_, class) if ROBERTA.contains(&class) => Kind::Roberta,
            (_, class) if OTHERS.contains(&class) => Kind::Other,
            _ => Kind::File,
        };
        let types = match config.get("model_input_names").and_then(Value::as_array) {
            Some(names) => names.iter().any(|name| name == "token_type_ids"),
            None => class.is_empty() || (kind == Kind::Bert && class != "DistilBertTokenizer"),
        };
        Self { kind, name: name.to_owned(), types }
    }

    /// The file with what the class sets up itself; `None` if the file says the same, or counts as it is.
    pub(super) fn rebuilt(&self, config: &Map<String, Value>, json: &Value) -> Result<Option<Value>, FieldError> {
        if self.kind != Kind::Llama {
            return Ok(None);
        }
        self.of_type(json, "BPE")?;
        let asked = |name: &str| config.get(name).and_then(Value::as_bool);
        let prefix = asked("add_prefix_space").unwrap_or(true);
        let scheme = match (prefix, asked("legacy")) {
            (false, _) => "never",
            (true, Some(true)) => "always",
            (true, _) => "first",
        };
        let mut decoders = vec![
            json!({ "type": "Replace", "pattern": { "String": BLANK }, "content": " " }),
            json!({ "type": "ByteFallback" }),
            json!({ "type": "Fuse" }),
        ];
        if prefix {
            decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
        }
        let mut built = json.clone();
        built["normalizer"] = Value::Null;
        built["pre_tokenizer"] = metaspace(scheme, false);
        built["decoder"] = json!({ "type": "Sequence", "decoders": decoders });
        for (name, value) in [
            ("unk_token", Value::Null),
            ("continuing_subword_prefix", Value::Null),
            ("end_of_word_suffix", Value::Null),
            ("fuse_unk", true.into()),
            ("byte_fallback", true.into()),
            ("ignore_merges", false.into()),
        ] {
            built["model"][name] = value;
        }
        Ok((built != *json).then_some(built))
    }

    /// Compares what the class sets up itself with the file.
    pub(super) fn check(
        &self,
        config: &Map<String, Value>,
        map: &Map<String, Value>,
        json: &Value,
        tokenizer: &Tokenizer,
    ) -> Result<(), FieldError> {
        self.letters(config, json)?;
        let asked = |name: &str| config.get(name).and_then(Value::as_bool).unwrap_or(false);
        match self.kind {
            Kind::File | Kind::Llama => return Ok(()),
            Kind::Other => {
                let problem = format!(
                    "is `{}`, which in transformers 5.24 builds a tokenizer of its own whatever tokenizer.json says; name the class \
                     `PreTrainedTokenizerFast`, or cut texts by tokenizer.json alone{ACCEPT}",
                    self.name
                );
                return Err(FieldError::new("tokenizer_class", problem));
            }
            Kind::Bert => {
                self.model(json, "WordPiece")?;
                self.pre_tokenizers(json, &[json!({ "type": "BertPreTokenizer" })])?;
                self.word_pieces(config, map, json)?;
                self.ends(config, map, tokenizer, [("cls_token", "[CLS]"), ("sep_token", "[SEP]")], 1)?;
            }
            Kind::Roberta => {
                self.model(json, "BPE")?;
                self.normalizers(json, &[])?;
                self.pre_tokenizers(json, &[byte_level(asked("add_prefix_space"), true)])?;
                self.ends(config, map, tokenizer, [("cls_token", "<s>"), ("sep_token", "</s>")], 2)?;
            }
            Kind::Gpt2 => {
                self.model(json, "BPE")?;
                self.normalizers(json, &[])?;
                self.pre_tokenizers(json, &[byte_level(asked("add_prefix_space"), true)])?;
            }
            Kind::Qwen2 => {
                self.model(json, "BPE")?;
                self.normalizers(json, &[json!({ "type": "NFC" })])?;
                let split = json!({
                    "type": "Split", "pattern": { "Regex": QWEN2 }, "behavior": "Isolated", "invert": false
                });
                self.pre_tokenizers(json, &[split, byte_level(asked("add_prefix_space"), false)])?;
            }
            Kind::XlmRoberta => {
                self.model(json, "Unigram")?;
                let of_file = parts(json, "normalizer", "normalizers").into_iter();
                let precompiled: Vec<Value> = of_file.filter(|part| kind(part) == "Precompiled").cloned().collect();
                self.normalizers(json, &precompiled)?;
                let prefix = config.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(true);
                let blanks = metaspace(if prefix { "always" } else { "never" }, true);
                self.pre_tokenizers(json, &[json!({ "type": "WhitespaceSplit" }), blanks])?;
                self.ends(config, map, tokenizer, [("bos_token", "<s>"), ("eos_token", "</s>")], 2)?;
            }
        }
        Ok(())
    }

    /// The error of a part that the class sets up otherwise.
    fn other<T>(&self, part: &str, found: &str, builds: &str) -> Result<T, FieldError> {
        let problem = format!(
            "is `{}`, which in transformers 5.24 builds {builds} as its {part} whatever tokenizer.json says, but tokenizer.json has \
             {found}; make them agree, or cut texts by tokenizer.json alone{ACCEPT}",
            self.name
        );
        Err(FieldError::new("tokenizer_class", problem))
    }

    fn of_type(&self, json: &Value, builds: &str) -> Result<(), FieldError> {
        // Older files do not say the type.
        match json.get("model").map_or("", kind) {
            "" => Ok(()),
            found if found == builds => Ok(()),
            found => self.other("model", found, builds),
        }
    }

    fn model(&self, json: &Value, builds: &str) -> Result<(), FieldError> {
        self.of_type(json, builds)?;
        // The classes take pieces as they are, and merge them.
        if builds != "BPE" {
            return Ok(());
        }
        let model = &json["model"];
        let vocabulary = model.get("vocab").and_then(Value::as_object);
        let knows = |byte: &char| vocabulary.is_some_and(|of| of.contains_key(&byte.to_string()));
        for field in ["continuing_subword_prefix", "end_of_word_suffix", "ignore_merges", "unk_token", "byte_fallback"]
        {
            let found = model.get(field).unwrap_or(&Value::Null);
            let nothing = [Value::Null, "".into(), false.into()].contains(found);
            // Nothing is unknown where every byte is known.
            let of_unknown = ["unk_token", "byte_fallback"].contains(&field);
            if !(nothing || of_unknown && ByteLevel::alphabet().iter().all(knows)) {
                let found = format!("BPE with `{field}` {}", shown(found));
                return self.other("model", &found, &format!("BPE without `{field}`"));
            }
        }
        Ok(())
    }

    fn normalizers(&self, json: &Value, builds: &[Value]) -> Result<(), FieldError> {
        self.same("normalizer", &parts(json, "normalizer", "normalizers"), builds, |part| {
            let read = serde_json::from_value::<NormalizerWrapper>(part.clone()).ok();
            read.and_then(|part| serde_json::to_value(part).ok())
        })
    }

    fn pre_tokenizers(&self, json: &Value, builds: &[Value]) -> Result<(), FieldError> {
        self.same("pre-tokenizer", &parts(json, "pre_tokenizer", "pretokenizers"), builds, |part| {
            let mut part = part.clone();
            // Where a token stands in its text is not used.
            if let Some(offsets) = part.get_mut("trim_offsets") {
                *offsets = true.into();
            }
            serde_json::from_value::<PreTokenizerWrapper>(part).ok()
        })
    }

    /// Refuses parts that are read otherwise than those that the class builds.
    fn same<T: PartialEq>(
        &self,
        part: &str,
        found: &[&Value],
        builds: &[Value],
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<(), FieldError> {
        let kinds = |parts: Vec<&str>| if parts.is_empty() { "none".into() } else { parts.join(" and ") };
        let [of_file, of_class] =
            [found.iter().map(|part| kind(part)).collect(), builds.iter().map(kind).collect()].map(kinds);
        if of_file != of_class {
            return self.other(part, &of_file, &of_class);
        }
        match found.iter().zip(builds).find(|(found, builds)| read(found) != read(builds)) {
            Some((found, builds)) => self.other(part, &found.to_string(), &builds.to_string()),
            None => Ok(()),
        }
    }

    /// The fields of small letters, accents and Chinese letters, which say what the normalizer does, whatever the class.
    fn letters(&self, config: &Map<String, Value>, json: &Value) -> Result<(), FieldError> {
        let bert = self.kind == Kind::Bert;
        let normalizers = parts(json, "normalizer", "normalizers");
        let has = |name: &str| normalizers.iter().any(|part| kind(part) == name);
        let of_bert = normalizers.iter().find(|part| kind(part) == "BertNormalizer");
        let flag = |name: &str| of_bert.and_then(|part| part.get(name)).and_then(Value::as_bool);
        if bert && (of_bert.is_none() || normalizers.len() > 1 || flag("clean_text") == Some(false)) {
            return self.other(
                "normalizer",
                &normalizers.iter().map(|part| kind(part)).collect::<Vec<_>>().join(" and "),
                "BertNormalizer with `clean_text`",
            );
        }
        let lower = flag("lowercase").unwrap_or_else(|| has("Lowercase"));
        // BERT's class strips accents where it makes letters small, unless it is told.
        let accents = flag("strip_accents").unwrap_or(if of_bert.is_some() { lower } else { has("StripAccents") });
        let chinese = flag("handle_chinese_chars").unwrap_or(of_bert.is_some());
        let asked = |name: &str| config.get(name).and_then(Value::as_bool);
        let lower_asked = asked("do_lower_case").or(bert.then_some(true));
        let accents_asked = asked("strip_accents").or(if bert { lower_asked } else { None });
        let chinese_asked =
            asked("tokenize_chinese_chars").filter(|_| bert || of_bert.is_some()).or(bert.then_some(true));
        for (name, asked, does) in [
            ("do_lower_case", lower_asked, lower),
            ("strip_accents", accents_asked, accents),
            ("tokenize_chinese_chars", chinese_asked, chinese),
        ] {
            if let Some(asked) = asked.filter(|asked| *asked != does) {
                let stands = if config.contains_key(name) { "is" } else { "is left out, which means" };
                let problem = format!(
                    "{stands} {asked}, but the normalizer of tokenizer.json does the opposite; make them agree"
                );
                return Err(FieldError::new(name, problem));
            }
        }
        Ok(())
    }

    /// The pieces of BERT's classes.
    fn word_pieces(
        &self,
        config: &Map<String, Value>,
        map: &Map<String, Value>,
        json: &Value,
    ) -> Result<(), FieldError> {
        let unknown = special("unk_token", config, map).and_then(content).unwrap_or("[UNK]");
        for (field, builds) in [
            ("unk_token", Value::from(unknown)),
            ("continuing_subword_prefix", "##".into()),
            ("max_input_chars_per_word", 100.into()),
        ] {
            let found = json["model"].get(field).unwrap_or(&builds);
            if *found != builds {
                let [found, builds] =
                    [found, &builds].map(|value| format!("WordPiece with `{field}` {}", shown(value)));
                return self.other("model", &found, &builds);
            }
        }
        Ok(())
    }

    /// The tokens around a text and around a pair, between whose texts stand `between` of the last.
    fn ends(
        &self,
        config: &Map<String, Value>,
        map: &Map<String, Value>,
        tokenizer: &Tokenizer,
        names: [(&str, &str); 2],
        between: usize,
    ) -> Result<(), FieldError> {
        let text =
            names.map(|(name, default)| special(name, config, map).and_then(content).unwrap_or(default).to_owned());
        let [Some(first), Some(last)] = text.clone().map(|token| tokenizer.token_to_id(&token)) else {
            let found = format!("no token `{}` or no token `{}`", text[0], text[1]);
            return self.other("post-processor", &found, "one with both");
        };
        let alone = tokenizer.encode("", true).map(|encoding| encoding.get_ids().to_vec()).unwrap_or_default();
        let pair = tokenizer.encode(("", ""), true).ok();
        let (ids, types) = pair.map(|pair| (pair.get_ids().to_vec(), pair.get_type_ids().to_vec())).unwrap_or_default();
        let mut of_pair = vec![first];
        of_pair.extend(vec![last; between + 1]);
        // The second text of a pair, and the token behind it, have a type of their own in BERT's classes.
        let mut types_of_pair = vec![0; of_pair.len()];
        if self.kind == Kind::Bert {
            types_of_pair[between + 1] = 1;
        }
        if alone != [first, last] || ids != of_pair || (self.types && types != types_of_pair) {
            let last = vec![text[1].as_str(); between].join(" ");
            let builds = format!("`{} A {}` and `{0} A {last} B {1}`", text[0], text[1]);
            return self.other("post-processor", "another", &builds);
        }
        Ok(())
    }
}

/// The class that a file names.
pub(super) fn named(fields: &Map<String, Value>) -> Result<Option<&str>, FieldError> {
    match fields.get("tokenizer_class") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => Ok(Some(name)),
        Some(other) => {
            Err(FieldError::new("tokenizer_class", format!("is {}; it takes the name of a class", shown(other))))
        }
    }
}

/// The text of a special token.
fn content(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

/// The parts of a tokenizer that are a sequence of parts, or one.
fn parts<'a>(json: &'a Value, part: &str, inner: &str) -> Vec<&'a Value> {
    match json.get(part) {
        None | Some(Value::Null) => Vec::new(),
        Some(part) => part.get(inner).and_then(Value::as_array).map_or_else(|| vec![part], |all| all.iter().collect()),
    }
}

fn kind(part: &Value) -> &str {
    part.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// True if a text is cut into bytes before it is cut into tokens, or put together from bytes.
fn has_byte_level(json: &Value) -> bool {
    let pre_tokenizers = parts(json, "pre_tokenizer", "pretokenizers");
    let decoders = parts(json, "decoder", "decoders");
    pre_tokenizers.into_iter().chain(decoders).any(|part| kind(part) == "ByteLevel")
}

/// Bytes as letters of the vocabulary.
fn byte_level(add_prefix_space: bool, use_regex: bool) -> Value {
    json!({
        "type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": use_regex
    })
}

/// Blanks as a letter of the vocabulary.
fn metaspace(scheme: &str, split: bool) -> Value {
    json!({ "type": "Metaspace", "replacement": BLANK, "prepend_scheme": scheme, "split": split })
}
