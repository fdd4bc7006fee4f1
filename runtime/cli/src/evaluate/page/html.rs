//! Sections, figures and formatted numbers of the page.

use crate::evaluate::plot::svg::escape;

/// Display names of the models, in the order of their colours.
pub(super) const MODEL: &str = "model";
pub(super) const TEXT_ONLY: &str = "text-only";
pub(super) const COMPARED: &str = "compared";

/// A section of the page; empty without content.
pub(super) fn section(title: &str, explained: &str, content: &str) -> String {
    match content.is_empty() {
        true => String::new(),
        false => format!(
            "<section>\n<h2>{title}</h2>\n<p class=\"lead\">{explained}</p>\n{content}</section>\n"
        ),
    }
}

/// A figure with caption, legend (class and name) and note.
pub(super) fn figure(title: &str, plot: &str, legend: &[(usize, &str)], note: &str) -> String {
    let entry =
        |(class, name): &(usize, &str)| format!("<li><i class=\"key k{class}\"></i>{name}</li>");
    let legend: String = legend.iter().map(entry).collect();
    let legend = match legend.is_empty() {
        true => legend,
        false => format!("<ul class=\"legend\">{legend}</ul>"),
    };
    let note = match note.is_empty() {
        true => String::new(),
        false => format!("<p class=\"note\">{note}</p>"),
    };
    format!(
        "<figure>\n<figcaption>{}</figcaption>\n{legend}{plot}{note}</figure>\n",
        escape(title)
    )
}

/// A grid of figures.
pub(super) fn figures(figures: &str) -> String {
    grid("figures", figures)
}

/// A grid of the CSS class `class`; empty without content.
pub(super) fn grid(class: &str, content: &str) -> String {
    match content.is_empty() {
        true => String::new(),
        false => format!("<div class=\"{class}\">\n{content}</div>\n"),
    }
}

/// A count with thin spaces between thousands.
pub(super) fn count(count: usize) -> String {
    let digits = count.to_string();
    let mut spaced = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            spaced.push('\u{2009}');
        }
        spaced.push(digit);
    }
    spaced
}

/// A share in percent with one decimal.
pub(super) fn percent(share: Option<f64>) -> String {
    share.map_or("–".into(), |share| format!("{:.1} %", 100.0 * share))
}

/// A difference of shares, in percentage points.
pub(super) fn points(difference: Option<f64>) -> String {
    difference.map_or("–".into(), |d| {
        format!("{:+.1}", 100.0 * d).replace('-', "−")
    })
}

/// An interval of shares, in percent.
pub(super) fn interval(interval: Option<(f64, f64)>) -> String {
    interval.map_or("–".into(), |(low, high)| {
        format!("{:.1} – {:.1}", 100.0 * low, 100.0 * high).replace('-', "−")
    })
}

/// A value with `digits` decimals.
pub(super) fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".into(), |value| {
        format!("{value:.digits$}").replace('-', "−")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        assert_eq!(count(7), "7");
        assert_eq!(count(1234567), "1\u{2009}234\u{2009}567");
        assert_eq!(percent(Some(0.12345)), "12.3 %");
        assert_eq!(points(Some(-0.05)), "−5.0");
        assert_eq!(number(None, 2), "–");
    }
}
