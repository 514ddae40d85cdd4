//! `pages`: the static pages of a tenant with its name and logo in them. They are taken from its `html`
//! directory and written to another, which the web server serves; like `preview` it opens no tenant
//! and runs as whoever started it.
//!
//! | filled in | where |
//! |---|---|
//! | `site_name` | `<span id="site">` of every page |
//! | `logo` | `<img id="logo">` of every page |
//! | the path of `base_url` | before the addresses of `404.html`, which comes in place of any page |
//!
//! Every other file is copied byte for byte.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::upkeep::choose;
use super::{Failure, exit};
use crate::config::{self, TenantConfig, Wrong};

/// Any web server may read what it serves, whatever the umask is.
const DIRECTORY: u32 = 0o755;
const FILE: u32 = 0o644;

const NOT_FOUND: &str = "404.html";

/// Writes the pages of the tenant `host` to the directory `to`, which is made where it is missing.
pub fn pages(config_file: &Path, host: Option<&str>, to: &Path) -> Result<(), Failure> {
    let config = config::load(config_file)?;
    let tenant = choose(&config.tenants, host)?;
    let from = canonical("read the pages in", &tenant.html)?;
    make_directory(to)?;
    if canonical("write to", to)?.starts_with(&from) {
        let why =
            format!("--to {} is in {}, where the pages come from", to.display(), from.display());
        return Err(Failure::new(exit::USAGE, format!("{why}: name a directory outside it")));
    }
    copy(tenant, &from, to)
}

fn copy(tenant: &TenantConfig, from: &Path, to: &Path) -> Result<(), Failure> {
    let unreadable = |error| failure(exit::IO, "read", from, &error);
    for entry in fs::read_dir(from).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let (source, target) = (from.join(&name), to.join(&name));
        if source.is_dir() {
            make_directory(&target)?;
            copy(tenant, &source, &target)?;
            continue;
        }
        let bytes =
            fs::read(&source).map_err(|error| failure(exit::IO, "read", &source, &error))?;
        let bytes = match std::str::from_utf8(&bytes) {
            Ok(page) if is_page(&source) => filled_in(page, &name.to_string_lossy(), tenant).into(),
            _ => bytes,
        };
        let written = fs::write(&target, bytes).and_then(|()| set_mode(&target, FILE));
        written.map_err(|error| failure(exit::CANNOT_CREATE, "write", &target, &error))?;
    }
    Ok(())
}

fn make_directory(path: &Path) -> Result<(), Failure> {
    if path.is_dir() {
        return Ok(());
    }
    let made = fs::create_dir_all(path).and_then(|()| set_mode(path, DIRECTORY));
    made.map_err(|error| failure(exit::CANNOT_CREATE, "make the directory", path, &error))
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn canonical(doing: &str, path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().map_err(|error| failure(exit::IO, doing, path, &error))
}

fn failure(code: u8, doing: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(code, format!("cannot {doing} {}: {error}", path.display()))
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "html")
}

/// A page with what the tenant's configuration knows.
fn filled_in(page: &str, name: &str, tenant: &TenantConfig) -> String {
    let logo = match &tenant.logo {
        Some(path) => format!("<img id=\"logo\" alt=\"\" src=\"{}\">", escaped(path)),
        None => "<img id=\"logo\" alt=\"\" hidden>".to_owned(),
    };
    let site = format!("<span id=\"site\">{}</span>", escaped(&tenant.site_name));
    let base = url::Url::parse(&tenant.base_url).ok();
    let path = base.as_ref().map_or("", |url| url.path()).trim_end_matches('/');
    let page = match name == NOT_FOUND {
        true => page.replace("=\"/", &format!("=\"{}/", escaped(path))),
        false => page.to_owned(),
    };
    let page = replaced(&page, "<img id=\"logo\"", ">", &logo);
    replaced(&page, "<span id=\"site\">", "</span>", &site)
}

/// The text with what begins with `open` and ends with `close` replaced, where it is there.
fn replaced(text: &str, open: &str, close: &str, by: &str) -> String {
    let found = text.split_once(open).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(close)?;
        Some(format!("{before}{by}{after}"))
    });
    found.unwrap_or_else(|| text.to_owned())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// What is wrong with the pages in a tenant's `html` directory: that it cannot be read, and each
/// \[remark\] in a page that nobody has replaced by what is true of the host.
pub(super) fn unfinished(html: &Path) -> Vec<Wrong> {
    let entries = match fs::read_dir(html) {
        Ok(entries) => entries,
        // Pages may be served from elsewhere, by a host that never named this directory.
        Err(_) if html == Path::new(config::HTML) => return Vec::new(),
        Err(error) => {
            let why = format!("is {html:?}, which cannot be read: {error}");
            return vec![Wrong::new(why, "write the directory that has the pages")];
        }
    };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| is_page(file));
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let Ok(page) = fs::read_to_string(&file) else { continue };
        found.extend(brackets(&page).into_iter().map(|(line, text)| {
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let why = format!("has {text} in {}, line {line}", file.display());
            Wrong::new(why, "replace it there by what is true of this host")
        }));
    }
    found
}

/// Every \[remark\] that a visitor would read, with its line.
fn brackets(page: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = page.get(at..) {
        let Some(next) = rest.find(['<', '[']) else { break };
        let (start, rest) = (at + next, &rest[next..]);
        let code = ["script", "style"].into_iter().find(|name| rest[1..].starts_with(name));
        let end = if rest.starts_with("<!--") {
            rest.find("-->").map(|end| end + 3)
        } else if let Some(name) = code.filter(|_| rest.starts_with('<')) {
            rest.find(&format!("</{name}>"))
        } else if rest.starts_with('<') {
            rest.find('>').map(|end| end + 1)
        } else {
            rest.find(']').map(|end| end + 1)
        };
        let Some(text) = end.and_then(|end| rest.get(..end)) else { break };
        if text.starts_with('[') && !text.contains('<') {
            found.push((1 + page[..start].matches('\n').count(), text));
        }
        at = start + text.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_visitor_reads_counts_as_unfinished() {
        let page = "<!-- [one] -->\n<p title=\"[two]\">[three\nfour]</p>\n[14] [";
        assert_eq!(brackets("<style>p[dir] {}</style><script>a[0]</script>[1]"), [(1, "[1]")]);
        assert_eq!(brackets(page), [(2, "[three\nfour]"), (4, "[14]")]);
        assert_eq!(brackets("[a <b>]</b>"), []);
    }

    #[test]
    fn what_is_filled_in_is_escaped_and_the_rest_stays() {
        let text = "a<span id=\"site\">old</span>b";
        let by = format!("<span id=\"site\">{}</span>", escaped("A & <B>"));
        let filled = replaced(text, "<span id=\"site\">", "</span>", &by);
        assert_eq!(filled, "a<span id=\"site\">A &amp; &lt;B&gt;</span>b");
        assert_eq!(replaced("none", "<span", "</span>", "x"), "none");
    }
}
