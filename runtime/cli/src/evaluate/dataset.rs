//! A file of preferences as scoring rows, with each distinct response once, and as pairs to compare.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use seeward_models::atomic::replace_file;
use seeward_models::sample::{Candidates, Group, Lines, Pair, PreferenceReader, PreferenceRow};
use serde_json::json;

use super::arguments::PreferenceFile;
use super::rewards::{Place, Rewards};

/// A set of preferences, ready to be scored.
#[derive(Debug)]
pub(super) struct Dataset {
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// The file of its JSON lines, which is another one if `path` is compressed, an array or a pipe.
    source: PathBuf,
    pub(super) reader: PreferenceReader,
    /// The file of the scoring rows.
    pub(super) requests: PathBuf,
    /// For each scoring row its line in `path`.
    pub(super) lines: Vec<u64>,
    pub(super) comparisons: Vec<Comparison>,
    pub(super) rated: Vec<RatedPlaces>,
    /// Rows of the file.
    pub(super) rows: u64,
    /// Lines of rows that could not be read, with the error.
    pub(super) broken: Vec<(u64, String)>,
    /// Pairs of equally rated responses, which are skipped.
    pub(super) equally_rated: usize,
}

/// A pair of responses: `better` should have the greater reward.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Comparison {
    pub(super) line: u64,
    /// Its index among the pairs of its line.
    pub(super) pair: usize,
    pub(super) better: Place,
    pub(super) worse: Place,
    /// The length of the better response minus that of the other, in characters.
    pub(super) longer: i64,
    pub(super) group: Option<Group>,
    pub(super) question: Option<String>,
}

/// The responses of a row that have a rating.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RatedPlaces {
    pub(super) places: Vec<Place>,
    pub(super) ratings: Vec<f64>,
}

/// A scoring row that is being built.
struct Request {
    prompt: String,
    images: Vec<String>,
    responses: Vec<String>,
}

impl Dataset {
    /// Reads a file, whose JSON lines are in `source`, with `reader` and writes its scoring rows to `requests`.
    ///
    /// # Errors
    /// The file cannot be read, or the scoring rows cannot be written.
    pub(super) fn read(
        file: &PreferenceFile,
        source: &Path,
        reader: PreferenceReader,
        requests: &Path,
    ) -> Result<Self> {
        let mut set = Self::empty(file, source, reader, requests);
        let mut text = String::new();
        for item in Lines::open(source)? {
            let (line, row) = item.with_context(|| file.path.display().to_string())?;
            set.rows += 1;
            match row.and_then(|row| set.reader.read(&row)) {
                Ok(row) => text += &set.push(line.number, row),
                Err(error) => set.broken.push((line.number, error.to_string())),
            }
        }
        write_if_changed(requests, text.as_bytes())?;
        Ok(set)
    }

    /// The set before its first row.
    fn empty(
        file: &PreferenceFile,
        source: &Path,
        reader: PreferenceReader,
        requests: &Path,
    ) -> Self {
        Self {
            name: file.name.clone(),
            path: file.path.clone(),
            source: source.to_owned(),
            reader,
            requests: requests.to_owned(),
            lines: Vec::new(),
            comparisons: Vec::new(),
            rated: Vec::new(),
            rows: 0,
            broken: Vec::new(),
            equally_rated: 0,
        }
    }

    /// Adds a row and returns its scoring rows.
    fn push(&mut self, line: u64, row: PreferenceRow) -> String {
        let first = self.lines.len();
        let mut requests = Requests {
            first,
            requests: Vec::new(),
        };
        // Before the pairs, so that the responses keep their order.
        let rated = row.candidates.as_ref().map(|c| requests.rated(c));
        self.rated.extend(rated);
        for (index, pair) in row.pairs.iter().enumerate() {
            self.comparisons.push(Comparison {
                line,
                pair: index,
                better: requests.place(&pair.prompt, &pair.chosen_images, &pair.chosen),
                worse: requests.place(&pair.prompt, &pair.rejected_images, &pair.rejected),
                longer: longer(pair),
                group: row.group.clone(),
                question: row.question.clone(),
            });
        }
        self.equally_rated += row.ties_dropped;
        self.lines.extend(requests.requests.iter().map(|_| line));
        requests.lines()
    }

    /// A warning that names the training sets with which the benchmark shares rows.
    pub(super) fn overlap(&self) -> Option<String> {
        let format = self.reader.format()?;
        let overlaps = format.overlaps()?;
        Some(format!(
            "{format} draws on the sources of {overlaps}: a model that was trained on these may have met part of it"
        ))
    }

    /// The lines that could not be read, or that a model could not score, with the error.
    pub(super) fn failures<'a>(
        &self,
        rewards: impl Iterator<Item = &'a Rewards>,
    ) -> BTreeMap<u64, String> {
        let failed = rewards.flat_map(|rewards| rewards.failed.iter().cloned());
        self.broken.iter().cloned().chain(failed).collect()
    }

    /// Reads the pairs of comparisons from the file again.
    ///
    /// # Errors
    /// The file cannot be read or has changed.
    pub(super) fn pairs(&self, wanted: &[&Comparison]) -> Result<Vec<Pair>> {
        let mut pairs = vec![None; wanted.len()];
        for item in Lines::open(&self.source)? {
            let (line, row) = item.with_context(|| self.path.display().to_string())?;
            let of_line = |place: &usize| wanted[*place].line == line.number;
            let places: Vec<usize> = (0..wanted.len()).filter(of_line).collect();
            if places.is_empty() {
                continue;
            }
            let row = self.reader.read(&row?)?;
            for place in places {
                pairs[place] = row.pairs.get(wanted[place].pair).cloned();
            }
        }
        let changed = || format!("{}: changed during the evaluation", self.path.display());
        pairs
            .into_iter()
            .collect::<Option<_>>()
            .with_context(changed)
    }
}

