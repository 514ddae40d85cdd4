//! The texts with holes in them: mails and pages, parsed once at start, escaped by their kind.

use std::io;

use minijinja::{AutoEscape, Environment, Output};
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
        environment.set_formatter(format);
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

/// Writes a value; in HTML with the five characters escaped that mean something there. The engine's
/// own escaping takes `/` as well, which makes links unreadable for whoever looks at a mail's source.
fn format(
    out: &mut Output<'_>,
    state: &mut minijinja::State<'_, '_>,
    value: &minijinja::Value,
) -> Result<(), minijinja::Error> {
    let Some(text) = value.as_str().filter(|_| matches!(state.auto_escape(), AutoEscape::Html))
    else {
        return minijinja::escape_formatter(out, state, value);
    };
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
        out.write_str(&rest[..at])?;
        out.write_str(match rest.as_bytes()[at] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            _ => "&#39;",
        })?;
        rest = &rest[at + 1..];
    }
    Ok(out.write_str(rest)?)
}

fn fault(doing: &str, name: &str, error: &minijinja::Error) -> Fault {
    let line = error.line().unwrap_or(0);
    Fault::pathless(
        format!("{doing} the template {name}, line {line}"),
        io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_escaped_where_it_means_something_and_links_stay_readable() {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.set_formatter(format);
        let shown = environment.render_str("{{ x }}", minijinja::context! { x => "/a?b=<'\"&>é" });
        assert_eq!(shown.unwrap(), "/a?b=&lt;&#39;&quot;&amp;&gt;é");
    }
}
