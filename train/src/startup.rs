//! From the config to a run that is ready for its next step.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Result, ensure};
use prost::Message;
use tch::Device;

use crate::config::{Algorithm, Config};
use crate::data::lengths;
use crate::data::preprocess::Preprocessor;
use crate::data::rows::Rows;
use crate::data::sampler::Sampler;
use crate::data::scan::Scan;
use crate::data::skipped_rows::{self, SkippedRows};
use crate::model::branches::Branches;
use crate::model::setup::Start;
use crate::output::checkpoint;
use crate::output::folder::OutputFolder;
use crate::output::probes::Probes;
use crate::output::resume::Resumed;
use crate::output::saver::{Saver, Snapshot};
use crate::output::trainer_state::Progress;
use crate::report::display::Report;
use crate::step::evaluator::Evaluator;
use crate::step::phase::Phase;
use crate::step::schedule::Schedule;
use crate::step::trainer::Trainer;
use crate::world::ranks::World;

/// The parts of a run, as the training loop uses them.
pub(crate) struct Run<'a> {
    pub(crate) config: &'a Config,
    pub(crate) world: Rc<World>,
    pub(crate) device: Device,
    pub(crate) rows: Arc<Rows>,
    pub(crate) preprocessors: Arc<Branches<Preprocessor>>,
    pub(crate) sampler: Sampler,
    pub(crate) schedule: Schedule,
    /// The number of steps that the text-only branch takes alone.
    pub(crate) warmup_steps: usize,
    pub(crate) trainer: Trainer,
    /// The training rows that are skipped.
    pub(crate) skipped: SkippedRows,
    pub(crate) evaluator: Evaluator<'a>,
    pub(crate) saver: Saver<'a>,
    pub(crate) report: Report,
}

impl<'a> Run<'a> {
    /// Reads everything that `config` names and makes the output folder ready. Returns the run and its progress so far.
    ///
    /// # Errors
    /// A file or a row that cannot be read, an output folder that is in use or belongs to another run, a full disk.
    pub(crate) fn open(
        config: &'a Config,
        device: Device,
        world: &Rc<World>,
    ) -> Result<(Self, Progress)> {
        let output = OutputFolder::open(Path::new(&config.output_dir), world)?;
        let resumed = output.resume(config, world)?;
        let loaded = Loaded::read(config, &output, resumed.as_ref(), device, world)?;
        same_start(config, &loaded.rows, world)?;
        let probes = loaded.probes(config)?;
        let mut notices = loaded.notices;
        if world.leads() {
            notices.extend(output.begin(config, resumed.as_ref(), &loaded.tokenizer_files)?);
        }
        world.barrier()?;
        // After the probes, which need the pixels of images whose features an earlier run has cached.
        cache_on_disk(config, &loaded.trainer, &output)?;
        let total_steps = loaded.sampler.total_steps;
        notices.extend(resumed.as_ref().map(|r| r.notice(total_steps)));
        let saver = Saver {
            config,
            tokenizer_files: loaded.tokenizer_files,
            probes,
            rows: loaded.rows.hash().to_owned(),
            rows_per_step: loaded.sampler.rows_per_step(),
            world: world.clone(),
            steps_per_epoch: loaded.sampler.steps_per_epoch,
            total_steps,
            saved: Saver::saved(&output, resumed.as_ref()),
            output,
        };
        let state = resumed.map(|resumed| resumed.state).unwrap_or_default();
        let progress = state.progress;
        let mut report = Report::open(config, progress.step, world.leads())?;
        report.notices(notices);
        let mut run = Self {
            config,
            world: world.clone(),
            device,
            schedule: Schedule::new(config, total_steps),
            warmup_steps: warmup_steps(config, &loaded.preprocessors),
            skipped: SkippedRows::new(&loaded.rows, config.max_bad_fraction, state.skipped_rows),
            evaluator: Evaluator::new(config, world.clone(), loaded.sets, state.best)?,
            rows: Arc::new(loaded.rows),
            preprocessors: Arc::new(loaded.preprocessors),
            sampler: loaded.sampler,
            trainer: loaded.trainer,
            saver,
            report,
        };
        run.require_space(progress)?;
        Ok((run, progress))
    }

    /// Better now than after hours. The optimizer's moments, which come with the first step, are not counted.
    fn require_space(&mut self, progress: Progress) -> Result<()> {
        let is_complete = progress.step >= self.sampler.total_steps;
        let (saver, snapshot) = self.saving();
        match is_complete {
            true => Ok(()),
            false => saver.require_space(&snapshot),
        }
    }

    /// The saver, and everything that a checkpoint holds of the run at this moment.
    pub(crate) fn saving(&mut self) -> (&mut Saver<'a>, Snapshot<'_>) {
        let snapshot = Snapshot {
            trainer: &self.trainer,
            report: &self.report,
            skipped_rows: self.skipped.numbers(),
            measured: self.evaluator.measured_at(self.trainer.taken),
            best: self.evaluator.best(),
        };
        (&mut self.saver, snapshot)
    }

