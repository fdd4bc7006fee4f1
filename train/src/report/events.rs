//! TensorBoard event files: TFRecords that hold protocol buffers, with the field numbers of TensorBoard's published
//! `event.proto`, `summary.proto` and `histogram.proto`. Fields that Seeward does not write are omitted.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use prost::Message;

const VERSION: &str = "brain.Event:2";
/// Buckets of a histogram; TensorBoard draws 30.
const BUCKETS: usize = 30;

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

impl SessionLog {
    /// Makes viewers discard events of this step and of later ones.
    const START: Self = Self { status: 1 };
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    scalar: Option<f32>,
    #[prost(message, optional, tag = "5")]
    histogram: Option<Histogram>,
}

/// A histogram: counts between ascending limits.
#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(double, tag = "1")]
    min: f64,
    #[prost(double, tag = "2")]
    max: f64,
    #[prost(double, tag = "3")]
    count: f64,
    #[prost(double, tag = "4")]
    sum: f64,
    #[prost(double, tag = "5")]
    sum_of_squares: f64,
    /// Upper limits of the buckets.
    #[prost(double, repeated, tag = "6")]
    limits: Vec<f64>,
    #[prost(double, repeated, tag = "7")]
    counts: Vec<f64>,
}

impl Histogram {
    /// A histogram with [`BUCKETS`] buckets of equal width, or one bucket if all values are equal.
    fn of(values: &[f64]) -> Self {
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let buckets = if max > min { BUCKETS } else { 1 };
        let width = (max - min) / buckets as f64;
        let mut counts = vec![0.0; buckets];
        for value in values {
            // The greatest value belongs to the last bucket; rounding must not exceed it.
            let bucket = ((value - min) / width) as usize;
            counts[bucket.min(buckets - 1)] += 1.0;
        }
        let limit = |bucket| match bucket {
            _ if bucket == buckets => max,
            _ => min + width * bucket as f64,
        };
        Self {
            min,
            max,
            count: values.len() as f64,
            sum: values.iter().sum(),
            sum_of_squares: values.iter().map(|value| value * value).sum(),
            limits: (1..=buckets).map(limit).collect(),
            counts,
        }
    }
}

/// The event file of this process.
pub(crate) struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Starts a new file in `output` for the steps after `step`. Removes events of later steps from earlier files, and
    /// makes viewers that have read them discard them.
    ///
    /// # Errors
    /// An I/O error.
    pub(crate) fn open(output: &Path, step: usize) -> Result<Self> {
        for entry in fs::read_dir(output).with_context(|| output.display().to_string())? {
            let entry = entry?;
            if is_file_name(&entry.file_name().to_string_lossy()) {
                cut(&entry.path(), step).with_context(|| entry.path().display().to_string())?;
            }
        }
        // Viewers read the files of a folder by name, so names sort by time.
        let (seconds, process) = (now(), std::process::id());
        let name = format!("{PREFIX}{:017.6}.{process}.seeward", seconds);
        let path = output.join(name);
        let file = OpenOptions::new().create_new(true).append(true).open(&path);
        let file = file.with_context(|| path.display().to_string())?;
        let mut events = Self { path, file };
        events.write(&Event {
            file_version: Some(VERSION.to_owned()),
            ..Event::at(0)
        })?;
        events.write(&Event {
            session: Some(SessionLog::START),
            ..Event::at(step + 1)
        })?;
        Ok(events)
    }

    /// Adds the scalars and histograms of one step, by tag.
    ///
    /// # Errors
    /// An I/O error.
    pub(crate) fn add(
        &mut self,
        step: usize,
        scalars: &[(String, f64)],
        histograms: &[(String, &[f64])],
    ) -> Result<()> {
        let scalars = scalars.iter().map(|(tag, value)| Value {
            tag: tag.clone(),
            scalar: Some(*value as f32),
            histogram: None,
        });
        let filled = histograms.iter().filter(|(_, values)| !values.is_empty());
        let histograms = filled.map(|(tag, values)| Value {
            tag: tag.clone(),
            scalar: None,
            histogram: Some(Histogram::of(values)),
        });
        let values = scalars.chain(histograms).collect();
        self.write(&Event {
            summary: Some(Summary { values }),
            ..Event::at(step)
        })
    }

    fn write(&mut self, event: &Event) -> Result<()> {
        let written = self.file.write_all(&record(&event.encode_to_vec()));
        written.with_context(|| self.path.display().to_string())
    }
}

