//! One value at a time: from what TOML gives to the checked type, or why not and what to write.

use std::ops::RangeInclusive;
use std::time::Duration;

use lettre::message::Mailbox;
use toml::de::DeValue;

use super::problem::Wrong;
use super::raw::is_a;
use super::{Activation, Gateway, Signups, View};
use crate::account::{DisplayName, Realm, Role, Username};
use crate::lang;

/// Reads a text and hands it on.
pub(super) fn text<T>(
    read: impl Fn(&str) -> Result<T, Wrong>,
) -> impl Fn(&DeValue) -> Result<T, Wrong> {
    move |value| match value {
        DeValue::String(text) => read(text),
        other => Err(Wrong::new(is_a(other.type_str()), "write a text in double quotes")),
    }
}

/// Reads one of a few words.
pub(super) fn word<T: Copy>(
    words: &'static [(&'static str, T)],
) -> impl Fn(&DeValue) -> Result<T, Wrong> {
    text(move |text| {
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let all: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            Wrong::new(format!("is {text:?}"), format!("write {}", all.join(" or ")))
        })
    })
}

pub(super) const GATEWAYS: &[(&str, Gateway)] =
    &[("own", Gateway::Own), ("fastcgi-crate", Gateway::FastcgiCrate)];
pub(super) const SIGNUPS: &[(&str, Signups)] =
    &[("open", Signups::Open), ("closed", Signups::Closed)];
pub(super) const ACTIVATIONS: &[(&str, Activation)] =
    &[("get", Activation::Get), ("click", Activation::Click)];
const VIEWS: &[(&str, View)] = &[("htdigest", View::Htdigest)];

/// The word that stands for a value.
pub(super) fn word_of<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, v)| v == value).map_or("", |(word, _)| word)
}

/// The name of a view.
pub(super) fn view_name(view: View) -> &'static str {
    word_of(VIEWS, &view)
}

/// A whole number within a range.
pub(super) fn number(range: RangeInclusive<u32>) -> impl Fn(&DeValue) -> Result<u32, Wrong> {
    move |value| {
        let fix = || format!("write a whole number from {} to {}", range.start(), range.end());
        let DeValue::Integer(number) = value else {
            return Err(Wrong::new(is_a(value.type_str()), fix()));
        };
        match u32::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(Wrong::new(format!("is {number}, out of range"), fix())),
        }
    }
}

/// `true` or `false`.
pub(super) fn boolean(value: &DeValue) -> Result<bool, Wrong> {
    let wrong = || Wrong::new(is_a(value.type_str()), "write true or false, without quotes");
    value.as_bool().ok_or_else(wrong)
}

/// A duration within a range: a whole number and a unit, as `5s`, `15m`, `1h`, `7d`.
pub(super) fn duration(
    range: RangeInclusive<Duration>,
) -> impl Fn(&DeValue) -> Result<Duration, Wrong> {
    move |value| {
        let (shortest, longest) = (show_duration(*range.start()), show_duration(*range.end()));
        let wrong = |why| {
            let fix = format!("write a duration from \"{shortest}\" to \"{longest}\"");
            Err(Wrong::new(why, fix))
        };
        let DeValue::String(text) = value else { return wrong(is_a(value.type_str())) };
        match parse_duration(text) {
            None => wrong(format!("is {text:?}, not a number with a unit s, m, h or d")),
            Some(duration) if range.contains(&duration) => Ok(duration),
            Some(_) => wrong(format!("is {text:?}, out of range")),
        }
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86400,
        _ => return None,
    };
    let digits = text.get(..text.len() - 1)?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit).map(Duration::from_secs)
}

/// A duration as [`duration`] takes it, in its largest whole unit.
pub(super) fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86400, 'd'), (3600, 'h'), (60, 'm')];
    let whole = units.iter().find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{seconds}s"), |(unit, name)| format!("{}{name}", seconds / unit))
}

/// A realm.
pub(super) fn realm(text: &str) -> Result<Realm, Wrong> {
    Realm::parse(text).map_err(|_| {
        let unfit = |c: &char| !(' '..='~').contains(c) || matches!(c, ':' | '"' | '\\');
        let why = match text.chars().find(unfit) {
            Some(c) => format!("contains {c:?}"),
            None if text.is_empty() => "is empty".to_owned(),
            None if text.len() > Realm::MAX => format!("is {} characters long", text.len()),
            None if text != text.trim() => "begins or ends with a blank".to_owned(),
            None => "is '#' alone, as in the dead lines of a view".to_owned(),
        };
        let fix = "write a realm of 1 to 64 printable ASCII characters without ':', '\"' and '\\'";
        Wrong::new(why, fix)
    })
}

