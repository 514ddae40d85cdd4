//! The texts with holes in them: mails and pages, parsed once at start, escaped by their kind.
//!
//! A tenant may have a directory of its own templates. For a visitor who reads German, `mail.txt` is
//! the first that is there of `DIR/de/mail.txt`, `DIR/mail.txt` and the built-in one; `mail.html` and
//! `page.html` likewise. Other files are not looked at. A start and `check` try them out in every
//! language, so that a broken template is a fault then and not of a sign-up.
//!
//! | in every template | |
//! |---|---|
//! | `lang`, `dir` | the language's tag; `ltr` or `rtl` |
//! | `text.mail_…`, `text.page_…` | the language's texts, filled in |
//! | `…\|wrap` | broken into lines of at most 72 characters |

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Output, Value};
use serde::Serialize;

use crate::error::Fault;
use crate::lang::{Language, Languages};

/// The templates that come with the program: name, source.
const BUILT_IN: [(&str, &str); 3] = [
    ("mail.txt", include_str!("templates/mail.txt")),
    ("mail.html", include_str!("templates/mail.html")),
    ("page.html", include_str!("templates/page.html")),
];

/// The longest line of a mail's text, in characters (RFC 5322 §2.1.1 wants at most 78).
const LINE_MAX: usize = 72;

/// Templates, ready to be rendered.
#[derive(Debug)]
pub struct Templates {
    /// The languages that they are rendered in.
    pub languages: Arc<Languages>,
    environment: Environment<'static>,
    own: Option<PathBuf>,
}

/// What a mail is made of.
#[derive(Debug, Clone, Serialize)]
pub struct MailValues<'a> {
    /// The mail's subject.
    pub subject: &'a str,
    /// The host that sends.
    pub host: &'a str,
    /// What the site is called.
    pub site: &'a str,
    /// The user name, where a mail may show it.
    pub user: Option<&'a str>,
    /// The link that activates.
    pub link: &'a str,
    /// Until when, as the language writes it, with its zone.
    pub date: &'a str,
}

/// Which page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PageKind {
    /// The account was just enabled.
    Active,
    /// The link is good; a button enables the account.
    Click,
    /// The link does not work.
    Refused,
    /// The activation failed through our fault.
    Failed,
}

/// What a page is made of.
#[derive(Debug, Clone, Serialize)]
pub struct PageValues<'a> {
    /// Which page.
    pub page: PageKind,
    /// Its title, in the language.
    pub title: &'a str,
    /// Its title in English, where the contract wants that sentence too.
    pub english: Option<&'a str>,
    /// The host.
    pub host: &'a str,
    /// What the site is called.
    pub site: &'a str,
    /// Whose account.
    pub user: Option<&'a str>,
    /// Where accounts are used.
    pub login_page: &'a str,
    /// Whether a mail can be asked for again.
    pub resend: bool,
    /// The link's token, for the button.
    pub token: Option<&'a str>,
    /// What the page's own style and script must bear (CSP).
    pub nonce: &'a str,
}

#[derive(Serialize)]
struct Context<'a, V> {
    lang: &'a str,
    dir: &'a str,
    text: &'a Value,
    #[serde(flatten)]
    values: &'a V,
}

