//! What is wrong with a configuration, in words for the operator:
//!
//! `/etc/codeb-signup/config.toml:12: tenant."a.example".realm: contains ':' (write a realm …)`

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

/// Why a value is refused, and what to write instead; where it stands is added by whoever knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// A phrase that follows the key's name.
    pub why: Cow<'static, str>,
    /// What to do, as an imperative.
    pub fix: Cow<'static, str>,
}

impl Wrong {
    /// `why` follows the key's name, `fix` is an imperative.
    pub fn new(why: impl Into<Cow<'static, str>>, fix: impl Into<Cow<'static, str>>) -> Self {
        Self { why: why.into(), fix: fix.into() }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.why, self.fix)
    }
}

/// One remark on a configuration file: an error, or a warning of `check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The configuration file.
    pub file: PathBuf,
    /// The line, counted from 1; 0 where there is none to name.
    pub line: usize,
    /// The key, in full: `tenant."a.example".realm`. Empty where the whole file is meant.
    pub key: String,
    /// What is wrong and what to do.
    pub wrong: Wrong,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.wrong)
    }
}

/// Why a configuration cannot be used: at least one [`Problem`], each a line of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    /// One problem: `line` 0 where there is none to name, `key` in full, `why` a phrase that
    /// follows the key, `fix` an imperative.
    pub fn at(
        file: &Path,
        line: usize,
        key: impl Into<String>,
        why: impl Into<Cow<'static, str>>,
        fix: impl Into<Cow<'static, str>>,
    ) -> Self {
        let wrong = Wrong::new(why, fix);
        Problem { file: file.to_owned(), line, key: key.into(), wrong }.into()
    }

    /// All of them, in the order of their lines; nothing where there is none.
    pub fn of(mut problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() {
            return Ok(());
        }
        problems.sort_by_key(|problem| problem.line);
        Err(Self { problems })
    }

    /// The problems, in the order of their lines.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
