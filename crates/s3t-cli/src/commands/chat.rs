//! `s3t chat`.

use std::io::{BufRead, IsTerminal, Write};

use console::style;
use s3t::api::{Chat, ChatAnswer, ChatRequest, ChatTurn};
use s3t::generate::Sampling;

use crate::arguments::ChatArgs;
use crate::exit::{self, Failure, Outcome, code_of};
use crate::output::{Output, printed, say};

/// Begins a new conversation.
const NEW: &str = "/new";

/// Ends it.
const EXIT: &str = "/exit";

pub(crate) fn chat(args: ChatArgs, output: &mut Output) -> Outcome {
    let sampling = Sampling {
        max_tokens: args.max_new_tokens,
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        repetition_penalty: args.repetition_penalty,
        seed: args.seed,
        stop: args.stop,
        ..Sampling::default()
    };
    let mut chat = Chat::open(ChatRequest { pipeline: args.pipeline, system: args.system, sampling })?;
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let is_shown = !output.is_json();
    if is_terminal && is_shown {
        say!("{}", style(format!("{NEW} begins again, {EXIT} or Ctrl-D ends")).dim());
    }
    let mut answer = ChatAnswer::default();
    let mut lines = std::io::stdin().lock().lines();
    loop {
        if is_terminal && is_shown {
            show(&format!("{} ", style(">").bold()));
        }
        let Some(line) = lines.next() else { break };
        let line = line.map_err(|error| Failure::new(exit::REFUSED, format!("cannot read what is said: {error}")))?;
        match line.trim() {
            "" => {}
            EXIT => break,
            NEW => chat.begin_again(),
            user => {
                let turn = chat.say(user, &mut |text| {
                    if is_shown {
                        show(text);
                    }
                });
                match turn {
                    Ok(turn) => {
                        if is_shown {
                            say!("");
                            note(&turn);
                        }
                        answer.turns.push(turn);
                    }
                    // A person tries again; a script is told by the exit code.
                    Err(error) if is_terminal && is_shown => say!("{}", style(error).red()),
                    Err(error) => {
                        output.answer(&answer, || {});
                        return Err(error);
                    }
                }
            }
        }
    }
    output.answer(&answer, || {});
    Ok(code_of(&answer))
}

fn show(text: &str) {
    let mut out = std::io::stdout();
    printed(write!(out, "{text}").and_then(|()| out.flush()));
}

/// Says why a message has ended, if not by itself, and what it came from, if that has changed.
fn note(turn: &ChatTurn) {
    let why = match turn.finish_reason.as_str() {
        "length" => Some(format!("cut after {} tokens", turn.new_tokens)),
        "deletion" => Some("ended: a deletion has switched off a stage that it came from".to_owned()),
        _ if turn.first_epoch < turn.epoch => {
            Some(format!("deletion {} came in between; the end is of what lives", turn.epoch))
        }
        _ => None,
    };
    if let Some(why) = why {
        say!("{}", style(format!("[{why}]")).dim());
    }
}
