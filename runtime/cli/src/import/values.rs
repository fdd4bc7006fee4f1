//! A row of Parquet as JSON, its images stored as files.

use std::fs;

use anyhow::Result;
use parquet::record::{Field, Row};
use serde_json::{Map, Number, Value};

use super::images::ImageStore;
use crate::image_folder::ImageFolder;

/// Columns whose texts are paths of images, if they hold texts.
const IMAGE_COLUMNS: [&str; 5] = ["image", "images", "img", "img_path", "Image"];

/// A value, or what is wrong with the row; outside of it an error that ends the import.
type Converted<T> = Result<Result<T, String>>;

/// The conversion of one row.
pub(super) struct Converter<'a> {
    pub(super) images: &'a mut ImageStore,
    /// Where image paths start.
    pub(super) folder: &'a ImageFolder,
    /// Words of which the first one in an image's path stays in its name.
    pub(super) labels: &'static [&'static str],
}

impl Converter<'_> {
    /// A row as an object; images become paths.
    ///
    /// # Errors
    /// An image cannot be written.
    pub(super) fn row(&mut self, row: Row) -> Converted<Map<String, Value>> {
        let mut object = Map::new();
        for (name, field) in row.into_columns() {
            let is_image = IMAGE_COLUMNS.contains(&name.as_str());
            match self.value(field, is_image)? {
                Ok(value) => object.insert(name, value),
                Err(problem) => return Ok(Err(format!("{name}: {problem}"))),
            };
        }
        Ok(Ok(object))
    }

    fn value(&mut self, field: Field, is_image: bool) -> Converted<Value> {
        match field {
            Field::Bytes(bytes) => self.image(bytes.data(), ""),
            Field::Str(path) if is_image && !path.is_empty() => self.file(&path),
            Field::Group(row) => match embedded(&row) {
                Some(Embedded {
                    bytes: Some(bytes),
                    path,
                }) => self.image(&bytes, &path),
                Some(Embedded { bytes: None, path }) if path.is_empty() => Ok(Ok(Value::Null)),
                Some(Embedded { bytes: None, path }) => self.file(&path),
                None => self.object(row),
            },
            Field::ListInternal(list) => {
                let mut values = Vec::with_capacity(list.len());
                for element in list.elements() {
                    match self.value(element.clone(), is_image)? {
                        Ok(value) => values.push(value),
                        Err(problem) => return Ok(Err(format!("[{}]: {problem}", values.len()))),
                    }
                }
                Ok(Ok(Value::Array(values)))
            }
            other => Ok(Ok(plain(other))),
        }
    }

    fn object(&mut self, row: Row) -> Converted<Value> {
        Ok(self.row(row)?.map(Value::Object))
    }

    fn image(&mut self, bytes: &[u8], path: &str) -> Converted<Value> {
        let label = self
            .labels
            .iter()
            .find(|label| path.contains(**label))
            .copied();
        Ok(self.images.add(bytes, label)?.map(Value::String))
    }

    fn file(&mut self, path: &str) -> Converted<Value> {
        let file = match self.folder.resolve(path) {
            Ok(file) => file,
            Err(e) => return Ok(Err(e.to_string())),
        };
        match fs::read(&file) {
            Ok(bytes) => self.image(&bytes, path),
            Err(e) => Ok(Err(format!("{}: {e}", file.display()))),
        }
    }
}

/// An image as the library `datasets` writes it.
struct Embedded {
    bytes: Option<Vec<u8>>,
    path: String,
}

/// The image in a struct of `bytes` and `path`.
fn embedded(row: &Row) -> Option<Embedded> {
    let mut image = Embedded {
        bytes: None,
        path: String::new(),
    };
    if row.len() != 2 {
        return None;
    }
    for (name, field) in row.get_column_iter() {
        match (name.as_str(), field) {
            ("bytes", Field::Bytes(bytes)) => image.bytes = Some(bytes.data().to_vec()),
            ("path", Field::Str(path)) => image.path = path.clone(),
            ("bytes" | "path", Field::Null) => {}
            _ => return None,
        }
    }
    Some(image)
}

/// A value that holds no other and no image.
fn plain(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => value.into(),
        Field::Byte(number) => number.into(),
        Field::Short(number) => number.into(),
        Field::Int(number) => number.into(),
        Field::Long(number) => number.into(),
        Field::UByte(number) => number.into(),
        Field::UShort(number) => number.into(),
        Field::UInt(number) => number.into(),
        Field::ULong(number) => number.into(),
        Field::Float16(number) => float(number.into()),
        Field::Float(number) => float(number.into()),
        Field::Double(number) => float(number),
        Field::Str(text) => text.into(),
        // Dates, times and decimals in their usual spelling.
        other => other.to_string().into(),
    }
}

/// JSON has no NaN and no infinities: they are as good as absent.
fn float(number: f64) -> Value {
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}
