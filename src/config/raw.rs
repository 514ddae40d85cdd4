//! TOML with the line of every key. A [`Section`] hands out the values of one table; what is wrong
//! with them is gathered in the [`Source`], so that one run names everything there is to mend.

use std::cell::RefCell;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::Lines;
use super::problem::{ConfigError, Problem, Wrong};

/// A configuration text and what was found wrong with it.
pub(super) struct Source<'t> {
    file: &'t Path,
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
}

impl<'t> Source<'t> {
    pub(super) fn new(file: &'t Path, text: &'t str) -> Self {
        Self { file, text, problems: RefCell::default() }
    }

    /// The document's top level, or where its syntax breaks.
    pub(super) fn document(&self) -> Result<DeTable<'t>, ConfigError> {
        DeTable::parse(self.text).map(toml::Spanned::into_inner).map_err(|error| {
            let span = error.span().unwrap_or_default();
            let line = if span.is_empty() && span.start == 0 { 0 } else { self.line(span.start) };
            if error.message().starts_with("duplicate key") {
                let key = self.text.get(span).unwrap_or_default();
                return ConfigError::at(self.file, line, key, "stands here twice", "keep one");
            }
            let why = format!("is not TOML: {}", error.message());
            ConfigError::at(self.file, line, "", why, SYNTAX_HINT)
        })
    }

    /// The line of a byte offset, counted from 1.
    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    }

    pub(super) fn refuse(&self, line: usize, key: impl Into<String>, wrong: Wrong) {
        let problem = Problem { file: self.file.to_owned(), line, key: key.into(), wrong };
        self.problems.borrow_mut().push(problem);
    }

    /// Whether anything was refused.
    pub(super) fn finish(self) -> Result<(), ConfigError> {
        ConfigError::of(self.problems.into_inner())
    }
}

const SYNTAX_HINT: &str = "write KEY = VALUE lines, texts in double quotes";

/// One table: the top level, or one tenant.
pub(super) struct Section<'s, 't> {
    pub(super) source: &'s Source<'t>,
    pub(super) lines: Lines,
    table: &'s DeTable<'t>,
    /// What stands before a key of this table in a message.
    prefix: String,
}