    /// The progress of the run when `step` steps of a phase are taken.
    pub(crate) fn progress(&self, phase: Phase, step: usize) -> Progress {
        match phase {
            Phase::TextWarmUp => Progress {
                warmup: step,
                step: 0,
            },
            Phase::Joint => Progress {
                warmup: self.warmup_steps,
                step,
            },
        }
    }
}

/// Everything that is read before the output folder changes, except that rows are unpacked there.
struct Loaded {
    rows: Rows,
    /// Evaluation sets by name.
    sets: Vec<(String, Rows)>,
    preprocessors: Branches<Preprocessor>,
    trainer: Trainer,
    sampler: Sampler,
    tokenizer_files: Vec<PathBuf>,
    notices: Vec<String>,
}

impl Loaded {
    fn read(
        config: &Config,
        output: &OutputFolder,
        resumed: Option<&Resumed>,
        device: Device,
        world: &Rc<World>,
    ) -> Result<Self> {
        let mut notices = Vec::new();
        let mut read = |path: &str, index: usize| {
            require_shareable(Path::new(path), world)?;
            let unpacked = output.rows().join(format!("{index}.jsonl"));
            let scan = Scan::open(config, Path::new(path), &unpacked)?;
            let (rows, unreadable) = scan.within(config.max_bad_fraction)?;
            notices.extend(unreadable.iter().map(skipped_rows::notice));
            anyhow::Ok(rows)
        };
        let rows = read(&config.dataset_path, 0)?;
        let sets = config.eval_data.iter().zip(1..);
        let sets = sets.map(|((name, path), index)| Ok((name.clone(), read(path, index)?)));
        let sets = sets.collect::<Result<_>>()?;
        let mut sampler = Sampler::among(world.ranks(), config, rows.count())?;
        if let Some(resumed) = resumed {
            resumed.check_extension(sampler.total_steps)?;
            notices.extend(resumed.check_batches(config, sampler.rows_per_step())?);
            notices.extend(resumed.check_rows(&config.dataset_path, rows.hash())?);
        }
        let start = Start::load(config, resumed.map(|resumed| &*resumed.folder), device)?;
        notices.extend(start.notices);
        let trainer = Trainer::new(config, start.models, start.parameters);
        let mut trainer = trainer.with_world(world.clone());
        if let Some(resumed) = resumed {
            checkpoint::restore(&mut trainer, resumed)?;
        }
        if config.group_by_length {
            sampler = sampler.grouped(lengths::estimate(&rows, &start.preprocessors.main)?);
        }
        Ok(Self {
            rows,
            sets,
            preprocessors: start.preprocessors,
            trainer,
            sampler,
            tokenizer_files: start.tokenizer_files,
            notices,
        })
    }

    /// Probes of the first evaluation set, or of the training rows. A model without a reward head has none.
    fn probes(&self, config: &Config) -> Result<Probes> {
        let rows = self.sets.first().map_or(&self.rows, |(_, rows)| rows);
        match config.algorithm {
            Algorithm::Sft => Ok(Probes::none()),
            _ => Probes::choose(rows, &self.preprocessors),
        }
    }
}

/// The parts of a run that must be the same for all processes.
#[derive(Clone, PartialEq, Message)]
struct Digests {
    /// The resolved config.
    #[prost(string, tag = "1")]
    config: String,
    /// sha256 of the training rows.
    #[prost(string, tag = "2")]
    rows: String,
}

/// Checks that all processes have the same config and rows.
fn same_start(config: &Config, rows: &Rows, world: &World) -> Result<()> {
    let own = Digests {
        config: config.resolved()?,
        rows: rows.hash().to_owned(),
    };
    let all = world.exchange(&own)?;
    for (rank, other) in all.iter().enumerate() {
        ensure!(
            other.config == all[0].config,
            "rank {rank} has another config than rank 0"
        );
        ensure!(
            other.rows == all[0].rows,
            "{}: rank {rank} reads other rows than rank 0",
            config.dataset_path
        );
    }
    Ok(())
}

/// A pipe gives every byte to one reader only.
fn require_shareable(path: &Path, world: &World) -> Result<()> {
    let is_pipe = path == Path::new("-") || path.exists() && !path.is_file();
    ensure!(
        world.ranks().size == 1 || !is_pipe,
        "{}: several processes cannot share a pipe: expected a file",
        path.display()
    );
    Ok(())
}

/// The number of steps that the text-only branch takes alone, if there is one.
fn warmup_steps(config: &Config, preprocessors: &Branches<Preprocessor>) -> usize {
    let steps = config.text_branch_warmup_steps;
    preprocessors.text.as_ref().map_or(0, |_| steps)
}

fn cache_on_disk(config: &Config, trainer: &Trainer, output: &OutputFolder) -> Result<()> {
    let folder = output.features();
    let mut models = trainer.models.each();
    models.try_for_each(|model| Ok(model.cache_on_disk(&folder, config.vision_cache_disk)?))
}