/// The sender of mails.
pub(super) fn mail_from(text: &str) -> Result<String, Wrong> {
    let fix = "write \"noreply@a.example\" or \"A Host <noreply@a.example>\"";
    // lettre panics on some of these when it composes.
    if text.chars().any(char::is_control) {
        return Err(Wrong::new("contains a control character", fix));
    }
    match text.parse::<Mailbox>() {
        Ok(mailbox) if AsRef::<str>::as_ref(&mailbox.email).is_ascii() => Ok(text.to_owned()),
        Ok(_) => Err(Wrong::new("has an address outside ASCII", fix)),
        Err(_) => Err(Wrong::new(format!("is {text:?}, no mail address"), fix)),
    }
}

/// The longest site name, in characters: it stands beside the language menu of a phone.
const SITE_NAME_MAX: usize = 60;

/// What the site is called.
pub(super) fn site_name(text: &str) -> Result<String, Wrong> {
    let fix = format!("write 1 to {SITE_NAME_MAX} characters on one line");
    let name = DisplayName::parse(text).map_err(|why| Wrong::new(why.to_string(), fix.clone()))?;
    match name.as_str().chars().count() {
        ..=SITE_NAME_MAX => Ok(name.as_str().to_owned()),
        length => Err(Wrong::new(format!("is {length} characters long"), fix)),
    }
}

/// The role of a new account.
pub(super) fn role(text: &str) -> Result<Role, Wrong> {
    Role::parse(text)
        .map_err(|_| Wrong::new(format!("is {text:?}"), "write a role of 1 to 32 of a-z 0-9 _ -"))
}

/// One more reserved name.
pub(super) fn reserved(text: &str) -> Result<String, Wrong> {
    let name = Username::parse(text).map_err(|_| {
        let fix = "write names of 1 to 64 of a-z 0-9 _ . -; others cannot sign up anyway";
        Wrong::new(format!("contains {text:?}, no user name"), fix)
    })?;
    Ok(name.as_str().to_owned())
}

/// One view.
pub(super) fn view(text: &str) -> Result<View, Wrong> {
    let found = VIEWS.iter().find(|(name, _)| *name == text).map(|(_, view)| *view);
    found.ok_or_else(|| Wrong::new(format!("contains {text:?}, no view"), "write [\"htdigest\"]"))
}

/// The language of pages and mails.
pub(super) fn language(text: &str) -> Result<String, Wrong> {
    if lang::TAGS.contains(&text) {
        return Ok(text.to_owned());
    }
    let tags: Vec<_> = lang::TAGS.iter().map(|tag| format!("\"{tag}\"")).collect();
    let fix = format!("write one of {}", tags.join(", "));
    Err(Wrong::new(format!("is {text:?}, no language that is known here"), fix))
}

/// A group by its name or its number.
pub(super) fn group(value: &DeValue) -> Result<u32, Wrong> {
    let wrong = |why| Err(Wrong::new(why, "write the name of a group of this machine, or its gid"));
    let name = match value {
        DeValue::Integer(number) => number.to_string(),
        DeValue::String(name) => name.to_string(),
        other => return wrong(is_a(other.type_str())),
    };
    if let Ok(gid) = name.parse() {
        return Ok(gid);
    }
    match nix::unistd::Group::from_name(&name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => wrong(format!("is {name:?}, which is no group here")),
        Err(error) => wrong(format!("is {name:?}, which cannot be looked up: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_unit() {
        for (text, seconds) in [("5s", 5), ("15m", 900), ("1h", 3600), ("7d", 604_800)] {
            assert_eq!(parse_duration(text), Some(Duration::from_secs(seconds)));
            assert_eq!(show_duration(Duration::from_secs(seconds)), text);
        }
        for bad in [
            "",
            "s",
            "5",
            "5 s",
            "-5s",
            "+5s",
            "5S",
            "1h30m",
            "1.5h",
            "5µ",
            "99999999999999999999d",
        ] {
            assert_eq!(parse_duration(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn senders_are_one_ascii_address() {
        for good in ["noreply@localhost", "A Host <a@b.example>", "Bücher <a@b.example>"] {
            assert!(mail_from(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "a@b\nBcc: c@d", "ä@b.example", "a@bücher.example", "a@b, c@d"] {
            assert!(mail_from(bad).is_err(), "{bad:?}");
        }
    }
}
