//! The texts of mails and of the pages of `activate.ashx`: one flat file a language,
//! `src/templates/lang/TAG.json`, compiled in. The sign-up page has its own, which are served:
//! `nginx/html/lang/TAG.json` (seen at once), `lang/form/TAG.json` and `lang/privacy/TAG.json`. Adding a
//! language is adding these four files.
//!
//! | keys | whose |
//! |---|---|
//! | `language`, `dir` | the language's own name; `ltr` or `rtl` |
//! | `mail_…` | the activation mail's |
//! | `page_…` | the pages' of `activate.ashx` |
//! | `date_form`, `date_months` | how a date is written; the months, a blank between them |
//!
//! What stands in braces, `{site}` say, is filled in. A test makes sure that every file has the same
//! keys with the same braces.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Datelike, Utc};

include!(concat!(env!("OUT_DIR"), "/languages.rs"));

/// The language of a tenant that configures none, and of the sentences that the contract quotes.
pub const DEFAULT: &str = "en";

/// Ranges of an `Accept-Language` that are looked at; nobody reads more languages.
const RANGES_MAX: usize = 32;

/// FIRST STRONG ISOLATE and POP DIRECTIONAL ISOLATE (UAX #9): what is filled into a right-to-left
/// text keeps its own order.
const ISOLATE: (char, char) = ('\u{2068}', '\u{2069}');

/// The texts of one language.
#[derive(Debug)]
pub struct Language {
    tag: &'static str,
    texts: BTreeMap<String, String>,
}

/// Every language that there is; [`DEFAULT`] is one of them.
#[derive(Debug)]
pub struct Languages {
    all: Vec<Language>,
    default: usize,
}

/// A language file that cannot be used: a mistake of whoever built the program.
#[derive(Debug)]
pub struct Broken(String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}

impl Languages {
    /// Parses the files that were compiled in.
    pub fn built_in() -> Result<Self, Broken> {
        let parse = |&(tag, source): &(&'static str, &str)| {
            let texts = serde_json::from_str(source);
            let texts = texts.map_err(|error| Broken(format!("lang/{tag}.json: {error}")))?;
            Ok(Language { tag, texts })
        };
        let all = FILES.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let default = all.iter().position(|language| language.tag == DEFAULT);
        let default = default.ok_or_else(|| Broken(format!("lang/{DEFAULT}.json is missing")))?;
        Ok(Self { all, default })
    }

    /// Every language, in the order of the tags.
    pub fn all(&self) -> &[Language] {
        &self.all
    }

    /// The language of a tag, in any case: itself, else what its first part names (`pt-BR`: `pt`).
    pub fn get(&self, tag: &str) -> Option<&Language> {
        let exactly = |tag: &str| self.all.iter().find(|l| l.tag.eq_ignore_ascii_case(tag));
        exactly(tag).or_else(|| exactly(tag.split('-').next()?))
    }

    /// The language [`DEFAULT`].
    pub fn default(&self) -> &Language {
        &self.all[self.default]
    }

    /// What a visitor reads: the language that the form names, else the one that the browser wants
    /// most (`Accept-Language`, RFC 9110 §12.5.4), else `otherwise`.
    pub fn pick(&self, named: Option<&str>, accepted: Option<&str>, otherwise: &str) -> &Language {
        (named.and_then(|tag| self.get(tag)))
            .or_else(|| self.accepted(accepted?))
            .or_else(|| self.get(otherwise))
            .unwrap_or(self.default())
    }

    /// The first of the languages with the highest quality.
    fn accepted(&self, ranges: &str) -> Option<&Language> {
        let mut best: Option<(&Language, f32)> = None;
        for range in ranges.split(',').take(RANGES_MAX) {
            let (tag, params) = range.split_once(';').unwrap_or((range, ""));
            let quality = params.trim().strip_prefix("q=").map_or(Some(1.0), |q| q.parse().ok());
            let Some(language) = self.get(tag.trim()) else { continue };
            let Some(quality) = quality.filter(|q| *q > 0.0 && *q <= 1.0) else { continue };
            if best.is_none_or(|(_, so_far)| quality > so_far) {
                best = Some((language, quality));
            }
        }
        best.map(|(language, _)| language)
    }
}

