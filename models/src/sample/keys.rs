//! Keys that name images, videos, turns or margins in common data. Such a key that the row's format does not read is an
//! error of the row: reading the row without it would change its score silently.

use super::fields::Fields;
use crate::{Error, Result};

/// The content that the name of a key suggests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Image,
    Video,
    Audio,
    System,
    Turns,
    Margin,
}

use Meaning::*;

/// Names in lower case, without separators and without `chosen` or `rejected` in front.
const NAMES: [(Meaning, &[&str]); 6] = [
    (
        Image,
        &[
            "image",
            "images",
            "img",
            "imgs",
            "imagepath",
            "imagepaths",
            "imagespath",
            "imgpath",
            "imgpaths",
            "imgspath",
            "imageurl",
            "imageurls",
            "imgurl",
            "imgurls",
            "imagefile",
            "imagefiles",
            "imagefilename",
            "imagelist",
            "imagebytes",
            "imagebase64",
            "image",
            "images",
            "pixelvalues",
        ],
    ),
    (
        Video,
        &[
            "video",
            "videos",
            "videopath",
            "videopaths",
            "videourl",
            "videourls",
            "videofile",
            "videofiles",
        ],
    ),
    (
        Audio,
        &["audio", "audios", "audiopath", "audiopaths", "audiourl"],
    ),
    (System, &["system", "systemprompt", "systemmessage"]),
    (
        Turns,
        &[
            "history",
            "messages",
            "conversation",
            "conversations",
            "dialogue",
        ],
    ),
    (Margin, &["margin"]),
];

impl Meaning {
    fn of(key: &str) -> Option<Self> {
        let letters = key
            .chars()
            .filter(|letter| !matches!(letter, '_' | '-' | ' '));
        let name = letters.flat_map(char::to_lowercase).collect::<String>();
        let side = ["chosen", "rejected"]
            .into_iter()
            .find_map(|side| name.strip_prefix(side));
        let name = side.unwrap_or(&name);
        let mut known = NAMES.iter();
        known
            .find(|(_, names)| names.contains(&name))
            .map(|(meaning, _)| *meaning)
    }

    /// Whether `json` is an empty value: the row is the same without it.
    fn is_empty(self, json: &str) -> bool {
        let is_zero = || json.parse::<f64>().is_ok_and(|margin| margin == 0.0);
        is_blank(json) || (self == Margin && is_zero())
    }

    /// Whether `json` has the shape that the key's name suggests; a number under `image` is an identifier.
    fn fits(self, json: &str) -> bool {
        let item = match json.strip_prefix('[') {
            Some(items) => items.trim_start(),
            None if self == Turns => return false,
            None => json,
        };
        self != Margin && item.starts_with(['"', '{', '['])
    }

    fn problem(self, layout: &Layout) -> String {
        let Layout { rows, images } = layout;
        match self {
            Image => format!("not read in {rows}: their images are under {images}"),
            Video => "videos are not supported".to_owned(),
            Audio => "audio is not supported".to_owned(),
            System => format!("not read in {rows}: a system message is a text under system"),
            Turns => format!("not read in {rows}: earlier turns are a list under history"),
            Margin => format!("not read in {rows}: margins belong to pairs"),
        }
    }
}

/// Whether `json` is an empty text, list or object.
pub(super) fn is_blank(json: &str) -> bool {
    let is_blank = |open, close| {
        let inside = json
            .strip_prefix(open)
            .and_then(|rest| rest.strip_suffix(close));
        inside.is_some_and(|inside: &str| inside.trim().is_empty())
    };
    json == "\"\"" || is_blank('[', ']') || is_blank('{', '}')
}

/// Whether a value under a key of images has the shape of an image or a list of them, not of an identifier.
pub(super) fn holds_image(json: &str) -> bool {
    Image.fits(json)
}

/// The name of a kind of rows, and the keys of their images.
pub(super) struct Layout {
    pub(super) rows: String,
    pub(super) images: &'static str,
}

