//! SVG as text: elements, and documents with a white background, which suits light and dark pages.

use std::fmt::{self, Display};

/// Colours of data series that colour-blind readers can distinguish (Okabe and Ito's palette).
pub const PALETTE: [&str; 6] = [
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00",
];

/// A coordinate, written with one decimal.
#[derive(Clone, Copy, Debug)]
pub struct Tenths(pub f64);

impl Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1}", self.0)
    }
}

/// Names and values of an element's attributes, in the order in which they are written.
pub type Attributes<'a> = [(&'a str, &'a dyn Display)];

/// An element without content.
pub fn element(name: &str, attributes: &Attributes) -> String {
    format!("<{name}{}/>", join(attributes))
}

/// A line of text. `content` is escaped.
pub fn text(attributes: &Attributes, content: &str) -> String {
    format!("<text{}>{}</text>", join(attributes), escape(content))
}

fn join(attributes: &Attributes) -> String {
    let attribute = |(name, value): &(&str, &dyn Display)| format!(" {name}=\"{value}\"");
    attributes.iter().map(attribute).collect()
}

/// Escapes text for HTML and SVG.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            c => escaped.push(c),
        }
    }
    escaped
}

/// A document: an SVG file with a title.
#[derive(Clone, Debug)]
pub struct Document<'a> {
    /// The title, which is escaped.
    pub title: &'a str,
    /// Left end and baseline of the title.
    pub title_at: (f64, f64),
    /// Width and height in pixels.
    pub size: (f64, f64),
    /// The style sheet; the title's class is `title`.
    pub style: &'a str,
}

impl Document<'_> {
    /// The file's text, with `marks` inside.
    pub fn draw(&self, marks: &str) -> String {
        let (width, height) = self.size;
        let (x, y) = self.title_at;
        let background = element(
            "rect",
            &[
                ("width", &"100%"),
                ("height", &"100%"),
                ("rx", &8),
                ("fill", &"#fff"),
            ],
        );
        let title = text(&[("class", &"title"), ("x", &x), ("y", &y)], self.title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\">\n<style>{}</style>\n{background}\n{title}\n{marks}</svg>\n",
            self.style
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_text_is_never_markup() {
        assert_eq!(
            escape("<img src=\"x\"> & é"),
            "&lt;img src=&quot;x&quot;&gt; &amp; é"
        );
    }

    #[test]
    fn attributes_keep_their_order() {
        let mark = element("circle", &[("r", &4.5), ("cx", &Tenths(1.26))]);
        assert_eq!(mark, "<circle r=\"4.5\" cx=\"1.3\"/>");
        assert_eq!(
            text(&[("x", &2.0)], "a < b"),
            "<text x=\"2\">a &lt; b</text>"
        );
    }
}