impl Templates {
    /// The built-in templates and those in the directory `own`. Names that end in `.html` escape
    /// what they are given.
    pub fn new(languages: Arc<Languages>, own: Option<&Path>) -> Result<Self, Fault> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|name| match name.ends_with(".html") {
            true => AutoEscape::Html,
            false => AutoEscape::None,
        });
        environment.set_formatter(format);
        environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
        environment.add_filter("wrap", |text: String| wrap(&text));
        let mut templates = Self { languages, environment, own: own.map(Path::to_owned) };
        for (name, source) in BUILT_IN {
            templates.add(name.to_owned(), source.to_owned())?;
        }
        if let Some(own) = own {
            templates.add_own(own)?;
        }
        Ok(templates)
    }

    fn add_own(&mut self, own: &Path) -> Result<(), Fault> {
        let languages = self.languages.clone();
        for (name, _) in BUILT_IN {
            let by_language = languages.all().iter().map(|l| format!("{}/{name}", l.tag()));
            for name in std::iter::once(name.to_owned()).chain(by_language) {
                match fs::read_to_string(own.join(&name)) {
                    Ok(source) => self.add(name, source)?,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        return Err(Fault::new("read the template", &own.join(&name), error));
                    }
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, name: String, source: String) -> Result<(), Fault> {
        let added = self.environment.add_template_owned(name.clone(), source);
        added.map_err(|error| self.broken(&name, &error))
    }

    /// Renders everything with values like those that will come: what is wrong with a template shows
    /// here and not in a sign-up.
    pub fn try_out(&self) -> Result<(), Fault> {
        let (joe, host) = (Some("joe"), "a.example");
        let site = "A";
        let (link, date) = ("https://a.example/activate.ashx?token=0", "31 January 2030 (UTC)");
        for language in self.languages.all() {
            for user in [joe, None] {
                self.mail(language, &MailValues { subject: "-", host, site, user, link, date })?;
            }
            for (page, user, token) in [
                (PageKind::Active, joe, None),
                (PageKind::Click, joe, Some("0")),
                (PageKind::Refused, None, None),
                (PageKind::Failed, None, None),
            ] {
                let (title, english, login_page, nonce) = ("-", Some("-"), "/login.html", "-");
                let mut values = PageValues {
                    page,
                    title,
                    english,
                    host,
                    site,
                    user,
                    login_page,
                    resend: true,
                    token,
                    nonce,
                };
                self.page(language, &values)?;
                values.resend = false;
                self.page(language, &values)?;
            }
        }
        Ok(())
    }

    /// The two parts of a mail: text, HTML.
    pub fn mail(
        &self,
        language: &Language,
        values: &MailValues<'_>,
    ) -> Result<(String, String), Fault> {
        let named = [
            ("host", values.host),
            ("site", values.site),
            ("date", values.date),
            ("user", values.user.unwrap_or_default()),
        ];
        let texts = Value::from(Serde(language.texts("mail_", &named)));
        let text = self.render("mail.txt", language, &texts, values)?;
        Ok((text, self.render("mail.html", language, &texts, values)?))
    }

    /// A page.
    pub fn page(&self, language: &Language, values: &PageValues<'_>) -> Result<String, Fault> {
        let user = values.user.unwrap_or_default();
        let named = [("host", values.host), ("site", values.site), ("user", user)];
        let texts = Value::from(Serde(language.texts("page_", &named)));
        self.render("page.html", language, &texts, values)
    }

    fn render<V: Serialize>(
        &self,
        name: &str,
        language: &Language,
        text: &Value,
        values: &V,
    ) -> Result<String, Fault> {
        let (lang, dir) = (language.tag(), language.dir());
        let context = Context { lang, dir, text, values };
        let translated = format!("{lang}/{name}");
        (self.environment.get_template(&translated))
            .or_else(|_| self.environment.get_template(name))
            .and_then(|template| template.render(Serde(context)))
            .map_err(|error| self.broken(name, &error))
    }

    fn broken(&self, name: &str, error: &minijinja::Error) -> Fault {
        let name = error.name().unwrap_or(name);
        let line = error.line().unwrap_or(0);
        let path = self.own.as_deref().unwrap_or(Path::new("the program's own")).join(name);
        let why = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
        let cause = io::Error::new(io::ErrorKind::InvalidData, format!("line {line}: {why}"));
        Fault::new("use the template", &path, cause)
            .way_out("mend it, or remove it: then the built-in one is used")
    }
}

/// Writes a value; in HTML with the five characters escaped that mean something there. The engine's
/// own escaping takes `/` as well, which makes links unreadable for whoever looks at a mail's source.
fn format(
    out: &mut Output<'_>,
    state: &mut minijinja::State<'_, '_>,
    value: &Value,
) -> Result<(), minijinja::Error> {
    let Some(text) = value
        .as_str()
        .filter(|_| !value.is_safe() && matches!(state.auto_escape(), AutoEscape::Html))
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

/// Breaks a text at blanks into lines of at most [`LINE_MAX`] characters; a longer word stays whole.
fn wrap(text: &str) -> String {
    let mut wrapped = String::with_capacity(text.len() + 8);
    let mut width = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if width > 0 {
            let breaks = width + 1 + length > LINE_MAX;
            wrapped.push(if breaks { '\n' } else { ' ' });
            width = if breaks { 0 } else { width + 1 };
        }
        wrapped.push_str(word);
        width += length;
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn languages() -> Arc<Languages> {
        Arc::new(Languages::built_in().unwrap())
    }

    fn directory(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("codeb-tpl-{name}-{}", std::process::id()));
        for (file, text) in files {
            let path = dir.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn the_built_in_templates_render_in_every_language() {
        Templates::new(languages(), None).unwrap().try_out().unwrap();
    }

    #[test]
    fn no_text_stands_in_a_built_in_template() {
        for (name, source) in BUILT_IN {
            let outside: String =
                source.split("{%").map(|p| p.rsplit("%}").next().unwrap()).collect();
            let outside: String =
                outside.split("{{").map(|p| p.rsplit("}}").next().unwrap()).collect();
            let body = outside.split_once("<body").map_or(outside.as_str(), |(_, body)| body);
            let body = body.split("<script").map(|p| p.rsplit("</script>").next().unwrap());
            let words: String =
                body.flat_map(|b| b.split('<').map(|p| p.rsplit('>').next().unwrap())).collect();
            assert!(!words.contains(char::is_alphabetic), "{name}: {words:?}");
        }
    }

    #[test]
    fn a_template_of_the_language_outranks_the_tenants_and_that_the_built_in_one() {
        let files = [("mail.txt", "own {{ link }}"), ("de/mail.txt", "eigene {{ text.mail_why }}")];
        let dir = directory("rank", &files);
        let templates = Templates::new(languages(), Some(&dir)).unwrap();
        let values =
            MailValues { subject: "S", host: "h", site: "s", user: None, link: "L", date: "D" };
        let mail = |tag| templates.mail(templates.languages.get(tag).unwrap(), &values).unwrap();
        assert_eq!(mail("en").0, "own L");
        assert!(mail("de").0.starts_with("eigene "));
        assert!(mail("de").1.contains("<html"));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_broken_template_is_refused_by_name_and_line() {
        for (at, (file, text, line)) in [
            ("mail.txt", "a\n{{ link ", 2),
            ("fr/page.html", "a\n\n{{ nobody }}", 3),
            ("mail.html", "{% if user %}{{ user.first.second }}{% endif %}", 1),
        ]
        .into_iter()
        .enumerate()
        {
            let dir = directory(&format!("broken{at}"), &[(file, text)]);
            let tried = Templates::new(languages(), Some(&dir)).and_then(|t| t.try_out());
            let fault = tried.unwrap_err().to_string();
            assert!(fault.contains(&format!("{file}: line {line}: ")), "{fault}");
            fs::remove_dir_all(dir).unwrap();
        }
    }

    #[test]
    fn lines_break_at_blanks() {
        let wrapped = wrap(&"wort ".repeat(40));
        assert!(wrapped.lines().all(|line| line.len() <= LINE_MAX) && wrapped.lines().count() == 3);
        assert_eq!(wrap(&"x".repeat(100)), "x".repeat(100));
    }

    #[test]
    fn html_is_escaped_where_it_means_something_and_links_stay_readable() {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.set_formatter(format);
        let shown = environment.render_str("{{ x }}", minijinja::context! { x => "/a?b=<'\"&>é" });
        assert_eq!(shown.unwrap(), "/a?b=&lt;&#39;&quot;&amp;&gt;é");
    }
}
