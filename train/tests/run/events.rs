//! TensorBoard's files, read by an independent reader: TFRecords with verified checksums, protocol buffers by field.

use std::collections::BTreeMap;
use std::fs;

use crate::support::{Run, golden, shortcut_aware};

/// The fields of a message, by number: varints and fixed64 as bits, fixed32 as bits, the rest as bytes.
struct Message<'a>(Vec<(u64, Field<'a>)>);

#[derive(Clone, Copy)]
enum Field<'a> {
    Bits(u64),
    Bytes(&'a [u8]),
}

impl<'a> Message<'a> {
    fn read(mut bytes: &'a [u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let field = match key & 7 {
                0 => Field::Bits(varint(&mut bytes)),
                1 => Field::Bits(u64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
                2 => {
                    let length = varint(&mut bytes) as usize;
                    Field::Bytes(take(&mut bytes, length))
                }
                5 => Field::Bits(u64::from(u32::from_le_bytes(
                    take(&mut bytes, 4).try_into().unwrap(),
                ))),
                kind => panic!("wire type {kind}"),
            };
            fields.push((key >> 3, field));
        }
        Self(fields)
    }

    fn bits(&self, number: u64) -> Option<u64> {
        self.0.iter().find_map(|(n, field)| match field {
            Field::Bits(bits) if *n == number => Some(*bits),
            _ => None,
        })
    }

    fn bytes(&self, number: u64) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter_map(move |(n, field)| match field {
            Field::Bytes(bytes) if *n == number => Some(*bytes),
            _ => None,
        })
    }

    fn messages(&self, number: u64) -> impl Iterator<Item = Message<'a>> {
        self.bytes(number).map(Message::read)
    }

    fn double(&self, number: u64) -> f64 {
        f64::from_bits(self.bits(number).unwrap_or(0))
    }

    /// A packed list.
    fn doubles(&self, number: u64) -> Vec<f64> {
        let bytes: Vec<u8> = self.bytes(number).flatten().copied().collect();
        let chunks = bytes.chunks_exact(8);
        chunks
            .map(|b| f64::from_le_bytes(b.try_into().unwrap()))
            .collect()
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for place in 0.. {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// CRC-32C bit by bit, by its polynomial.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

fn check(bytes: &[u8], stored: &[u8]) {
    let crc = crc32c(bytes);
    let masked = crc.rotate_right(15).wrapping_add(0xa282_ead8);
    assert_eq!(stored, masked.to_le_bytes());
}

/// The contents of a file of TFRecords.
fn records(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut contents = Vec::new();
    while !bytes.is_empty() {
        let length = take(&mut bytes, 8);
        check(length, take(&mut bytes, 4));
        let content = take(
            &mut bytes,
            u64::from_le_bytes(length.try_into().unwrap()) as usize,
        );
        check(content, take(&mut bytes, 4));
        contents.push(content);
    }
    contents
}

#[derive(Default)]
struct Board {
    /// Steps and values by tag, in the order of the files.
    scalars: BTreeMap<String, Vec<(u64, f32)>>,
    /// Steps and (count, sum, counts of the buckets, their limits) by tag.
    histograms: BTreeMap<String, Vec<(u64, Histogram)>>,
    /// The steps at which sessions start.
    starts: Vec<u64>,
}

struct Histogram {
    min: f64,
    max: f64,
    count: f64,
    sum: f64,
    squares: f64,
    limits: Vec<f64>,
    counts: Vec<f64>,
}

impl Board {
    fn of(run: &Run) -> Self {
        let mut board = Self::default();
        for name in run.names("events.out.tfevents.") {
            let bytes = fs::read(run.output().join(name)).unwrap();
            let events = records(&bytes).into_iter().map(Message::read);
            let events: Vec<_> = events.collect();
            assert_eq!(events[0].bytes(3).next(), Some(&b"brain.Event:2"[..]));
            events.iter().for_each(|event| board.add(event));
        }
        board
    }

    fn add(&mut self, event: &Message) {
        let step = event.bits(2).unwrap_or(0);
        assert!(event.double(1) > 1.7e9, "a time of day");
        for session in event.messages(7) {
            assert_eq!(session.bits(1), Some(1), "START");
            self.starts.push(step);
        }
        for value in event
            .messages(5)
            .flat_map(|summary| summary.messages(1).collect::<Vec<_>>())
        {
            let tag = value.bytes(1).next().unwrap();
            let tag = String::from_utf8(tag.to_vec()).unwrap();
            match value.messages(5).next() {
                Some(histogram) => {
                    let histogram = Histogram::read(&histogram);
                    self.histograms
                        .entry(tag)
                        .or_default()
                        .push((step, histogram));
                }
                None => {
                    let value = f32::from_bits(value.bits(2).unwrap() as u32);
                    self.scalars.entry(tag).or_default().push((step, value));
                }
            }
        }
    }
}

impl Histogram {
    fn read(message: &Message) -> Self {
        Self {
            min: message.double(1),
            max: message.double(2),
            count: message.double(3),
            sum: message.double(4),
            squares: message.double(5),
            limits: message.doubles(6),
            counts: message.doubles(7),
        }
    }

    fn check(&self, pairs: f64) {
        assert_eq!(self.count, pairs);
        assert_eq!(self.counts.iter().sum::<f64>(), pairs);
        assert_eq!(self.counts.len(), self.limits.len());
        assert!(self.limits.is_sorted() && self.min <= self.limits[0]);
        assert_eq!(*self.limits.last().unwrap(), self.max);
        let mean = self.sum / pairs;
        assert!(self.min <= mean && mean <= self.max);
        assert!(self.squares >= self.sum * mean - 1e-9);
    }
}

fn run(keys: &str) -> Run {
    shortcut_aware(&format!(
        "max_steps: 4\nsave_steps: 2\neval_steps: 2\neval_data: {{all: {}}}\n{keys}",
        golden("train/pairwise.jsonl").display()
    ))
}

/// All numbers of `metrics.jsonl`, as the board must have them.
fn expected(run: &Run) -> BTreeMap<String, Vec<(u64, f32)>> {
    let mut scalars: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for record in run.metrics() {
        let step = record["step"].as_u64().unwrap();
        let group = record
            .get("eval")
            .map_or(("train", &record), |sets| ("eval/all", &sets["all"]));
        for (key, value) in group.1.as_object().unwrap() {
            if key != "step" {
                let series = scalars.entry(format!("{}/{key}", group.0)).or_default();
                series.push((step, value.as_f64().unwrap() as f32));
            }
        }
    }
    scalars
}

#[test]
fn a_board_has_every_number_of_the_metrics() {
    let run = run("").succeed();
    let board = Board::of(&run);
    assert_eq!(board.scalars, expected(&run));
    let tags: Vec<_> = board.scalars.keys().map(String::as_str).collect();
    for tag in [
        "train/loss",
        "train/learning_rate",
        "train/sfc_mean",
        "eval/all/accuracy",
    ] {
        assert!(tags.contains(&tag), "{tags:?}");
    }
    assert_eq!(board.starts, [1]);
}

#[test]
fn histograms_have_the_values_that_the_metrics_average() {
    let run = run("").succeed();
    let board = Board::of(&run);
    for (group, steps, pairs) in [
        ("train", &[1, 2, 3, 4][..], 4.0),
        ("eval/all", &[2, 4], 12.0),
    ] {
        for name in ["margins", "margins_text", "sfc"] {
            let histograms = &board.histograms[&format!("{group}/{name}")];
            assert!(
                histograms.iter().map(|(step, _)| step).eq(steps),
                "{group}/{name}"
            );
            histograms
                .iter()
                .for_each(|(_, histogram)| histogram.check(pairs));
        }
        let means = &board.scalars[&format!("{group}/sfc_mean")];
        for ((_, mean), (_, histogram)) in
            means.iter().zip(&board.histograms[&format!("{group}/sfc")])
        {
            assert!((f64::from(*mean) - histogram.sum / pairs).abs() < 1e-6);
        }
    }
}

#[test]
fn a_resumed_run_has_no_step_twice() {
    let run = run("").succeed();
    // As after a kill between steps 3 and 4.
    fs::remove_dir_all(run.last()).unwrap();
    let run = run.succeed();
    assert_eq!(run.names("events").len(), 2);
    let board = Board::of(&run);
    assert_eq!(board.scalars, expected(&run));
    // Viewers that have read steps 3 and 4 of the first file discard them.
    assert_eq!(board.starts, [1, 3]);
}

#[test]
fn report_to_none_writes_no_board() {
    let run = Run::new("report_to: none").succeed();
    assert_eq!(run.names("events"), [""; 0]);
    assert_eq!(run.metrics().len(), 4);
}
