//! The schedule of a run's checkpoints: when each is written and removed.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Result;

use crate::config::{Config, SaveStrategy};
use crate::output::checkpoint::Checkpoint;
use crate::output::folder::{self, OutputFolder};
use crate::output::probes::Probes;
use crate::output::resume::Resumed;
use crate::output::trainer_state::Progress;
use crate::report::display::Report;
use crate::step::best::Best;
use crate::step::measures::Measures;
use crate::step::shard::Moments;
use crate::step::trainer::Trainer;
use crate::world::ranks::World;

/// Writes the checkpoints of a run into its output folder.
pub(crate) struct Saver<'a> {
    pub(crate) config: &'a Config,
    pub(crate) output: OutputFolder,
    pub(crate) tokenizer_files: Vec<PathBuf>,
    pub(crate) probes: Probes,
    /// sha256 of the training rows.
    pub(crate) rows: String,
    pub(crate) rows_per_step: usize,
    /// All processes; the one that leads writes.
    pub(crate) world: Rc<World>,
    pub(crate) steps_per_epoch: usize,
    pub(crate) total_steps: usize,
    /// Progress of the newest checkpoint in the output folder.
    pub(crate) saved: Option<Progress>,
}

/// The state of a run that a checkpoint saves.
pub(crate) struct Snapshot<'a> {
    pub(crate) trainer: &'a Trainer,
    /// The report, whose metrics are synced before the checkpoint is written.
    pub(crate) report: &'a Report,
    /// Numbers of the training rows that were skipped so far.
    pub(crate) skipped_rows: &'a BTreeSet<usize>,
    /// Measures of the weights on the first evaluation set, if they were evaluated.
    pub(crate) measured: Option<&'a Measures>,
    /// The best evaluation so far.
    pub(crate) best: Option<Best>,
}

