//! The pairs of largest disagreement, with their images.

use std::fmt::Write;

use super::html::{self, COMPARED, MODEL, TEXT_ONLY, number};
use crate::evaluate::disagreement::Disagreement;
use crate::evaluate::plot::svg::escape;
use crate::evaluate::report::Report;

pub(super) fn section(report: &Report) -> String {
    // Colour and name of the other model.
    let other = match (&report.compare, &report.text_only_model) {
        (Some(_), Some(_)) => Some((2, COMPARED)),
        (Some(_), None) => Some((1, COMPARED)),
        (None, Some(_)) => Some((1, TEXT_ONLY)),
        (None, None) => None,
    };
    let cards: String = report
        .disagreements
        .iter()
        .map(|pair| card(pair, other))
        .collect();
    let (title, explained) = match other {
        Some((_, COMPARED)) => (
            "Where the two models disagree most",
            "By the difference of the two preference probabilities σ(margin).",
        ),
        Some(_) => (
            "Where seeing changes most",
            "The pairs for which the model and the text-only model differ most in their preference \
             probabilities σ(margin).",
        ),
        None => (
            "Where it is most wrong",
            "The pairs with the lowest preference probability σ(margin) of the better response.",
        ),
    };
    let content = html::grid("cards", &cards);
    html::section(title, explained, &content)
}

fn card(pair: &Disagreement, other: Option<(usize, &str)>) -> String {
    let mut margins = margin(0, MODEL, pair.margin);
    if let Some(((class, name), value)) = other.zip(pair.other_margin) {
        margins += &margin(class, name, value);
    }
    format!(
        "<article>\n{}<div class=\"words\"><p class=\"prompt\">{}</p>\n<dl><dt class=\"better\">better</dt><dd>{}</dd>\
         <dt class=\"worse\">worse</dt><dd>{}</dd></dl>\n<p class=\"margins\">{margins}</p>\
         <p class=\"place\">{}, line {}</p></div>\n</article>\n",
        images(pair),
        escape(&pair.prompt),
        escape(&pair.chosen),
        escape(&pair.rejected),
        escape(&pair.set),
        pair.line,
    )
}

fn margin(class: usize, name: &str, margin: f64) -> String {
    let verdict = match margin {
        0.0 => "tie",
        margin if margin > 0.0 => "right",
        _ => "wrong",
    };
    let value = number(Some(margin), 2);
    format!("<span><i class=\"key k{class}\"></i>{name} <b class=\"{verdict}\">{value}</b></span>")
}

fn images(pair: &Disagreement) -> String {
    let mut images = String::new();
    for (path, small) in pair.images.iter().zip(&pair.thumbnails) {
        let alt = escape(path);
        let _ = match small {
            Some(jpeg) => write!(
                images,
                "<img alt=\"{alt}\" src=\"data:image/jpeg;base64,{}\">",
                base64(jpeg)
            ),
            None => write!(
                images,
                "<p class=\"missing\">image not available: {alt}</p>"
            ),
        };
    }
    match images.is_empty() {
        true => images,
        false => format!("<div class=\"images\">{images}</div>\n"),
    }
}

/// Base64 of RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            text.push(match digit > three.len() {
                true => '=',
                false => DIGITS[(bits >> (18 - 6 * digit) & 63) as usize] as char,
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ];
        for (text, expected) in vectors {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }
}