impl Event {
    fn at(step: usize) -> Self {
        Self {
            wall_time: now(),
            step: step as i64,
            ..Self::default()
        }
    }
}

const PREFIX: &str = "events.out.tfevents.";

/// Whether the name is that of an event file.
pub(crate) fn is_file_name(name: &str) -> bool {
    name.starts_with(PREFIX)
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

const LENGTH_BYTES: usize = 8;
const CRC_BYTES: usize = 4;

/// A TFRecord: length, checksum of the length, content, checksum of the content.
fn record(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_le_bytes();
    let checksums = [&length[..], content].map(|bytes| masked_crc(bytes).to_le_bytes());
    [&length[..], &checksums[0], content, &checksums[1]].concat()
}

/// The checksum of the TFRecord format.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// Truncates a file before the first event after step `step`, or the first incomplete record.
fn cut(path: &Path, step: usize) -> std::io::Result<()> {
    let bytes = fs::read(path)?;
    let mut kept = 0;
    while let Some((event, length)) = next(&bytes[kept..]) {
        if event.step > step as i64 {
            break;
        }
        kept += length;
    }
    if kept == bytes.len() {
        return Ok(());
    }
    OpenOptions::new()
        .write(true)
        .open(path)?
        .set_len(kept as u64)
}

/// The first event and the length of its record; `None` at the end or if the record is incomplete.
fn next(bytes: &[u8]) -> Option<(Event, usize)> {
    let length = u64::from_le_bytes(bytes.get(..LENGTH_BYTES)?.try_into().ok()?);
    let start = LENGTH_BYTES + CRC_BYTES;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    let content = bytes.get(start..end)?;
    let whole = end.checked_add(CRC_BYTES)?;
    let is_intact = *bytes.get(..whole)? == record(content);
    let event = Event::decode(content).ok()?;
    is_intact.then_some((event, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_its_bucket() {
        let histogram = Histogram::of(&[-1.0, -0.99, 0.0, 2.0]);
        let (counts, limits) = (&histogram.counts, &histogram.limits);
        assert_eq!((counts.len(), limits[0], limits[29]), (30, -0.9, 2.0));
        assert_eq!((counts[0], counts[10], counts[29]), (2.0, 1.0, 1.0));
        assert_eq!(counts.iter().sum::<f64>(), 4.0);
        let equal = Histogram::of(&[0.5; 3]);
        assert_eq!((equal.limits, equal.counts), (vec![0.5], vec![3.0]));
    }

    #[test]
    fn an_incomplete_record_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = Events::open(folder.path(), 0).unwrap();
        for step in 1..=3 {
            events.add(step, &[("loss".to_owned(), 0.5)], &[]).unwrap();
        }
        let whole = fs::read(&events.path).unwrap();
        // File version, session start, then the three steps.
        let lengths = std::iter::successors(Some(0), |at| Some(at + next(&whole[*at..])?.1));
        let third = lengths.take(5).last().unwrap();
        for (damaged, kept) in [
            (whole[..whole.len() - 1].to_vec(), third),
            ([&whole[..], &[7; 9]].concat(), whole.len()),
        ] {
            fs::write(&events.path, damaged).unwrap();
            cut(&events.path, 3).unwrap();
            assert_eq!(fs::read(&events.path).unwrap(), &whole[..kept]);
        }
    }
}
