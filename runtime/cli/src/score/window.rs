//! A window of rows: from text to the lines of the output and the errors file.

use std::sync::Once;

use anyhow::Result;
use seeward_models::Error;
use seeward_models::chat::TAG_NOTICE;
use seeward_models::sample::{CarriedKeys, ImageRef, ScoreRow, Scored, error_line};
use seeward_runtime::{Image, Prepared, Request, RewardModel, Scores, Usage};

use super::arguments::PROGRAM;
use super::input::Row;
use crate::image_folder::ImageFolder;
use crate::terminal;

/// The lines and counts of a scored window.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Lines for the output.
    pub(super) output: String,
    /// Lines for the errors file.
    pub(super) errors: String,
    pub(super) rows: u64,
    pub(super) failed_rows: u64,
    pub(super) usage: Usage,
}

impl Window {
    /// Joins this window and the next one.
    pub(super) fn and(mut self, next: Self) -> Self {
        self.output += &next.output;
        self.errors += &next.errors;
        self.rows += next.rows;
        self.failed_rows += next.failed_rows;
        self.usage += next.usage;
        self
    }

    /// Adds the lines of the row at `line`, or its error.
    fn push(&mut self, line: u64, text: seeward_models::Result<String>) {
        self.rows += 1;
        match text {
            Ok(text) => self.output += &text,
            Err(error) => {
                self.failed_rows += 1;
                self.errors += &error_line(line, &error);
            }
        }
    }
}

/// A window prepared for the engine.
pub(super) struct Ready {
    rows: Vec<(u64, seeward_models::Result<ScoreRow>)>,
    prepared: Prepared,
}

/// Reads rows with their images and packs them. A row that cannot be scored does not affect the others.
///
/// # Errors
/// The model cannot prepare requests at all.
pub(super) fn prepare(model: &RewardModel, reader: &Reader, rows: Vec<Row>) -> Result<Ready> {
    let mut requests = Vec::new();
    let mut parsed = Vec::new();
    for (line, text) in rows {
        parsed.push((line, reader.read(text, &mut requests)));
    }
    Ok(Ready {
        rows: parsed,
        prepared: model.prepare(&requests)?,
    })
}

/// Scores a prepared window.
///
/// # Errors
/// The engine failed.
pub(super) fn score(model: &RewardModel, ready: Ready) -> Result<Window> {
    let scored = model.run(ready.prepared)?;
    let mut window = Window {
        usage: scored.usage,
        ..Window::default()
    };
    let mut results = scored.results.into_iter();
    for (line, row) in ready.rows {
        let text = row.and_then(|row| lines(&row, results.next()));
        window.push(line, text);
    }
    Ok(window)
}

/// Reads rows: with the folder of their images and the keys that are plain data.
pub(super) struct Reader<'a> {
    pub(super) images: &'a ImageFolder,
    pub(super) carried: &'a CarriedKeys,
    /// Gives the notice about tags that stay in the text, once.
    pub(super) tag_notice: Once,
}

impl Reader<'_> {
    /// Parses the row `text` and adds its request to `requests`.
    fn read(
        &self,
        text: seeward_models::Result<String>,
        requests: &mut Vec<Request>,
    ) -> seeward_models::Result<ScoreRow> {
        let row = ScoreRow::parse(&text?, self.carried)?;
        if row.prompt.keeps_tag(row.images.len()) {
            let notice = || terminal::log(PROGRAM, format!("notice: {TAG_NOTICE}"));
            self.tag_notice.call_once(notice);
        }
        requests.push(request(&row, self.images)?);
        Ok(row)
    }
}

fn request(row: &ScoreRow, folder: &ImageFolder) -> seeward_models::Result<Request> {
    let image = |image: &ImageRef| match image {
        ImageRef::File(path) => folder.resolve(path).map(Image::from),
        ImageRef::Bytes(bytes) => Ok(Image::bytes(bytes.to_vec())),
    };
    let images: Vec<_> = row.images.iter().map(image).collect::<Result<_, _>>()?;
    let request = Request::new(&row.prompt).images(images);
    Ok(request.responses(&row.responses))
}

fn lines(
    row: &ScoreRow,
    result: Option<seeward_runtime::Result<Scores>>,
) -> seeward_models::Result<String> {
    let scores = result.ok_or_else(|| Error::invalid("the model returned no result"))?;
    let scores = scores.map_err(Error::invalid)?;
    let pairs = scores.rewards.iter().zip(scores.truncated);
    let scored = pairs.map(|(&score, truncated)| Scored { score, truncated });
    row.lines(&scored.collect::<Vec<_>>())
}