/// Checks the keys that were not read, whatever their values.
///
/// # Errors
/// One of them names an image, a video, turns or a margin, and is not declared plain data.
pub(super) fn check(fields: &Fields, layout: &Layout) -> Result<()> {
    refuse(fields, layout, |_, _| true)
}

/// As [`check`], for rows whose other keys are carried through: only values of the shape that the key's name suggests
/// are refused.
pub(super) fn check_shapes(fields: &Fields, layout: &Layout) -> Result<()> {
    refuse(fields, layout, Meaning::fits)
}

fn refuse(
    fields: &Fields,
    layout: &Layout,
    is_meant: impl Fn(Meaning, &str) -> bool,
) -> Result<()> {
    for (key, json) in fields.unread() {
        let meaning = Meaning::of(key).filter(|m| !m.is_empty(json) && is_meant(*m, json));
        if let Some(meaning) = meaning {
            let problem = meaning.problem(layout);
            return Err(Error::invalid(format!(
                "{key}: {problem} (plain data? --carry {key}, in a training config carry: [{key}])"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::CarriedKeys;
    use super::*;

    fn layout() -> Layout {
        Layout {
            rows: "scoring rows".into(),
            images: "img_path",
        }
    }

    #[test]
    fn names_are_known_in_every_spelling() {
        for (key, meaning) in [
            ("Image", Some(Image)),
            ("img_paths", Some(Image)),
            ("chosen-image_path", Some(Image)),
            ("rejectedImages", Some(Image)),
            ("videos", Some(Video)),
            ("audios", Some(Audio)),
            ("system_prompt", Some(System)),
            ("history", Some(Turns)),
            ("margin", Some(Margin)),
            ("chosen", None),
            ("image_id", None),
            ("models", None),
            ("id", None),
        ] {
            assert_eq!(Meaning::of(key), meaning, "{key}");
        }
    }

    #[test]
    fn values_that_say_nothing_are_no_error() {
        let row = r#"{"image":"","images":[ ],"video":{},"history":null,"margin":0.0,"system":""}"#;
        let fields = Fields::parse(row, &CarriedKeys::default()).unwrap();
        check(&fields, &layout()).unwrap();
    }

    #[test]
    fn shapes_distinguish_images_and_turns_from_identifiers() {
        for (row, is_refused) in [
            (r#"{"image":7}"#, false),
            (r#"{"images":[7, 8]}"#, false),
            (r#"{"image":true}"#, false),
            (r#"{"image":"a.png"}"#, true),
            (r#"{"images":[ {"path":"a.png"}]}"#, true),
            (r#"{"video":{"path":"a.mp4"}}"#, true),
            (r#"{"history":"first visit"}"#, false),
            (r#"{"history":[["q","a"]]}"#, true),
            (r#"{"messages":[{"role":"user","content":"q"}]}"#, true),
            (r#"{"system":"Answer briefly."}"#, true),
            (r#"{"system":3}"#, false),
            (r#"{"margin":2.5}"#, false),
        ] {
            let fields = Fields::parse(row, &CarriedKeys::default()).unwrap();
            let result = check_shapes(&fields, &layout());
            assert_eq!(result.is_err(), is_refused, "{row}");
            assert_eq!(
                check(&fields, &layout()).is_err(),
                row.contains(':'),
                "{row}"
            );
        }
    }

    #[test]
    fn a_carried_key_is_plain_data() {
        let row = r#"{"image":"a.png"}"#;
        let fields = Fields::parse(row, &CarriedKeys::default()).unwrap();
        let error = check(&fields, &layout()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "image: not read in scoring rows: their images are under img_path (plain data? --carry image, in a \
             training config carry: [image])"
        );
        let fields = Fields::parse(row, &CarriedKeys::from_iter(["image"])).unwrap();
        check(&fields, &layout()).unwrap();
        assert_eq!((fields.has("image"), fields.without(&[]).len()), (false, 1));
    }
}
