//! Planning commands with numbers at which programs go wrong.

use s3t::core::registry::plugins;
use s3t::core::{PluginInfo, PluginKind};

use super::mutate::{Draw, NUMBERS};

/// The arguments of one command.
pub fn planning(draw: &mut Draw) -> Vec<String> {
    let command = draw.of(&["plan", "advise", "simulate", "compare-sequences"]);
    let mut arguments = vec![command.to_owned()];
    let mut add = |flag: &str, value: String| arguments.extend([format!("--{flag}"), value]);
    let size = |draw: &mut Draw| {
        draw.of(&["1", "2", "3", "5", "12", "19", "20", "21", "64", "300", "1000", "4096"]).to_owned()
    };
    if command != "advise" {
        add("shards", size(draw));
        add("slices", size(draw));
    }
    for flag in
        ["budget", "shards", "slices", "seed", "records", "epochs", "blocks", "hidden", "tokens", "rank", "classes"]
    {
        if draw.below(if flag == "budget" { 2 } else { 8 }) == 0
            && !arguments.iter().any(|known| *known == format!("--{flag}"))
        {
            let value = if draw.below(2) == 0 { size(draw) } else { draw.of(&NUMBERS).to_owned() };
            arguments.extend([format!("--{flag}"), value]);
        }
    }
    let mut add = |flag: &str, value: String| arguments.extend([format!("--{flag}"), value]);
    let strategies = plugins().into_iter().filter(|plugin| plugin.kind() == PluginKind::SequenceStrategy);
    let strategies: Vec<&str> = strategies.map(PluginInfo::name).collect();
    if draw.below(2) == 0 && command != "compare-sequences" {
        add("strategy", draw.of(&strategies).to_owned());
    }
    match command {
        "plan" => {
            for flag in ["requests", "repair-every"] {
                if draw.below(3) == 0 {
                    add(flag, draw.of(&NUMBERS).to_owned());
                }
            }
        }
        "advise" => {
            for flag in [
                "max-shards",
                "max-budget",
                "min-slice-records",
                "min-slice-blocks",
                "max-megabytes",
                "after",
                "max-flops",
            ] {
                if draw.below(3) == 0 {
                    add(flag, draw.of(&NUMBERS).to_owned());
                }
            }
            if draw.below(2) == 0 {
                add("goal", "depth".to_owned());
            }
        }
        _ => {
            for flag in ["trials", if command == "simulate" { "max-requests" } else { "requests" }] {
                if draw.below(3) == 0 {
                    add(flag, draw.of(&NUMBERS).to_owned());
                }
            }
            if command == "simulate" {
                let stream = draw.of(&["uniform", "prior", "adversarial", "bursty", "subjects"]);
                add("stream", stream.to_owned());
                if draw.below(2) == 0 {
                    add(if stream == "subjects" { "subject-records" } else { "burst" }, draw.of(&NUMBERS).to_owned());
                }
                if draw.below(6) == 0 {
                    arguments.push("--finite".to_owned());
                }
            }
        }
    }
    if draw.below(3) == 0 {
        arguments.push("--json".to_owned());
    }
    arguments
}
