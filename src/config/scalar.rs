//! What an unquoted YAML word means: to us, and to readers of older YAML. Must not know the document.

/// Meaning of a plain scalar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Plain {
    /// Nothing, `null` or `~`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A decimal whole number.
    Int(i64),
    /// A decimal number with fraction or exponent.
    Float(f64),
    /// Text to every reader.
    Text,
    /// Readers differ; this is what some take it for.
    Unclear(Other),
}

/// What readers of YAML 1.1 (or some of 1.2) take a word for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Other {
    Bool(bool),
    Null,
    /// A number, and its value if it is whole and fits.
    Number(Option<i64>),
}

/// Meaning of an unquoted word.
pub(super) fn plain(text: &str) -> Plain {
    match text {
        "" | "~" | "null" => return Plain::Null,
        "true" => return Plain::Bool(true),
        "false" => return Plain::Bool(false),
        _ => {}
    }
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => return Plain::Unclear(Other::Bool(true)),
        "false" | "no" | "off" | "n" => return Plain::Unclear(Other::Bool(false)),
        "null" => return Plain::Unclear(Other::Null),
        ".nan" | ".inf" | "+.inf" | "-.inf" => return Plain::Unclear(Other::Number(None)),
        _ => {}
    }
    number(text)
}

fn number(text: &str) -> Plain {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Plain::Text;
    }
    let all = |s: &str, ok: fn(&u8) -> bool| !s.is_empty() && s.bytes().all(|b| ok(&b));
    if all(digits, u8::is_ascii_digit) {
        let leading_zero = digits.len() > 1 && digits.starts_with('0');
        return match text.parse() {
            // 0644 is 420 to YAML 1.1 and 644 to YAML 1.2.
            _ if leading_zero => Plain::Unclear(Other::Number(i64::from_str_radix(digits, 8).ok())),
            Ok(n) if !text.starts_with('+') => Plain::Int(n),
            Ok(n) => Plain::Unclear(Other::Number(Some(n))),
            Err(_) => text.parse().map_or(Plain::Text, Plain::Float),
        };
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(rest) = digits.to_ascii_lowercase().strip_prefix(prefix) {
            let rest = rest.replace('_', "");
            if let Ok(n) = i64::from_str_radix(&rest, radix) {
                let n = if text.starts_with('-') { -n } else { n };
                return Plain::Unclear(Other::Number(Some(n)));
            }
        }
    }
    let float = |s: &str| {
        let (mantissa, exponent) = s.split_once(['e', 'E']).unwrap_or((s, "0"));
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits_or_none = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        all(exponent, u8::is_ascii_digit)
            && !(whole.is_empty() && fraction.is_empty())
            && digits_or_none(whole)
            && digits_or_none(fraction)
    };
    if float(digits) {
        return match text.parse::<f64>() {
            Ok(n) if n.is_finite() => Plain::Float(n),
            _ => Plain::Unclear(Other::Number(None)),
        };
    }
    // 1_000 is a number to YAML 1.1, and so is 1:30 (in base 60).
    let bare = digits.replace('_', "");
    if digits.contains('_') && (float(&bare) || all(&bare, u8::is_ascii_digit)) {
        return Plain::Unclear(Other::Number(text.replace('_', "").parse().ok()));
    }
    if is_base_60(digits) {
        return Plain::Unclear(Other::Number(None));
    }
    Plain::Text
}

fn is_base_60(digits: &str) -> bool {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut parts = whole.split(':');
    let digits_only = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    parts.next().is_some_and(digits_only)
        && whole.contains(':')
        && parts.all(|p| digits_only(p) && p.len() <= 2 && p.parse::<u8>().is_ok_and(|n| n < 60))
        && fraction.bytes().all(|b| b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_what_the_table_says() {
        let table: &[(&str, Plain)] = &[
            ("", Plain::Null),
            ("~", Plain::Null),
            ("null", Plain::Null),
            ("Null", Plain::Unclear(Other::Null)),
            ("true", Plain::Bool(true)),
            ("True", Plain::Unclear(Other::Bool(true))),
            ("yes", Plain::Unclear(Other::Bool(true))),
            ("y", Plain::Unclear(Other::Bool(true))),
            ("ON", Plain::Unclear(Other::Bool(true))),
            ("no", Plain::Unclear(Other::Bool(false))),
            ("off", Plain::Unclear(Other::Bool(false))),
            ("yesterday", Plain::Text),
            ("0", Plain::Int(0)),
            ("-7", Plain::Int(-7)),
            ("+7", Plain::Unclear(Other::Number(Some(7)))),
            ("007", Plain::Unclear(Other::Number(Some(7)))),
            ("0644", Plain::Unclear(Other::Number(Some(420)))),
            ("089", Plain::Unclear(Other::Number(None))),
            ("0x1F", Plain::Unclear(Other::Number(Some(31)))),
            ("0o17", Plain::Unclear(Other::Number(Some(15)))),
            ("0b11", Plain::Unclear(Other::Number(Some(3)))),
            ("0xzz", Plain::Text),
            ("1_000", Plain::Unclear(Other::Number(Some(1000)))),
            ("1_000.5", Plain::Unclear(Other::Number(None))),
            ("1.5", Plain::Float(1.5)),
            (".5", Plain::Float(0.5)),
            ("1.", Plain::Float(1.0)),
            ("1e3", Plain::Float(1000.0)),
            ("1e999", Plain::Unclear(Other::Number(None))),
            (".inf", Plain::Unclear(Other::Number(None))),
            (".NaN", Plain::Unclear(Other::Number(None))),
            ("1:30", Plain::Unclear(Other::Number(None))),
            ("12:30:45", Plain::Unclear(Other::Number(None))),
            ("1:90", Plain::Text),
            ("1.36.3", Plain::Text),
            ("10.0.0.0/8", Plain::Text),
            ("10m", Plain::Text),
            (".", Plain::Text),
            ("...", Plain::Text),
            ("-", Plain::Text),
            ("v1.36.3", Plain::Text),
            (
                "9223372036854775808",
                Plain::Float(9_223_372_036_854_775_808.0),
            ),
        ];
        for (text, meaning) in table {
            assert_eq!(plain(text), *meaning, "{text:?}");
        }
    }
}
