//! What was measured, as a table and as JSON.

use std::fmt;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// Smallest, median and largest of several rounds.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Spread {
    /// Of these values, of which there is at least one.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (sorted[0], sorted[sorted.len() - 1]);
        Self { min, median: sorted[sorted.len() / 2], max }
    }

    fn json(self) -> Value {
        json!({ "min": self.min, "median": self.median, "max": self.max })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.max < 100.0 { 2 } else { 0 };
        let Self { min, median, max } = self;
        write!(f, "{min:.digits$} / {median:.digits$} / {max:.digits$}")
    }
}

/// What is wanted of a row's last value.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// A figure to know, no goal.
    None,
}

impl Goal {
    fn is_met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtLeast(least) => Some(value >= least),
            Self::AtMost(most) => Some(value <= most),
            Self::None => None,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "≥ {least}"),
            Self::AtMost(most) => write!(f, "≤ {most}"),
            Self::None => write!(f, "–"),
        }
    }
}

/// One line of the table: a figure, or the ratio of two that were measured in turn.
#[derive(Debug)]
struct Row {
    what: String,
    unit: &'static str,
    ours: Spread,
    against: Option<(String, Spread, Spread)>,
    goal: Goal,
}

/// All that was measured.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    /// Adds a figure.
    pub fn figure(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        ours: &[f64],
        goal: Goal,
    ) {
        let row = Row { what: what.into(), unit, ours: Spread::of(ours), against: None, goal };
        self.push(row);
    }

    /// Adds a comparison, round by round.
    pub fn ratio(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        ours: &[f64],
        (name, theirs): (&str, &[f64]),
        goal: Goal,
    ) {
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
        let against = Some((name.to_owned(), Spread::of(theirs), Spread::of(&ratios)));
        self.push(Row { what: what.into(), unit, ours: Spread::of(ours), against, goal });
    }

    /// Adds a sentence.
    pub fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        println!("{text}");
        self.notes.push(text);
    }

    fn push(&mut self, row: Row) {
        println!("{row}");
        self.rows.push(row);
    }

    /// How many goals there are, and how many are met.
    pub fn goals(&self) -> (usize, usize) {
        let all: Vec<bool> = self.rows.iter().filter_map(Row::is_met).collect();
        (all.len(), all.iter().filter(|&&met| met).count())
    }

    /// Writes the table as JSON.
    pub fn write(&self, file: &Path, machine: &str) {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let whole = json!({ "machine": machine, "rows": rows, "notes": self.notes });
        fs::write(file, serde_json::to_string_pretty(&whole).unwrap() + "\n").unwrap();
    }
}

impl Row {
    /// The value that the goal speaks of: the ratio, or the figure itself.
    fn judged(&self) -> f64 {
        self.against.as_ref().map_or(self.ours.median, |(_, _, ratio)| ratio.median)
    }

    fn is_met(&self) -> Option<bool> {
        self.goal.is_met(self.judged())
    }

    fn json(&self) -> Value {
        let against = self.against.as_ref().map(|(name, theirs, ratio)| {
            json!({ "name": name, "value": theirs.json(), "ratio": ratio.json() })
        });
        json!({
            "what": self.what, "unit": self.unit, "ours": self.ours.json(), "against": against,
            "goal": self.goal.to_string(), "met": self.is_met(),
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.is_met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        write!(f, "{:44} {:>26} {:14}", self.what, self.ours.to_string(), self.unit)?;
        match &self.against {
            Some((name, theirs, ratio)) => {
                write!(f, " {name:20} {:>26}  ratio {ratio}", theirs.to_string())?;
            }
            None => write!(f, " {:49}", "")?,
        }
        write!(f, "  goal {} {verdict}", self.goal)
    }
}
