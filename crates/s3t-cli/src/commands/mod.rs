//! The commands: each turns its arguments into a request, and prints the answer.

mod attack;
mod attack_page;
mod attack_words;
mod audit;
mod audit_page;
mod chat;
mod compare_methods;
mod delete;
mod detached;
mod eval;
mod eval_memorisation;
mod eval_tasks;
mod export;
mod html;
mod manual;
mod plugins;
mod predict;
mod receipt;
mod repair;
mod run;
mod shards;
mod status;
mod store;
mod train;
mod verify;
mod worker;

use std::time::Duration;

use s3t::cluster::Registration;

use crate::arguments::Command;
use crate::exit::Outcome;
use crate::logging::LogArgs;
use crate::output::Output;
use crate::{init, planning, serving};

/// Runs a command.
pub(crate) fn dispatch(command: Command, log: &LogArgs, output: &mut Output) -> Outcome {
    match command {
        Command::Run { pipeline, fresh } => run::run(pipeline.pipeline, fresh, output),
        Command::Plan(args) => planning::plan(&args, output),
        Command::Advise(args) => planning::advise(&args, output),
        Command::Simulate(args) => planning::simulate(&args, output),
        Command::CompareSequences(args) => planning::compare(&args, output),
        Command::CompareMethods(args) => compare_methods::compare_methods(args, output),
        Command::Train(args) => train::train(args, log, output),
        Command::Eval(args) => eval::eval(args, output),
        Command::Predict(args) => predict::predict(args, output),
        Command::Chat(args) => chat::chat(args, output),
        Command::Export { pipeline, to, base_model } => export::export(pipeline.pipeline, to, base_model, output),
        Command::Delete(args) => delete::delete(args, output),
        Command::Receipt { command } => receipt::receipt(command, output),
        Command::Store { command } => store::store(command, output),
        Command::Repair(args) => repair::repair(args, output),
        Command::Audit(args) => audit::audit(args, output),
        Command::Attack(args) => attack::attack(args, output),
        Command::Verify { pipeline, scope } => verify::verify(pipeline.pipeline, scope, output),
        Command::Serve(args) => serving::serve(*args, output),
        Command::Token { command } => serving::token(command, output),
        Command::Status(pipeline) => status::status(pipeline.pipeline, output),
        Command::Plugins => plugins::list(output),
        Command::Manual { to } => manual::manual(&to, output),
        Command::Worker { connect: None, .. } => worker::work(),
        Command::Worker { connect: Some(address), invitation, task, cores, patience } => {
            let registration = Registration::of_this_process(task, cores.map(usize::from));
            worker::join(&address, invitation.as_deref(), &registration, Duration::from_secs(patience))
        }
        Command::Init { file } => init::init(&file, output),
    }
}
