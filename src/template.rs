//! The texts with holes in them: mails and pages, parsed once at start, escaped by their kind.

use std::io;

use minijinja::{AutoEscape, Environment};
use serde::Serialize;

use crate::error::Fault;

/// The templates that come with the program: name, source.
const BUILT_IN: [(&str, &str); 3] = [
    ("mail.txt", include_str!("templates/mail.txt")),
    ("mail.html", include_str!("templates/mail.html")),
    ("page.html", include_str!("templates/page.html")),
];

/// Templates, ready to be rendered.
#[derive(Debug)]
pub struct Templates(Environment<'static>);

impl Templates {
    /// Parses every template; names that end in `.html` escape what they are given.
    pub fn built_in() -> Result<Self, Fault> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|name| match name.ends_with(".html") {
            true => AutoEscape::Html,
            false => AutoEscape::None,
        });
        environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
        for (name, source) in BUILT_IN {
            environment.add_template(name, source).map_err(|error| fault("parse", name, &error))?;
        }
        Ok(Self(environment))
    }

    /// Fills a template.
    pub fn render(&self, name: &'static str, values: impl Serialize) -> Result<String, Fault> {
        (self.0.get_template(name))
            .and_then(|template| template.render(minijinja::value::Serde(values)))
            .map_err(|error| fault("render", name, &error))
    }
}

fn fault(doing: &str, name: &str, error: &minijinja::Error) -> Fault {
    let line = error.line().unwrap_or(0);
    Fault::pathless(
        format!("{doing} the template {name}, line {line}"),
        io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
    )
}
