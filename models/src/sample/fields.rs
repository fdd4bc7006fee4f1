//! The keys of one row, with raw values.
//!
//! Values stay raw so that carried values, numbers above all, are written with the same bytes.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::addresses::Addresses;
use super::carried::CarriedKeys;
use super::python_json;
use crate::{Error, Result};

/// A row's keys and raw values in the row's order; of two values of one key, the last counts, like in Python.
#[derive(Debug)]
pub(super) struct Fields {
    list: Vec<Field>,
    addresses: Addresses,
}

#[derive(Debug)]
struct Field {
    name: String,
    value: Box<RawValue>,
    /// Whether the value has been read.
    is_read: Cell<bool>,
    /// Whether the user declared it plain data: it counts as absent.
    is_carried: bool,
}

impl Fields {
    /// Reads a row: one JSON object, as Python writes it, in which the keys that are `carried` count as absent.
    pub(super) fn parse(row: &str, carried: &CarriedKeys) -> Result<Self> {
        let mut fields = match serde_json::from_str::<Self>(row) {
            Ok(fields) => fields,
            Err(e) => python_json::quoted(row)
                .and_then(|quoted| serde_json::from_str(&quoted).ok())
                .ok_or_else(|| not_an_object(row, &e))?,
        };
        for field in &mut fields.list {
            field.is_carried = carried.contains(&field.name);
        }
        Ok(fields)
    }

    /// The same, in which images may be `addresses`.
    pub(super) fn with_addresses(self, addresses: Addresses) -> Self {
        Self { addresses, ..self }
    }

    /// Whether images may be addresses.
    pub(super) fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The raw value of `key`; `null` counts as absent.
    pub(super) fn get(&self, key: &str) -> Option<&RawValue> {
        let field = self.named(key)?;
        field.is_read.set(true);
        Some(&*field.value).filter(|value| value.get() != "null")
    }

    /// The value of `key` as JSON text, without reading it.
    pub(super) fn peek(&self, key: &str) -> Option<&str> {
        self.find(key).map(|field| field.value.get())
    }

    fn find(&self, key: &str) -> Option<&Field> {
        let field = self.named(key);
        field.filter(|field| field.value.get() != "null")
    }

    fn named(&self, key: &str) -> Option<&Field> {
        let mut fields = self.list.iter();
        fields.find(|field| field.name == key && !field.is_carried)
    }

    /// The keys whose values have not been read and are no plain data, with their values as JSON text.
    pub(super) fn unread(&self) -> impl Iterator<Item = (&str, &str)> {
        let unread = |field: &&Field| {
            !field.is_read.get() && !field.is_carried && field.value.get() != "null"
        };
        let fields = self.list.iter().filter(unread);
        fields.map(|field| (field.name.as_str(), field.value.get()))
    }

    /// The value of `key` as JSON text of Python, `null` without one.
    pub(super) fn json(&self, key: &str) -> String {
        python_json::restored(self.peek(key).unwrap_or("null"))
    }

    /// Whether `key` has a value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Whether the row names `key`, be it with `null`.
    pub(super) fn names(&self, key: &str) -> bool {
        self.named(key).is_some()
    }

    /// Whether the value of `key` is a list.
    pub(super) fn is_list(&self, key: &str) -> bool {
        self.find(key)
            .is_some_and(|field| field.value.get().starts_with('['))
    }

    /// The string or number that `key` must have, as text.
    pub(super) fn scalar(&self, key: &str) -> Result<String> {
        match self.get(key).map(RawValue::get) {
            Some(number) if number.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                Ok(number.to_owned())
            }
            _ => self.string(key),
        }
    }

    /// The number of `key`, or `default` if it has no value.
    pub(super) fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        let number = |value| typed(value, "a number").map_err(|e| e.at(key));
        self.get(key).map_or(Ok(default), number)
    }

    /// The string that `key` must have.
    pub(super) fn string(&self, key: &str) -> Result<String> {
        let value = self.get(key).ok_or_else(|| missing(key, "a string"))?;
        typed(value, "a string").map_err(|e| e.at(key))
    }

    /// The list of strings that `key` must have.
    pub(super) fn strings(&self, key: &str) -> Result<Vec<String>> {
        let value = self
            .get(key)
            .ok_or_else(|| missing(key, "a list of strings"))?;
        list(value, "a list of strings").map_err(|e| e.at(key))
    }

    /// The keys and values that are not `ours`, values as JSON text of Python.
    pub(super) fn without(self, ours: &[&str]) -> Vec<(String, String)> {
        let rest = self.list.into_iter();
        let rest = rest.filter(|field| !ours.contains(&field.name.as_str()) || field.is_carried);
        rest.map(|field| (field.name, python_json::restored(field.value.get())))
            .collect()
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(input: D) -> std::result::Result<Self, D::Error> {
        input.deserialize_map(InOrder)
    }
}

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> std::result::Result<Fields, M::Error> {
        let mut fields: Vec<Field> = Vec::new();
        let mut known = HashMap::new();
        while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
            match known.insert(name.clone(), fields.len()) {
                None => fields.push(Field {
                    name,
                    value,
                    is_read: Cell::new(false),
                    is_carried: false,
                }),
                Some(index) => {
                    fields[index].value = value;
                    known.insert(name, index);
                }
            }
        }
        Ok(Fields {
            list: fields,
            addresses: Addresses::Refused,
        })
    }
}

