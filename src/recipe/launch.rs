//! The recipe's `[launch]` table: what stages need from a machine, and how they are handed to one.
//!
//! Changes no result: no key holds it, a frozen run and a report do not show it. Who carries a run out is the room
//! `launch`'s.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::units::{Count, Line, Memory, Time};

/// The recipe's `[launch]` table.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What each kind of stage needs while it runs.
    pub stages: Stages,
    /// What a local run may use at once.
    pub local: Local,
    /// How stages are handed to Slurm.
    pub slurm: Slurm,
    /// How stages are handed to HyperQueue. They ask for `cpus` and `mem` (in mebibytes), which its workers find by
    /// themselves; `time` is the task's time limit.
    pub hyperqueue: HyperQueue,
    /// What `runner plan --manifest k8s` prints. The store lies on a volume that many nodes can write to at the same time, and
    /// that is mounted as `--store` where the manifest is printed.
    pub kubernetes: Kubernetes,
    /// What `runner plan --manifest skypilot` prints. One machine does the whole run: it is asked for what `[launch.local]`
    /// allows, else for what the stage needs that needs most.
    pub skypilot: SkyPilot,
}

/// The recipe's `[launch.stages]` table: an entry a kind of stage.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Stages {
    /// For every kind of stage, where its own entry says nothing.
    pub default: Option<Resources>,
    /// For the stages that read and split the dataset.
    pub data: Option<Resources>,
    /// For the stages that train a tokenizer.
    pub tokenizer: Option<Resources>,
    /// For supervised fine-tuning.
    pub sft: Option<Resources>,
    /// For the stages that annotate preferences.
    pub preferences: Option<Resources>,
    /// For the stages that edit.
    pub edits: Option<Resources>,
    /// For the stages that turn edits into token labels.
    pub labels: Option<Resources>,
    /// Scoring words.
    pub words: Option<Resources>,
    /// Cutting responses into spans.
    pub spans: Option<Resources>,
    /// For reward models.
    pub reward: Option<Resources>,
    /// For policy optimisation.
    pub ppo: Option<Resources>,
    /// For direct preference optimisation.
    pub dpo: Option<Resources>,
    /// For the stages that choose among samples.
    pub best_of_n: Option<Resources>,
    /// For the stages that let policies answer the held-out prompts.
    pub responses: Option<Resources>,
    /// For the stages that judge.
    pub judgements: Option<Resources>,
    /// For the stages in which further judges judge.
    pub opinions: Option<Resources>,
    /// For the report.
    pub report: Option<Resources>,
}

/// What a stage needs while it runs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// Processor cores. A local limit on cores counts a stage that says nothing as one core.
    pub cores: Option<Count>,
    /// Main memory.
    pub memory: Option<Memory>,
    /// Accelerators; Slurm is asked for them as `gpu:N` unless `gres` says otherwise, other launchers by the `accelerator` of
    /// their table.
    pub devices: Option<usize>,
    /// Wall time after which Slurm puts it back into the queue and HyperQueue lets it fail; elsewhere it has no limit.
    pub time: Option<Time>,
    /// What differs from `[launch.slurm]` for this kind of stage.
    pub slurm: Option<Slurm>,
}

/// The recipe's `[launch.local]` table; the arguments `--cores`, `--memory`, `--devices` and `--jobs` win over it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Local {
    /// Cores that all running stages together may take.
    pub cores: Option<Count>,
    /// Memory that all running stages together may take.
    pub memory: Option<Memory>,
    /// Accelerators that all running stages together may take.
    pub devices: Option<usize>,
    /// Stages at once; as many as the machine has cores where nothing is said.
    pub jobs: Option<Count>,
}

