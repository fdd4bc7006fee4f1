//! Numbers as people read them: the filters of the page's template.

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

/// A number of pairs; ties count as halves and quarters.
pub(super) fn halves(pairs: f64) -> String {
    match pairs.fract() {
        0.0 => count(pairs as usize),
        _ => pairs.to_string(),
    }
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
pub(super) fn interval(interval: Option<Vec<f64>>) -> String {
    match interval.as_deref() {
        Some([low, high]) => format!("{:.1} – {:.1}", 100.0 * low, 100.0 * high).replace('-', "−"),
        _ => "–".to_owned(),
    }
}

/// A value with `digits` decimals.
pub(super) fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".into(), |value| {
        format!("{value:.digits$}").replace('-', "−")
    })
}

/// CSS variables of a cell: pale at chance, deeper for better shares, in another colour for worse ones.
pub(super) fn heat(share: Option<f64>) -> String {
    match share {
        Some(share) if share >= 0.5 => {
            format!("--heat:{:.0}%;--tone:var(--c0)", 120.0 * (share - 0.5))
        }
        Some(share) => format!("--heat:{:.0}%;--tone:var(--bad)", 120.0 * (0.5 - share)),
        None => "--heat:0%".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        assert_eq!(count(7), "7");
        assert_eq!(count(1234567), "1\u{2009}234\u{2009}567");
        assert_eq!(halves(1234.5), "1234.5");
        assert_eq!(percent(Some(0.12345)), "12.3 %");
        assert_eq!(points(Some(-0.05)), "−5.0");
        assert_eq!(number(None, 2), "–");
        assert_eq!(interval(Some(vec![-0.01, 0.2])), "−1.0 – 20.0");
    }
}