impl<'s, 't> Section<'s, 't> {
    /// The top level. `known` are its keys besides tables; `nested` those of the tables below it,
    /// which are not allowed here.
    pub(super) fn top(
        source: &'s Source<'t>,
        table: &'s DeTable<'t>,
        known: &[&'static str],
        nested: &[&'static str],
    ) -> Self {
        let section = Self::new(source, table, 0, String::new(), known);
        section.refuse_unknown(known, nested, "write it below a [tenant.\"HOST\"] line");
        section
    }

    /// The table `name."key"` that begins at `line`.
    fn nested(&self, key: &str, line: usize, table: &'s DeTable<'t>, keys: Keys<'_>) -> Self {
        let prefix = format!("{}.{key:?}.", keys.name);
        let section = Self::new(self.source, table, line, prefix, keys.known);
        section.refuse_unknown(keys.known, keys.above, "write it above the first [tenant] table");
        section
    }

    fn new(
        source: &'s Source<'t>,
        table: &'s DeTable<'t>,
        header: usize,
        prefix: String,
        known: &[&'static str],
    ) -> Self {
        let mut lines = Lines { header, ..Lines::default() };
        for key in known {
            if let Some((spanned, _)) = table.get_key_value(*key) {
                lines.keys.insert(key, source.line(spanned.span().start));
            }
        }
        Self { source, lines, table, prefix }
    }

    fn refuse_unknown(&self, known: &[&str], elsewhere: &[&str], there: &'static str) {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let fix = if elsewhere.contains(&name) {
                there.into()
            } else if let Some(near) = nearest(name, known) {
                format!("write {near}, or remove the line")
            } else {
                format!("write one of {}, or remove the line", known.join(", "))
            };
            let why = if elsewhere.contains(&name) { "does not belong here" } else { UNKNOWN };
            self.source.refuse(
                self.source.line(key.span().start),
                format!("{}{}", self.prefix, shown(name)),
                Wrong::new(why, fix),
            );
        }
    }

    /// The tables below `keys.name`, each with the text that it is named by and its line.
    pub(super) fn tables(&self, keys: Keys<'_>) -> Vec<(String, usize, Section<'s, 't>)> {
        let Some(value) = self.table.get(keys.name) else { return Vec::new() };
        let wrong = |what: &str| Wrong::new(is_a(what), "write [tenant.\"a.example\"]");
        let DeValue::Table(tables) = value.get_ref() else {
            let what = value.get_ref().type_str();
            self.source.refuse(self.lines.at(keys.name), keys.name, wrong(what));
            return Vec::new();
        };
        if tables.is_empty() {
            self.refuse(keys.name, wrong("table without tables"));
        }
        let mut sections = Vec::new();
        for (key, value) in tables.iter() {
            let (name, line) = (key.get_ref().to_string(), self.source.line(key.span().start));
            match value.get_ref() {
                DeValue::Table(table) => match dotted(&name, table, keys.known) {
                    Some(host) => {
                        let why = "is a host without quotes, which TOML takes for nested tables";
                        let fix = format!("write [tenant.\"{host}\"]");
                        self.source.refuse(line, format!("tenant.{host}"), Wrong::new(why, fix));
                    }
                    None => {
                        sections.push((name.clone(), line, self.nested(&name, line, table, keys)));
                    }
                },
                other => {
                    let full = format!("{}.{}", keys.name, shown(&name));
                    self.source.refuse(line, full, wrong(other.type_str()));
                }
            }
        }
        sections
    }

    /// The full name of a key, for a message.
    pub(super) fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(super) fn refuse(&self, key: &str, wrong: Wrong) {
        self.source.refuse(self.lines.at(key), self.name(key), wrong);
    }

    /// The value of `key`; nothing where it is left out or refused.
    pub(super) fn get<T>(
        &self,
        key: &'static str,
        read: impl Fn(&DeValue) -> Result<T, Wrong>,
    ) -> Option<T> {
        let value = self.table.get(key)?;
        read(value.get_ref()).map_err(|wrong| self.refuse(key, wrong)).ok()
    }

    /// The value of `key`, or what it defaults to.
    pub(super) fn or<T>(
        &self,
        key: &'static str,
        default: T,
        read: impl Fn(&DeValue) -> Result<T, Wrong>,
    ) -> T {
        self.get(key, read).unwrap_or(default)
    }

    /// The value of a key that must be there; `example` is what to write where it is not.
    pub(super) fn required<T>(
        &self,
        key: &'static str,
        example: &str,
        read: impl Fn(&DeValue) -> Result<T, Wrong>,
    ) -> Option<T> {
        if !self.table.contains_key(key) {
            self.refuse(key, Wrong::new("is missing", format!("write {key} = {example}")));
        }
        self.get(key, read)
    }

    /// The values of a list of texts; a single refused one is left out.
    pub(super) fn list<T>(
        &self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<Vec<T>> {
        let value = self.table.get(key)?;
        let wrong = |what| Wrong::new(is_a(what), "write a list of texts: [\"…\", \"…\"]");
        let DeValue::Array(items) = value.get_ref() else {
            self.refuse(key, wrong(value.get_ref().type_str()));
            return None;
        };
        let mut values = Vec::new();
        for item in items.iter() {
            let result = match item.get_ref() {
                DeValue::String(text) => read(text),
                other => Err(wrong(other.type_str())),
            };
            match result {
                Ok(value) => values.push(value),
                Err(wrong) => {
                    let line = self.source.line(item.span().start);
                    self.source.refuse(line, self.name(key), wrong);
                }
            }
        }
        Some(values)
    }
}

/// What may stand in the tables below one name.
#[derive(Clone, Copy)]
pub(super) struct Keys<'k> {
    pub(super) name: &'static str,
    pub(super) known: &'k [&'static str],
    /// Keys of the level above, which are often written too low.
    pub(super) above: &'k [&'static str],
}

/// The host that `[tenant.a.example]`, written without quotes, was meant to be.
fn dotted(name: &str, table: &DeTable<'_>, known: &[&str]) -> Option<String> {
    let mut inner = table.iter().filter_map(|(key, value)| {
        let (key, table) = (key.get_ref(), value.get_ref().as_table()?);
        (!known.contains(&key.as_ref())).then_some((key, table))
    });
    let (key, table) = inner.next()?;
    let host = format!("{name}.{key}");
    Some(dotted(&host, table, known).unwrap_or(host))
}

const UNKNOWN: &str = "is no key that is known here";

/// "is a string", "is an integer".
pub(super) fn is_a(what: &str) -> String {
    let article = if what.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("is {article} {what}")
}

/// A key as TOML wants it written: in quotes where it is not bare, and without control characters.
fn shown(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { format!("{key:?}") }
}

/// The known key that `name` was probably meant to be.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let (distance, key) = known.iter().map(|key| (distance(name, key), *key)).min()?;
    (distance <= key.len().div_ceil(3)).then_some(key)
}

/// The Levenshtein distance, over bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut next = vec![i + 1];
        for ((to, above), diagonal) in b.bytes().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or_default();
            let substituted = diagonal + usize::from(from != to);
            next.push(substituted.min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_keyboard_finds_the_key_that_was_meant() {
        let known = ["realm", "base_url", "pickup", "view_group", "pickup_group"];
        assert_eq!(nearest("relam", &known), Some("realm"));
        assert_eq!(nearest("baseurl", &known), Some("base_url"));
        assert_eq!(nearest("pickup-group", &known), Some("pickup_group"));
        assert_eq!(nearest("colour", &known), None);
    }
}