/// The recipe's `[launch.slurm]` table.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Slurm {
    /// The partition, as in `sbatch --partition`.
    pub partition: Option<Line>,
    /// The account that is charged, as in `sbatch --account`.
    pub account: Option<Line>,
    /// The quality of service, as in `sbatch --qos`.
    pub qos: Option<Line>,
    /// Generic resources, as in `sbatch --gres`.
    pub gres: Option<Line>,
    /// Further options of `sbatch`, one an entry, as in `--exclude=node7`.
    pub extra: Option<Vec<Line>>,
    /// Lines of shell that come before the work: module loads, environments, exports.
    pub setup: Option<Vec<Line>>,
    /// Tasks of one job array that may run at once.
    pub max_parallel: Option<Count>,
    /// Tasks in one job array; asked from `scontrol show config` where nothing is said.
    pub max_array_size: Option<Count>,
    /// Whether Slurm starts a task again that it stopped: preempted, out of time, on a node that failed. It does where
    /// nothing is said.
    pub requeue: Option<bool>,
    /// How many seconds before its time is over a task writes a checkpoint and goes back into the queue: 120 where
    /// nothing is said.
    pub signal_seconds: Option<Count>,
}

/// The recipe's `[launch.hyperqueue]` table.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HyperQueue {
    /// What the workers call their accelerators: `gpus/nvidia` where nothing is said, as workers find them by themselves.
    pub accelerator: Option<Line>,
    /// How often a worker may be lost under a task before the task fails; HyperQueue's own limit where nothing is said. A
    /// task that is started again goes on from its last checkpoint.
    pub crash_limit: Option<Count>,
    /// Lines of `bash` that come before the work: module loads, environments, exports.
    pub setup: Option<Vec<Line>>,
}

/// The recipe's `[launch.kubernetes]` table.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Kubernetes {
    /// The image that stages run in; `runner` is on its `PATH`, in the version that printed the manifest.
    pub image: Option<Line>,
    /// The persistent volume claim that the store lies on.
    pub claim: Option<Line>,
    /// The store's folder on that volume, as in `lab/.runner`; the whole volume where nothing is said.
    pub sub_path: Option<Line>,
    /// The resource that accelerators are: `nvidia.com/gpu` where nothing is said.
    pub accelerator: Option<Line>,
    /// Pods of one job that may be there at once, whether they work or wait; all of them where nothing is said.
    pub max_parallel: Option<Count>,
    /// Seconds that a pod has for its checkpoint when it is evicted or deleted: 120 where nothing is said.
    pub grace_seconds: Option<Count>,
}

/// The recipe's `[launch.skypilot]` table.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SkyPilot {
    /// The volume, as `sky volumes ls` lists it, for store and report. A bucket is none: it cannot rename a folder at once.
    pub volume: Option<Line>,
    /// Where the machine comes from, as in `kubernetes` or `runpod/US`; SkyPilot chooses where nothing is said.
    pub infra: Option<Line>,
    /// The image that it runs, as in `docker:registry/runner:1`; `runner` is on its `PATH`, or `setup` brings it there.
    pub image: Option<Line>,
    /// What SkyPilot calls the accelerator, as in `L4`; needed by stages that need `devices`.
    pub accelerator: Option<Line>,
    /// Lines of shell that come before the work.
    pub setup: Option<Vec<Line>>,
}

impl Resources {
    /// What `self` says, and where it says nothing, what `other` says.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let slurm = match (self.slurm, other.slurm) {
            (Some(own), Some(other)) => Some(own.or(other)),
            (own, other) => own.or(other),
        };
        Self {
            cores: self.cores.or(other.cores),
            memory: self.memory.or(other.memory),
            devices: self.devices.or(other.devices),
            time: self.time.or(other.time),
            slurm,
        }
    }
}

impl Slurm {
    /// What `self` says, and where it says nothing, what `other` says.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            partition: self.partition.or(other.partition),
            account: self.account.or(other.account),
            qos: self.qos.or(other.qos),
            gres: self.gres.or(other.gres),
            extra: self.extra.or(other.extra),
            setup: self.setup.or(other.setup),
            max_parallel: self.max_parallel.or(other.max_parallel),
            max_array_size: self.max_array_size.or(other.max_array_size),
            requeue: self.requeue.or(other.requeue),
            signal_seconds: self.signal_seconds.or(other.signal_seconds),
        }
    }
}