impl Language {
    /// Its tag (RFC 5646), as its file is named.
    pub fn tag(&self) -> &'static str {
        self.tag
    }

    /// `ltr` or `rtl`.
    pub fn dir(&self) -> &str {
        self.text("dir")
    }

    /// A text with its braces as they are; empty where there is none, which a test rules out.
    pub fn text(&self, key: &str) -> &str {
        self.texts.get(key).map_or("", String::as_str)
    }

    /// A text on a line of its own (a subject), filled in without marks of direction.
    pub fn line(&self, key: &str, values: &[(&str, &str)]) -> String {
        fill(self.text(key), |name| value_of(values, name).map(Cow::Borrowed))
    }

    /// A moment to the minute, as the language writes it, in UTC and saying so.
    pub fn date(&self, time: DateTime<Utc>) -> String {
        let month = self.text("date_months").split(' ').nth(time.month0() as usize);
        let (day, year) = (time.day().to_string(), time.year().to_string());
        let clock = time.format("%H:%M").to_string();
        let values = [("day", day.as_str()), ("year", &year), ("time", &clock)];
        self.line("date_form", &[&values[..], &[("month", month.unwrap_or_default())]].concat())
    }

    /// The texts whose keys begin with `prefix`, filled in.
    pub fn texts(&self, prefix: &str, values: &[(&str, &str)]) -> BTreeMap<&str, String> {
        let isolated = self.dir() == "rtl";
        let value = |name: &str| {
            value_of(values, name).map(|value| match isolated {
                true => Cow::Owned(format!("{}{value}{}", ISOLATE.0, ISOLATE.1)),
                false => Cow::Borrowed(value),
            })
        };
        let ours = self.texts.iter().filter(|(key, _)| key.starts_with(prefix));
        ours.map(|(key, text)| (key.as_str(), fill(text, value))).collect()
    }
}

fn value_of<'v>(values: &[(&str, &'v str)], name: &str) -> Option<&'v str> {
    values.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
}

