//! Inputs made from sound ones, the same in every run.

use serde_json::{Map, Value, json};

/// A small generator: splitmix64.
pub struct Draw(u64);

impl Draw {
    pub fn new(number: u64) -> Self {
        let mut draw = Self(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5331_5a0a);
        draw.next();
        draw
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    pub fn below(&mut self, count: usize) -> usize {
        (self.next() % count.max(1) as u64) as usize
    }

    pub fn of<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }
}

/// Numbers at which programs go wrong.
pub const NUMBERS: [&str; 24] = [
    "0",
    "1",
    "-1",
    "2",
    "7",
    "64",
    "255",
    "256",
    "4096",
    "65535",
    "65536",
    "1000000",
    "16777217",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "1e18",
    "1e308",
    "0.5",
    "1e-300",
];

const TEXTS: [&str; 12] =
    ["", " ", "a", "\u{0}", "../..", "/dev/null", "é", "\u{1f469}\u{200d}\u{1f469}", "NaN", "inf", "[PAD]", "{x}"];

/// An input like a sound one.
pub fn mutated(seed: &[u8], draw: &mut Draw) -> Vec<u8> {
    let text = std::str::from_utf8(seed).ok();
    let mut bytes = match (draw.below(10), text) {
        (0..=4, Some(text)) => structured(text, draw).unwrap_or_else(|| text.as_bytes().to_vec()),
        (5..=6, Some(text)) => numbers_changed(text, draw),
        _ => seed.to_vec(),
    };
    let rounds = if bytes == seed { 1 + draw.below(4) } else { draw.below(2) };
    for _ in 0..rounds {
        change(&mut bytes, draw);
    }
    bytes
}

/// One change of bytes that knows nothing of the format.
fn change(bytes: &mut Vec<u8>, draw: &mut Draw) {
    const WORDS: [&[u8]; 16] = [
        b"-1",
        b"1e999",
        b"18446744073709551616",
        b"\"\"",
        b"[]",
        b"{}",
        b"null",
        b"\xff\xfe",
        b"\n",
        b"\r",
        b",",
        b"[[",
        b"{\"a\":",
        b"\"",
        b"\0",
        b"nan",
    ];
    let (one, other) = (draw.below(bytes.len() + 1), draw.below(bytes.len() + 1));
    let (from, to) = (one.min(other), one.max(other));
    match draw.below(12) {
        0 | 1 if one < bytes.len() => bytes[one] ^= 1 << draw.below(8),
        2 if one < bytes.len() => bytes[one] = draw.below(256) as u8,
        3 => bytes.truncate(one),
        4 => drop(bytes.splice(one..one, draw.of(&WORDS).iter().copied())),
        5 => drop(bytes.drain(from..to.min(from + 64))),
        6 => {
            let copied = bytes[from..to.min(from + 4096)].to_vec();
            bytes.splice(from..from, copied);
        }
        7 => {
            // A part that is there a thousand times.
            let copied = bytes[from..to.min(from + 64)].repeat(1 + draw.below(2000));
            bytes.splice(from..from, copied);
        }
        8 => {
            let depth = 1 + draw.below(3000);
            let (open, close) = *draw.of(&[&("[", "]"), &("{\"a\":", "}"), &("(", ")"), &("[{\"a\":", "}]")]);
            let inside = bytes.split_off(from);
            bytes.extend(open.repeat(depth).bytes());
            bytes.extend(&inside[..to - from]);
            bytes.extend(close.repeat(depth).bytes());
            bytes.extend(&inside[to - from..]);
        }
        9 if bytes.len() >= 8 => {
            // Lengths and sizes of binary formats.
            let at = draw.below(bytes.len().min(64) - 7);
            let number = draw.of(&[&0u64, &1, &(1 << 20), &(1 << 32), &(u64::MAX >> 1), &u64::MAX]);
            let number = if draw.below(2) == 0 { number.to_le_bytes() } else { number.to_be_bytes() };
            bytes[at..at + 8].copy_from_slice(&number);
        }
        10 => bytes.extend(std::iter::repeat_n(draw.below(256) as u8, draw.below(100_000))),
        _ => bytes.swap_with_slice_at(from, to),
    }
}

trait Swap {
    fn swap_with_slice_at(&mut self, from: usize, to: usize);
}

