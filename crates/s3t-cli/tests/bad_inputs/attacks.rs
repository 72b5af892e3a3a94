//! Audits by attack, and comparisons of methods.

use super::{Case, Workspace};

const ATTACK: &[&str] = &["attack", "pipeline.toml"];
const COMPARE: &[&str] = &["compare-methods", "pipeline.toml"];

fn section(w: &Workspace, text: &str) {
    w.append("pipeline.toml", &format!("\n{text}\n"));
}

fn alone(w: &Workspace) {
    w.edit("pipeline.toml", "shards = 2\nslices = 2", "shards = 1\nslices = 1");
    w.edit("pipeline.toml", "budget = 2", "budget = 1");
}

const fn attacked(
    situation: &'static str,
    spoil: fn(&Workspace),
    args: &'static [&'static str],
    message: &'static str,
) -> Case {
    Case { part: "Audits by attack", situation, spoil, args, code: 2, message }
}

const fn compared(
    situation: &'static str,
    spoil: fn(&Workspace),
    args: &'static [&'static str],
    message: &'static str,
) -> Case {
    Case { part: "Comparisons of methods", situation, spoil, args, code: 2, message }
}

#[rustfmt::skip]
pub fn cases() -> Vec<Case> {
    vec![
        attacked("unknown key", |w| section(w, "[attack]\nmember = 5"), ATTACK, "unknown field `member`, expected one of `members`, "),
        attacked("too few members", |w| section(w, "[attack]\nmembers = 1"), ATTACK, "`attack.members` is 1; use at least 2"),
        attacked("odd number of references", |w| section(w, "[attack]\nreferences = 3"), ATTACK,
            "`attack.references` is 3; use an even number, as each record is in one of every two"),
        attacked("confidence of a flag", |_| {}, &["attack", "pipeline.toml", "--confidence", "1"],
            "--confidence is 1; use a number between 0 and 1"),
        Case { code: 3, ..attacked("unknown subject", |_| {}, &["attack", "pipeline.toml", "--subject", "nobody"],
            "unknown subject `nobody`; nothing was deleted. What was deleted before leaves no trace to tell it by") },
        attacked("too many members", |w| section(w, "[attack]\nmembers = 20001"), ATTACK, "`attack.members` is 20001; use at most 20000"),
        attacked("nothing is left", alone, ATTACK, "after the deletion no shard would answer, so there is nothing to attack; set `attack.repair = true`"),
        attacked("no reference", |w| { alone(w); section(w, "[attack]\nrepair = true\nmembers = 10"); }, ATTACK,
            "no stage of the store is without the attacked records, so attacks have no reference; set `attack.references = 2` or more"),
        compared("too few seeds", |w| section(w, "[compare]\nseeds = 2"), COMPARE, "`compare.seeds` is 2; use 3 to 100, as the models of other seeds are the references"),
        compared("unknown method", |_| {}, &["compare-methods", "pipeline.toml", "--method", "scrubb"],
            "--methods has a method that cannot be used: unknown unlearning method `scrubb`; known: "),
        compared("unknown field of a method", |w| section(w, "[compare]\nmethods = [{ type = \"scrub\", alfa = 1 }]"), COMPARE,
            "`compare.methods` has a method that cannot be used: unknown "),
    ]
}