/// Replaces `{name}` by its value; a name without one stays as it is.
fn fill<'v>(text: &str, value: impl Fn(&str) -> Option<Cow<'v, str>>) -> String {
    let mut filled = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let named = after.split_once('}').and_then(|(name, tail)| Some((value(name)?, tail)));
        match named {
            Some((value, tail)) => {
                filled.push_str(&value);
                rest = tail;
            }
            None => {
                filled.push('{');
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn languages() -> Languages {
        Languages::built_in().unwrap()
    }

    /// Where the files are that were compiled in.
    const SOURCES: &str = "src/templates/lang";

    /// The names in braces.
    fn holes(text: &str) -> BTreeSet<&str> {
        text.split('{').skip(1).filter_map(|part| Some(part.split_once('}')?.0)).collect()
    }

    /// A text, or its forms by plural category (CLDR).
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Text {
        One(String),
        Forms(BTreeMap<String, String>),
    }

    /// The categories that the language's plural rules can choose, for whole numbers.
    fn plural_categories(tag: &str) -> &'static [&'static str] {
        match tag {
            "ar" => &["few", "many", "one", "other", "two", "zero"],
            "pl" => &["few", "many", "one", "other"],
            "es" | "fr" | "it" | "pt" => &["many", "one", "other"],
            "ja" => &["other"],
            _ => &["one", "other"],
        }
    }

    /// The languages of a folder of the repository: tag, then key, then every form of the text.
    fn folder(path: &str) -> BTreeMap<String, BTreeMap<String, Vec<String>>> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let mut all = BTreeMap::new();
        for tag in TAGS {
            let source = std::fs::read_to_string(folder.join(format!("{tag}.json"))).unwrap();
            let texts: BTreeMap<String, Text> = serde_json::from_str(&source).unwrap();
            let forms = texts.into_iter().map(|(key, text)| match text {
                Text::One(text) => (key, vec![text]),
                Text::Forms(forms) => {
                    assert!(forms.keys().eq(plural_categories(tag)), "{path}/{tag}: {key}");
                    (key, forms.into_values().collect())
                }
            });
            all.insert((*tag).to_owned(), forms.collect());
        }
        all
    }

    #[test]
    fn every_language_has_the_same_keys_with_the_same_holes() {
        assert!(TAGS.len() >= 10);
        let pages = "nginx/html/lang";
        for path in [SOURCES, pages, &format!("{pages}/form"), &format!("{pages}/privacy")] {
            let languages = folder(path);
            let model = &languages[DEFAULT];
            for (tag, texts) in &languages {
                assert!(texts.keys().eq(model.keys()), "{path}/{tag}");
                for (key, text) in texts.iter().flat_map(|(k, all)| all.iter().map(move |t| (k, t)))
                {
                    let name = format!("{path}/{tag}: {key}");
                    let english = model[key].last().unwrap();
                    // "One character" needs no number.
                    let mut wanted = holes(english);
                    let counts = model[key].len() > 1;
                    wanted.retain(|hole| !counts || holes(text).contains(hole) || *hole == "least");
                    assert_eq!(holes(text), wanted, "{name}");
                    assert!(!text.trim().is_empty() && text.trim() == text, "{name}");
                    assert!(!text.contains(['\n', '<', '>']), "{name}");
                    let same = text == english && text.split(' ').count() > 2;
                    let dates = ["{day} {month} {year}", "january"];
                    let date = dates.iter().any(|part| text.to_lowercase().contains(part));
                    assert!(tag == DEFAULT || date || !same, "{name} is not translated");
                }
            }
        }
    }

    #[test]
    fn each_language_has_its_direction_and_its_months() {
        for language in languages().all() {
            let right_to_left = ["ar", "fa", "he", "ur"].contains(&language.tag);
            assert_eq!(
                language.dir(),
                if right_to_left { "rtl" } else { "ltr" },
                "{}",
                language.tag
            );
            let months: BTreeSet<_> = language.text("date_months").split(' ').collect();
            assert_eq!(months.len(), 12, "{}", language.tag);
        }
    }

    #[test]
    fn a_date_is_written_as_its_language_writes_it_and_names_its_zone() {
        let time = DateTime::from_timestamp(1_796_164_320, 0).unwrap();
        let languages = languages();
        let date = |tag| languages.get(tag).unwrap().date(time);
        assert_eq!(date("en"), "1 December 2026 at 22:32 (UTC)");
        assert_eq!(date("de"), "1. Dezember 2026, 22:32 Uhr (UTC)");
        assert_eq!(date("ja"), "2026年12月1日 22:32(UTC)");
        assert_eq!(date("pl"), "1 grudnia 2026, godz. 22:32 (UTC)");
    }

    #[test]
    fn the_sign_up_page_names_the_mails_subject() {
        let form = folder("nginx/html/lang/form");
        for language in languages().all() {
            let subject = language.text("mail_subject");
            assert_eq!(form[language.tag]["mail_subject"], [subject], "{}", language.tag);
        }
    }

    #[test]
    fn a_visitor_gets_what_he_names_then_what_his_browser_wants_then_the_tenants() {
        let languages = languages();
        let picked = |named, accepted| languages.pick(named, accepted, "pl").tag();
        assert_eq!(picked(Some("DE"), Some("fr")), "de");
        assert_eq!(picked(Some("xx"), Some("fr")), "fr");
        assert_eq!(picked(None, Some("tlh, pt-BR;q=0.8, en;q=0.9")), "en");
        assert_eq!(picked(None, Some("fr;q=0, ja;q=0.1, *")), "ja");
        assert_eq!(picked(None, Some("de-AT , it;q=1.0")), "de");
        for odd in ["", ",,;q=", "en;q=2", "en;q=x", "en;q=NaN", "*", "\u{fc}-\u{fc}"] {
            assert_eq!(picked(None, Some(odd)), "pl", "{odd}");
        }
        assert_eq!(languages.pick(None, None, "xx").tag(), DEFAULT);
    }

    #[test]
    fn only_known_names_are_filled_in_and_values_are_not_looked_into() {
        let value = |name: &str| (name == "user").then_some(Cow::Borrowed("{user}{x"));
        assert_eq!(fill("a {user} {x} {", value), "a {user}{x {x} {");
        let languages = languages();
        let arabic = languages.get("ar").unwrap().texts("mail_until", &[("date", "D")]);
        assert!(arabic["mail_until"].contains("\u{2068}D\u{2069}"));
    }
}