impl Swap for Vec<u8> {
    /// Turns a part around.
    fn swap_with_slice_at(&mut self, from: usize, to: usize) {
        self[from..to].reverse();
    }
}

/// The text with one or several of its numbers changed.
fn numbers_changed(text: &str, draw: &mut Draw) -> Vec<u8> {
    let is_part = |letter: char| letter.is_ascii_digit() || letter == '.';
    let mut found: Vec<(usize, usize)> = Vec::new();
    let mut start = None;
    for (at, letter) in text.char_indices().chain([(text.len(), ' ')]) {
        match (start, is_part(letter)) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                found.push((from, at));
                start = None;
            }
            _ => {}
        }
    }
    let mut changed = text.to_owned();
    if !found.is_empty() {
        let mut chosen: Vec<usize> = (0..=draw.below(2)).map(|_| draw.below(found.len())).collect();
        chosen.sort_unstable();
        chosen.dedup();
        for index in chosen.into_iter().rev() {
            let (from, to) = found[index];
            changed.replace_range(from..to, draw.of(&NUMBERS));
        }
    }
    changed.into_bytes()
}

/// JSON, or the lines of a JSONL file, with another structure; `None` for other texts.
fn structured(text: &str, draw: &mut Draw) -> Option<Vec<u8>> {
    if let Ok(mut value) = serde_json::from_str::<Value>(text) {
        for _ in 0..=draw.below(2) {
            restructure(&mut value, draw);
        }
        return Some(value.to_string().into_bytes());
    }
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = draw.below(lines.len());
    let mut value = serde_json::from_str::<Value>(lines.get(at)?).ok()?;
    restructure(&mut value, draw);
    lines[at] = value.to_string();
    Some(lines.join("\n").into_bytes())
}

fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(nodes).sum(),
        Value::Object(fields) => fields.values().map(nodes).sum(),
        _ => 0,
    }
}

fn node<'a>(value: &'a mut Value, number: &mut usize) -> Option<&'a mut Value> {
    if *number == 0 {
        return Some(value);
    }
    *number -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| node(item, number)),
        Value::Object(fields) => fields.values_mut().find_map(|field| node(field, number)),
        _ => None,
    }
}

/// Changes one node of a JSON value.
fn restructure(value: &mut Value, draw: &mut Draw) {
    let count = nodes(value);
    let other = node(&mut value.clone(), &mut draw.below(count)).cloned().unwrap_or_default();
    let Some(node) = node(value, &mut draw.below(count)) else { return };
    *node = match draw.below(14) {
        0 => Value::Null,
        1 => json!(draw.below(2) == 0),
        2..=4 => serde_json::from_str(draw.of(&NUMBERS)).unwrap_or_default(),
        5 => json!(draw.of(&TEXTS)),
        6 => json!("x".repeat(1 << draw.below(17))),
        7 => json!([]),
        8 => Value::Object(Map::new()),
        9 => other,
        10 => {
            let mut deep = node.take();
            for _ in 0..=draw.below(200) {
                deep = json!([deep]);
            }
            deep
        }
        11 => match node.take() {
            Value::Array(items) if !items.is_empty() => {
                let count = items.len().max(200);
                Value::Array(items.into_iter().cycle().take(count).collect())
            }
            Value::String(text) => json!(text.chars().rev().collect::<String>()),
            Value::Number(number) => json!(number.as_f64().unwrap_or_default() * -1e6),
            whole => whole,
        },
        _ => match node.take() {
            Value::Array(mut items) if !items.is_empty() => {
                items.remove(draw.below(items.len()));
                Value::Array(items)
            }
            Value::Object(mut fields) if !fields.is_empty() => {
                let keys: Vec<String> = fields.keys().cloned().collect();
                let (gone, renamed) = (draw.below(keys.len()), draw.below(3) == 0);
                let taken = fields.remove(&keys[gone]).unwrap_or_default();
                if renamed {
                    fields.insert(keys[draw.below(keys.len())].clone(), taken);
                }
                Value::Object(fields)
            }
            Value::String(text) => json!(text.chars().skip(1).collect::<String>()),
            Value::Number(number) => json!(number.as_i64().unwrap_or(7).wrapping_add(1)),
            whole => whole,
        },
    };
}
