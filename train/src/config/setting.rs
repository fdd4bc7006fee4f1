//! Conversion between YAML values and the types of config keys.
//!
//! PyYAML, which reads the published configs, parses `1e-5` as a string and `yes` as a boolean. So both spellings of
//! numbers and booleans are accepted.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde_norway::Value;

/// The type of a config key.
pub(super) trait Setting: Sized {
    /// Description of a legal value, for messages.
    fn expected() -> String;
    /// Parses a value; `None` if it is not legal.
    fn read(value: &Value) -> Option<Self>;
    /// The value as YAML, the inverse of [`read`](Setting::read).
    fn yaml(&self) -> Value;
}

impl Setting for bool {
    fn expected() -> String {
        "true or false".into()
    }

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(value) => Some(*value),
            Value::Number(number) => match number.as_i64()? {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            },
            Value::String(word) => match word.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" => Some(true),
                "false" | "no" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    fn yaml(&self) -> Value {
        Value::Bool(*self)
    }
}

impl Setting for f64 {
    fn expected() -> String {
        "a number".into()
    }

    fn read(value: &Value) -> Option<Self> {
        let number: f64 = match value {
            Value::Number(number) => number.as_f64()?,
            Value::String(text) => match octal(text) {
                Some(number) => number? as f64,
                None => text.trim().parse().ok()?,
            },
            _ => return None,
        };
        number.is_finite().then_some(number)
    }

    fn yaml(&self) -> Value {
        Value::from(*self)
    }
}

impl Setting for i64 {
    fn expected() -> String {
        "a whole number".into()
    }

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) if !number.is_f64() => number.as_i64(),
            Value::String(text) if octal(text).is_some() => octal(text)?,
            Value::String(text) if text.trim().parse::<i64>().is_ok() => text.trim().parse().ok(),
            other => whole(f64::read(other)?),
        }
    }

    fn yaml(&self) -> Value {
        Value::from(*self)
    }
}

/// Digits after a leading zero, which PyYAML reads as octal; the inner `None` is a digit that is not.
fn octal(text: &str) -> Option<Option<i64>> {
    let text = text.trim();
    let digits = text.trim_start_matches(['+', '-']).strip_prefix('0')?;
    let only_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let sign = if text.starts_with('-') { -1 } else { 1 };
    only_digits.then(|| Some(sign * i64::from_str_radix(digits, 8).ok()?))
}

/// A whole number in float notation, such as `1e3`, if `f64` represents it exactly.
fn whole(number: f64) -> Option<i64> {
    let exact = number.fract() == 0.0 && number.abs() <= (1u64 << 53) as f64;
    exact.then_some(number as i64)
}

impl Setting for usize {
    fn expected() -> String {
        "a whole number, zero or more".into()
    }

    fn read(value: &Value) -> Option<Self> {
        i64::read(value)?.try_into().ok()
    }

    fn yaml(&self) -> Value {
        Value::from(*self)
    }
}

impl Setting for String {
    fn expected() -> String {
        "a string".into()
    }

    fn read(value: &Value) -> Option<Self> {
        value
            .as_str()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    }

    fn yaml(&self) -> Value {
        Value::from(self.as_str())
    }
}

impl<T: Setting> Setting for Option<T> {
    fn expected() -> String {
        T::expected() + " or null"
    }

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::read(value).map(Some),
        }
    }

    fn yaml(&self) -> Value {
        self.as_ref().map_or(Value::Null, Setting::yaml)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn expected() -> String {
        format!("{} or a list", T::expected())
    }

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(Vec::new()),
            Value::Sequence(items) => items.iter().map(T::read).collect(),
            value => Some(vec![T::read(value)?]),
        }
    }

    fn yaml(&self) -> Value {
        self.iter().map(Setting::yaml).collect::<Vec<_>>().into()
    }
}

impl<T: Setting> Setting for BTreeMap<String, T> {
    fn expected() -> String {
        format!("names, each with {}", T::expected())
    }

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(Self::new()),
            Value::Mapping(entries) => {
                let entry = |(name, value)| Some((String::read(name)?, T::read(value)?));
                entries.iter().map(entry).collect()
            }
            _ => None,
        }
    }

    fn yaml(&self) -> Value {
        let entry = |(name, value): (&String, &T)| (name.yaml(), value.yaml());
        Value::Mapping(self.iter().map(entry).collect())
    }
}

/// An enum whose values are names in the config.
pub(super) trait Choice: Copy + PartialEq + Debug + 'static {
    /// All choices with their names.
    const NAMES: &'static [(&'static str, Self)];
}

impl<T: Choice> Setting for T {
    fn expected() -> String {
        let names: Vec<_> = T::NAMES.iter().map(|(name, _)| *name).collect();
        format!("one of {}", names.join(", "))
    }

    fn read(value: &Value) -> Option<Self> {
        // PyYAML writes the choice `no` as a boolean.
        let word = if let Value::Bool(false) = value {
            "no"
        } else {
            value.as_str()?
        };
        let named = T::NAMES.iter().find(|(name, _)| *name == word)?;
        Some(named.1)
    }

    fn yaml(&self) -> Value {
        let named = T::NAMES.iter().find(|(_, choice)| choice == self);
        named.map_or(Value::Null, |(name, _)| Value::from(*name))
    }
}

/// A value as messages show it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("{text:?}"),
        Value::Sequence(_) => "a list".into(),
        Value::Mapping(_) => "a mapping".into(),
        Value::Tagged(tagged) => format!("a value tagged {}", tagged.tag),
    }
}