impl Saver<'_> {
    /// Progress of the newest checkpoint in `output`, if the run resumes from it.
    pub(crate) fn saved(output: &OutputFolder, resumed: Option<&Resumed>) -> Option<Progress> {
        let inside = resumed.filter(|resumed| resumed.folder.starts_with(output.path()));
        inside.map(|resumed| resumed.state.progress)
    }

    /// Checks that the disk has enough space for a checkpoint.
    ///
    /// # Errors
    /// Not enough disk space; the message has the bytes needed and available.
    pub(crate) fn require_space(&self, snapshot: &Snapshot) -> Result<()> {
        match self.world.leads() {
            true => self
                .checkpoint(snapshot)
                .require_space(self.output.path(), folder::LAST),
            false => Ok(()),
        }
    }

    /// Saves the checkpoint that is due at this progress, if any.
    ///
    /// # Errors
    /// An I/O error.
    pub(crate) fn save(&mut self, snapshot: &Snapshot, progress: Progress) -> Result<()> {
        if progress.step == self.total_steps {
            // A run that ended right after a checkpoint may not have pruned yet.
            self.prune()?;
            return self.write(snapshot, folder::LAST, progress);
        }
        let every = match self.config.save_strategy {
            SaveStrategy::No => return Ok(()),
            SaveStrategy::Steps => self.config.save_steps,
            SaveStrategy::Epoch => self.steps_per_epoch,
        };
        let steps = match progress.step {
            0 => progress.warmup,
            step => step,
        };
        if steps.is_multiple_of(every) {
            self.write(snapshot, &folder::name(progress), progress)?;
            self.prune()?;
        }
        Ok(())
    }

    /// Saves the weights with the best evaluation, if the config asks for it.
    ///
    /// # Errors
    /// An I/O error.
    pub(crate) fn save_best(&self, snapshot: &Snapshot, progress: Progress) -> Result<()> {
        if !self.config.load_best_model_at_end {
            return Ok(());
        }
        self.write_checkpoint(snapshot, folder::BEST, progress)
    }

    /// Completes a run that stops early after `waited` evaluations without improvement. If the run was complete before,
    /// its last checkpoint stays unchanged. Returns a notice.
    ///
    /// # Errors
    /// An I/O error.
    pub(crate) fn end_early(
        &mut self,
        snapshot: &Snapshot,
        progress: Progress,
        waited: usize,
    ) -> Result<String> {
        let last = self.output.path().join(folder::LAST);
        if !self.world.leaders(&last.exists())? {
            self.write(snapshot, folder::LAST, progress)?;
        }
        Ok(format!(
            "stopped early after step {}: {waited} evaluations without improvement",
            progress.step
        ))
    }

    /// Saves the unsaved progress of a run that `signal` interrupts. Returns a notice.
    ///
    /// # Errors
    /// An I/O error.
    pub(crate) fn interrupt(
        &mut self,
        snapshot: &Snapshot,
        progress: Progress,
        signal: impl Display,
    ) -> Result<String> {
        if progress > self.saved.unwrap_or_default() {
            self.write(snapshot, &folder::name(progress), progress)?;
        }
        let Some(saved) = self.saved else {
            return Ok(format!("interrupted by {signal} before the first step"));
        };
        let saved = self.output.path().join(folder::name(saved));
        let advice = match (
            self.config.save_only_model,
            self.config.overwrite_output_dir,
        ) {
            (true, _) => "without optimizer state (save_only_model)",
            (false, true) => "rerun the same command with overwrite_output_dir: false to resume",
            (false, false) => "rerun the same command to resume",
        };
        Ok(format!(
            "interrupted by {signal}; saved {}: {advice}",
            saved.display()
        ))
    }

    /// Removes files that only a resumed run needs.
    ///
    /// # Errors
    /// An I/O error.
    pub(crate) fn tidy(&self) -> Result<()> {
        self.world.barrier()?;
        match self.world.leads() {
            true => self.output.tidy(),
            false => Ok(()),
        }
    }

    /// A notice of the best evaluation, if the run saves its weights.
    pub(crate) fn best_notice(&self, best: Option<Best>) -> Option<String> {
        let best = best.filter(|_| self.config.load_best_model_at_end)?;
        let folder = self.output.path().join(folder::BEST);
        let (step, value) = (best.step, best.value);
        Some(format!(
            "best: {value} after step {step}: {}",
            folder.display()
        ))
    }

    fn prune(&self) -> Result<()> {
        let keep = self.config.save_total_limit;
        let keep = keep.filter(|_| self.world.leads());
        keep.map_or(Ok(()), |keep| self.output.prune(keep))
    }

    fn write(&mut self, snapshot: &Snapshot, name: &str, progress: Progress) -> Result<()> {
        self.write_checkpoint(snapshot, name, progress)?;
        // The previous files may lie in a checkpoint that will be pruned.
        let folder = self.output.path().join(name);
        let moved = |file: &PathBuf| Some(folder.join(file.file_name()?));
        self.tokenizer_files = self.tokenizer_files.iter().filter_map(moved).collect();
        self.saved = Some(progress);
        Ok(())
    }

    /// Every process gathers; the one that leads writes, while the others wait.
    fn write_checkpoint(&self, snapshot: &Snapshot, name: &str, progress: Progress) -> Result<()> {
        let moments = match self.config.save_only_model {
            true => Moments::new(),
            false => snapshot.trainer.optimizer.gather()?,
        };
        if self.world.leads() {
            snapshot.report.sync()?;
            let checkpoint = self.checkpoint(snapshot);
            checkpoint.write(self.output.path(), name, progress, &moments)?;
        }
        self.world.barrier()
    }

    fn checkpoint<'b>(&'b self, snapshot: &'b Snapshot) -> Checkpoint<'b> {
        Checkpoint {
            trainer: snapshot.trainer,
            config: self.config,
            tokenizer_files: &self.tokenizer_files,
            probes: &self.probes,
            rows: &self.rows,
            rows_per_step: self.rows_per_step,
            skipped_rows: snapshot.skipped_rows,
            measured: snapshot.measured,
            best: snapshot.best,
        }
    }
}
