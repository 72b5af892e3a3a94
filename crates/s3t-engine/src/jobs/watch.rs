//! Watching a build, and stopping it.

use std::ops::ControlFlow;

use s3t_core::{ShardId, SliceId, StageKey};
use s3t_executor::{StageProgress, Step};

use crate::jobs::Stages;
use crate::jobs::hold::Hold;
use crate::jobs::queue::Queue;

/// A stage as a person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageLabel {
    /// Its key.
    pub key: StageKey,
    /// Its shard.
    pub shard: ShardId,
    /// The slices it is trained on, in order.
    pub slices: Vec<SliceId>,
}

impl std::fmt::Display for StageLabel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let slices: Vec<String> = self.slices.iter().map(ToString::to_string).collect();
        write!(f, "shard {} slices {}", self.shard, slices.join(" "))
    }
}

/// Watches stages being built and may stop it.
pub trait Observer: Sync {
    /// Called before the first stage of a build with the number of stages and of optimiser steps.
    fn started(&self, _stages: usize, _steps: usize) {}

    /// Called on each thread of this process that trains, before its first stage. It may give the thread a lower priority.
    fn trains(&self) {}

    /// A stage starts.
    fn stage_started(&self, _stage: &StageLabel, _records: usize) {}

    /// A step of a stage is done. `Break` stops all jobs; finished stages are kept.
    fn step(&self, _stage: &StageLabel, _step: Step) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// A stage is done.
    fn stage_finished(&self, _stage: &StageLabel) {}

    /// Returns `true` once all jobs are to stop. Asked between steps too, where stages are trained in other processes.
    fn is_stopped(&self) -> bool {
        false
    }

    /// A worker of the executor has written a line to its standard error.
    fn worker_said(&self, _worker: &str, _line: &str) {}
}

/// An observer that watches nothing and stops nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Observer for Quiet {}

/// Passes steps on, and stops the stage when the observer or another job says so.
pub(super) struct Watch<'a> {
    pub(super) queue: &'a Queue,
    pub(super) stages: &'a dyn Stages,
    pub(super) observer: &'a dyn Observer,
    pub(super) label: &'a StageLabel,
    pub(super) hold: &'a Hold<'a>,
}

impl Watch<'_> {
    fn is_unwanted(&self) -> bool {
        self.queue.is_stopped() || self.hold.has_lost(&self.label.key) || !self.stages.is_wanted(&self.label.key)
    }
}

impl StageProgress for Watch<'_> {
    fn step(&self, step: Step) -> ControlFlow<()> {
        if self.is_unwanted() {
            return ControlFlow::Break(());
        }
        self.observer.step(self.label, step)
    }

    fn threads(&self) -> usize {
        self.queue.threads_of_a_job()
    }

    fn is_cancelled(&self) -> bool {
        self.is_unwanted() || self.observer.is_stopped()
    }

    /// A stage that a deletion has hit may finish its step; nobody waits for a build that was stopped.
    fn waits_for_step(&self) -> bool {
        !(self.queue.is_stopped() || self.observer.is_stopped())
    }

    fn worker_said(&self, worker: &str, line: &str) {
        self.observer.worker_said(worker, line);
    }
}
