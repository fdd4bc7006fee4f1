//! Typed access to JSON objects, and a check of their sizes.

use serde_json::Value;

use crate::{Error, Result};

/// Typed access to one JSON object; a wrong type is an error that names the key.
pub(super) struct Fields<'a>(pub(super) &'a Value);

impl<'a> Fields<'a> {
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// The keys that have a value.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'a str> {
        let entries = self.0.as_object().into_iter().flatten();
        entries
            .filter(|(_, value)| !value.is_null())
            .map(|(key, _)| key.as_str())
    }

    pub(super) fn is_null(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(Value::is_null)
    }

    pub(super) fn wrong(&self, key: &str, expected: &str) -> Error {
        let got = self.get(key).map_or("nothing".to_owned(), Value::to_string);
        Error::invalid(format!("{key}: expected {expected}, got {got}"))
    }

    pub(super) fn section(&self, key: &str) -> Result<Fields<'a>> {
        match self.get(key) {
            Some(value) if value.is_object() => Ok(Fields(value)),
            _ => Err(self.wrong(key, "an object")),
        }
    }

    pub(super) fn size(&self, key: &str) -> Result<usize> {
        self.get(key)
            .and_then(Value::as_u64)
            .filter(|&size| size > 0 && size < 1 << 31)
            .map(|size| size as usize)
            .ok_or_else(|| self.wrong(key, "a positive integer"))
    }

    pub(super) fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        if self.get(key).is_none() {
            Ok(default)
        } else {
            self.size(key)
        }
    }

    pub(super) fn integer_or(&self, key: &str, default: i64) -> Result<i64> {
        self.get(key).map_or(Ok(default), |v| {
            v.as_i64().ok_or_else(|| self.wrong(key, "an integer"))
        })
    }

    pub(super) fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        self.get(key).map_or(Ok(default), |_| self.number(key))
    }

    pub(super) fn number(&self, key: &str) -> Result<f64> {
        self.get(key)
            .and_then(Value::as_f64)
            .ok_or_else(|| self.wrong(key, "a number"))
    }

    pub(super) fn positive(&self, key: &str) -> Result<f64> {
        match self.number(key)? {
            number if number > 0.0 => Ok(number),
            _ => Err(self.wrong(key, "a positive number")),
        }
    }

    /// A list of `count` positive numbers.
    pub(super) fn factors(&self, key: &str, count: usize) -> Result<Vec<f64>> {
        let list = self.get(key).and_then(Value::as_array);
        let numbers: Vec<f64> = list
            .into_iter()
            .flatten()
            .filter_map(Value::as_f64)
            .filter(|&number| number > 0.0)
            .collect();
        if list.is_none_or(|list| list.len() != count) || numbers.len() != count {
            return Err(self.wrong(key, &format!("a list of {count} positive numbers")));
        }
        Ok(numbers)
    }

    pub(super) fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        self.get(key).map_or(Ok(default), |v| {
            v.as_bool().ok_or_else(|| self.wrong(key, "true or false"))
        })
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.get(key)
            .map(|v| v.as_str().ok_or_else(|| self.wrong(key, "a string")))
            .transpose()
    }

    pub(super) fn required_text(&self, key: &str) -> Result<&'a str> {
        self.text(key)?.ok_or_else(|| self.wrong(key, "a string"))
    }

    pub(super) fn first_text(&self, key: &str) -> Result<&'a str> {
        self.get(key)
            .and_then(|list| list.get(0))
            .and_then(Value::as_str)
            .ok_or_else(|| self.wrong(key, "a list with a class name"))
    }

    pub(super) fn one_of(&self, key: &str, supported: &[&str]) -> Result<()> {
        match self.text(key)? {
            Some(name) if supported.contains(&name) => Ok(()),
            _ => Err(self.wrong(key, &format!("one of {}", supported.join(", ")))),
        }
    }

    pub(super) fn absent_or(&self, key: &str, neutral: impl Into<Value>) -> Result<()> {
        let neutral = neutral.into();
        match self.get(key) {
            Some(value) if *value != neutral => Err(Error::invalid(format!(
                "{key}: {value} is not supported (supported: {neutral})"
            ))),
            _ => Ok(()),
        }
    }
}

/// Checks that `divisor` divides `number`, which a message calls `what` and `of`.
pub(super) fn divides(what: &str, divisor: usize, of: &str, number: usize) -> Result<()> {
    if divisor == 0 || !number.is_multiple_of(divisor) {
        return Err(Error::invalid(format!(
            "{what} ({divisor}) does not divide {of} ({number})"
        )));
    }
    Ok(())
}