fn list(value: &RawValue, expected: &str) -> Result<Vec<String>> {
    let items: Vec<Box<RawValue>> = typed(value, expected)?;
    let item = |(index, item)| typed(item, "a string").map_err(|e| e.at(format!("[{index}]")));
    let items = items.iter().map(AsRef::as_ref);
    items.enumerate().map(item).collect()
}

/// `value` as a `T`, which a message calls `expected`.
pub(super) fn typed<'a, T: Deserialize<'a>>(value: &'a RawValue, expected: &str) -> Result<T> {
    serde_json::from_str(value.get()).map_err(|e| match e.classify() {
        serde_json::error::Category::Data => {
            Error::invalid(format!("expected {expected}, got {}", kind(value.get())))
        }
        _ => not_json(&e),
    })
}

pub(super) fn missing(key: &str, expected: &str) -> Error {
    Error::invalid(format!("expected {expected}, got nothing")).at(key)
}

fn not_an_object(row: &str, e: &serde_json::Error) -> Error {
    match e.classify() {
        serde_json::error::Category::Data => {
            Error::invalid(format!("expected an object, got {}", kind(row)))
        }
        _ => not_json(e),
    }
}

/// A row is one line, so that of serde's "at line 1 column 5" only the column is useful.
fn not_json(e: &serde_json::Error) -> Error {
    let place = format!(" at line {} column {}", e.line(), e.column());
    let problem = e.to_string();
    let problem = problem.strip_suffix(&place).unwrap_or(&problem);
    Error::invalid(format!("not JSON: column {}: {problem}", e.column()))
}

/// The kind of a JSON text, by its first character.
fn kind(json: &str) -> &'static str {
    if python_json::is_marked(json) {
        return "NaN or an infinity";
    }
    match json.trim_start().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(row: &str) -> Result<Fields> {
        Fields::parse(row, &CarriedKeys::default())
    }

    fn message<T: fmt::Debug>(result: Result<T>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn rows_that_are_not_one_object_are_refused() {
        for (row, expected) in [
            ("[1]", "expected an object, got a list"),
            ("3", "expected an object, got a number"),
            ("{\"a\":1} x", "not JSON: column 9: trailing characters"),
            ("{\"a\":", "not JSON: column 5: EOF while parsing a value"),
            ("{'a':1}", "not JSON: column 2: key must be a string"),
            ("{\"a\":NaNs}", "not JSON: column 6: expected value"),
        ] {
            assert_eq!(message(parse(row)), expected, "{row}");
        }
    }

    #[test]
    fn values_are_asked_for_by_type() {
        let row =
            r#"{"s":"a\u00e9","n":5,"z":null,"l":["x",2],"o":{},"e":"","surrogate":"\ud800"}"#;
        let fields = parse(row).unwrap();
        assert_eq!(fields.string("s").unwrap(), "aé");
        assert_eq!(
            message(fields.string("n")),
            "n: expected a string, got a number"
        );
        assert_eq!(
            message(fields.string("z")),
            "z: expected a string, got nothing"
        );
        assert_eq!(
            message(fields.strings("l")),
            "l: [1]: expected a string, got a number"
        );
        assert!(message(fields.string("surrogate")).starts_with("surrogate: not JSON: "));
    }

    #[test]
    fn numbers_of_python_are_carried_and_are_no_numbers() {
        let fields = parse(r#"{"a":NaN,"b":[1,-Infinity],"margin":NaN}"#).unwrap();
        assert_eq!(
            message(fields.number_or("margin", 0.0)),
            "margin: expected a number, got NaN or an infinity"
        );
        let rest = fields.without(&["margin"]);
        assert_eq!((&*rest[0].1, &*rest[1].1), ("NaN", "[1,-Infinity]"));
    }

    #[test]
    fn depth_is_carried_but_never_descended_into() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let fields = parse(&format!("{{\"a\":{deep}}}")).unwrap();
        assert_eq!(fields.without(&[])[0].1, deep);
        let fields = parse(&format!("{{\"a\":{deep}}}")).unwrap();
        let error = typed::<serde_json::Value>(fields.get("a").unwrap(), "a list");
        assert!(message(error).contains("recursion limit"));
    }

    #[test]
    fn the_last_of_two_values_counts() {
        let fields = parse(r#"{"a":"1","b":"2","a":"3"}"#).unwrap();
        assert_eq!(fields.string("a").unwrap(), "3");
        assert_eq!(fields.without(&["b"]).len(), 1);
    }
}