fn longer(pair: &Pair) -> i64 {
    pair.chosen.chars().count() as i64 - pair.rejected.chars().count() as i64
}

/// Writes a file unless it has these bytes already.
fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    match fs::read(path) {
        Ok(before) if before == bytes => Ok(()),
        _ => Ok(replace_file(path, bytes)?),
    }
}

/// The scoring rows of one row: one for each distinct list of images.
struct Requests {
    /// The index of the first one among the file's.
    first: usize,
    requests: Vec<Request>,
}

impl Requests {
    /// The place of a response, which is added if it is new.
    fn place(&mut self, prompt: &str, images: &[String], response: &str) -> Place {
        let row = find_or_push(
            &mut self.requests,
            |request| request.images == images,
            || Request {
                prompt: prompt.to_owned(),
                images: images.to_owned(),
                responses: Vec::new(),
            },
        );
        let responses = &mut self.requests[row].responses;
        let response = find_or_push(responses, |r| r == response, || response.to_owned());
        Place {
            row: self.first + row,
            response,
        }
    }

    fn rated(&mut self, candidates: &Candidates) -> RatedPlaces {
        let numbers = candidates.rated.iter().filter_map(|(response, rating)| {
            let rating = rating.filter(|rating| rating.is_finite())?;
            Some((
                self.place(&candidates.prompt, &candidates.images, response),
                rating,
            ))
        });
        let (places, ratings) = numbers.unzip();
        RatedPlaces { places, ratings }
    }

    fn lines(&self) -> String {
        let line = |(index, request): (usize, &Request)| {
            let row = json!({
                "prompt": request.prompt,
                "img_path": request.images,
                "responses": request.responses,
                "row": self.first + index,
            });
            format!("{row}\n")
        };
        self.requests.iter().enumerate().map(line).collect()
    }
}

/// The index of the first item for which `is_it` holds; without one, `new` is pushed.
fn find_or_push<T>(list: &mut Vec<T>, is_it: impl Fn(&T) -> bool, new: impl Fn() -> T) -> usize {
    list.iter().position(is_it).unwrap_or_else(|| {
        list.push(new());
        list.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_folder::ImageFolder;
    use seeward_models::sample::CarriedKeys;
    use serde_json::Value;

    fn read(rows: &str) -> (Dataset, Vec<Value>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        fs::write(&path, rows).unwrap();
        let file = PreferenceFile {
            name: "set".into(),
            images: ImageFolder::new(None, false, &path).unwrap(),
            path,
        };
        let requests = folder.path().join("requests.jsonl");
        let reader = PreferenceReader::recognise(&file.path, CarriedKeys::default()).unwrap();
        let set = Dataset::read(&file, &file.path, reader, &requests).unwrap();
        let text = fs::read_to_string(&requests).unwrap();
        let requests = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let requests = requests.collect();
        (set, requests)
    }

    fn place(row: usize, response: usize) -> Place {
        Place { row, response }
    }

    #[test]
    fn a_pair_is_one_scoring_row_and_one_comparison() {
        let row = r#"{"prompt": "p", "img_path": "a.png", "chosen": "xyz", "rejected": "y"}"#;
        let (set, requests) = read(&format!("\n{row}\n{row}\n"));
        let expected =
            json!({"prompt": "p", "img_path": ["a.png"], "responses": ["xyz", "y"], "row": 1});
        assert_eq!((requests.len(), &requests[1]), (2, &expected));
        let second = &set.comparisons[1];
        assert_eq!((second.line, second.longer), (3, 2));
        assert_eq!((second.better, second.worse), (place(1, 0), place(1, 1)));
        assert_eq!(set.lines, [2, 3]);
    }

    #[test]
    fn sides_with_different_images_are_two_scoring_rows() {
        let (set, requests) = read(
            r#"{"prompt": "p", "chosen_img_path": "a.png", "rejected_img_path": "b.png", "chosen": "x", "rejected": "x"}"#,
        );
        assert_eq!(requests.len(), 2);
        assert_eq!(set.comparisons[0].worse, place(1, 0));
        assert_eq!(set.lines, [1, 1]);
    }

    #[test]
    fn a_rated_row_scores_each_response_once() {
        let (set, requests) = read(
            r#"{"prompt": "p", "responses": ["x", "y", "z", "y"], "ratings": [3, 5, 5, null]}"#,
        );
        assert_eq!(requests[0]["responses"], json!(["x", "y", "z"]));
        assert_eq!((set.comparisons.len(), set.equally_rated), (2, 1));
        let rated = &set.rated[0];
        assert_eq!(rated.ratings, [3.0, 5.0, 5.0]);
        assert_eq!(rated.places, [place(0, 0), place(0, 1), place(0, 2)]);
    }

    #[test]
    fn a_broken_row_is_reported_with_its_line() {
        let row = r#"{"prompt": "p", "chosen": "x", "rejected": "y"}"#;
        let other = r#"{"question": "p", "chosen": "x", "rejected": "y"}"#;
        let (set, requests) = read(&format!("{row}\n[]\n{other}\n{row}\n"));
        assert_eq!((set.rows, requests.len()), (4, 2));
        assert_eq!(set.broken[0], (2, "expected an object, got a list".into()));
        assert!(
            set.broken[1]
                .1
                .contains("expected a row of format pairwise")
        );
    }
}
