//! One value at a time: from what TOML gives to the checked type, or why not and what to write.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use lettre::message::Mailbox;
use toml::de::DeValue;
use url::Url;

use super::problem::Wrong;
use super::raw::is_a;
use super::{Activation, Gateway, LANGUAGES, Listen, LogTarget, Signups, View};
use crate::account::{Realm, Role, Username};

/// The longest path of a Unix socket, in bytes (`sun_path` of unix(7), less its final zero).
const SOCKET_PATH_MAX: usize = 107;

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

/// An absolute path, without its `.` and doubled slashes, so that one directory has one spelling.
pub(super) fn path(text: &str) -> Result<PathBuf, Wrong> {
    let path = Path::new(text);
    if text.contains('\0') {
        return Err(Wrong::new("contains a NUL character", "write a path without it"));
    }
    if !path.is_absolute() {
        return Err(Wrong::new(
            format!("is {text:?}, a relative path"),
            "write an absolute path, which begins with /",
        ));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(Wrong::new(format!("is {text:?}, which contains .."), "write it without .."));
    }
    Ok(path.components().collect())
}

/// `stderr` or an absolute path.
pub(super) fn log_target(text: &str) -> Result<LogTarget, Wrong> {
    match text {
        "stderr" => Ok(LogTarget::Stderr),
        _ => path(text).map(LogTarget::File).map_err(|wrong| {
            Wrong::new(wrong.why, "write \"stderr\" or the absolute path of a file")
        }),
    }
}

/// `unix:PATH` or `ADDRESS:PORT`.
pub(super) fn listen(text: &str) -> Result<Listen, Wrong> {
    if let Some(socket) = text.strip_prefix("unix:") {
        let socket = path(socket)?;
        return match socket.as_os_str().len() {
            ..=SOCKET_PATH_MAX => Ok(Listen::Unix(socket)),
            length => Err(Wrong::new(
                format!("is {length} bytes long"),
                format!("write a socket path of at most {SOCKET_PATH_MAX} bytes"),
            )),
        };
    }
    let local = |port: &str| Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().ok()?)));
    let address = match text.strip_prefix("localhost:") {
        Some(port) => local(port),
        None => text.parse().ok(),
    };
    address.filter(|address| address.port() != 0).map(Listen::Tcp).ok_or_else(|| {
        let fix = "write \"unix:/run/codeb-signup/fcgi.sock\" or \"127.0.0.1:9000\", \
                   an IP address and a port";
        Wrong::new(format!("is {text:?}, no address to listen on"), fix)
    })
}

/// A network in CIDR form, or a single address.
pub(super) fn network(text: &str) -> Result<IpNet, Wrong> {
    let single = || text.parse().ok().map(|address: std::net::IpAddr| IpNet::from(address));
    text.parse().ok().or_else(single).ok_or_else(|| {
        let fix = "write an address or a network, \"10.0.0.0/8\" or \"2001:db8::/32\"";
        Wrong::new(format!("contains {text:?}, no network"), fix)
    })
}

/// A host as a request names it, lower case: a name, an IPv4 address, or an IPv6 one in brackets.
pub(super) fn host(text: &str) -> Result<String, Wrong> {
    let host = text.to_ascii_lowercase();
    let wrong = |why: &'static str, fix: String| Err(Wrong::new(why, fix));
    if host.starts_with('[') {
        return match url::Host::parse(&host) {
            Ok(address) => Ok(address.to_string()),
            Err(_) => wrong("is no IPv6 address in brackets", "write \"[::1]\"".into()),
        };
    }
    if let Some((name, _)) = host.split_once(':') {
        let fix = format!("write {name:?}: every port is served; an IPv6 address stands in [ ]");
        return wrong("contains ':'", fix);
    }
    if let Some(name) = host.strip_suffix('.') {
        return wrong("ends with a dot", format!("write {name:?}, which serves both"));
    }
    if let (false, Ok(name)) = (host.is_ascii(), url::Host::parse(&host)) {
        return wrong("is not ASCII", format!("write \"{name}\", as browsers send it"));
    }
    let label = |label: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(allowed)
    };
    if host.len() > 253 || !host.split('.').all(label) {
        return wrong("is no host name", "write it as browsers send it: \"a.example\"".into());
    }
    Ok(host)
}

/// A host among others, or one that does not name its table: a refusal has to say which.
pub(super) fn alias(text: &str) -> Result<String, Wrong> {
    host(text).map_err(|wrong| Wrong::new(format!("has {text:?}, which {}", wrong.why), wrong.fix))
}

/// A realm.
pub(super) fn realm(text: &str) -> Result<Realm, Wrong> {
    Realm::parse(text).map_err(|_| {
        let unfit = |c: &char| !(' '..='~').contains(c) || matches!(c, ':' | '"' | '\\');
        let why = match text.chars().find(unfit) {
            Some(c) => format!("contains {c:?}"),
            None if text.is_empty() => "is empty".to_owned(),
            None if text.len() > Realm::MAX => format!("is {} characters long", text.len()),
            None => "begins or ends with a blank".to_owned(),
        };
        let fix = "write a realm of 1 to 64 printable ASCII characters without ':', '\"' and '\\'";
        Wrong::new(why, fix)
    })
}

/// Where the site stands, without the slash at its end.
pub(super) fn base_url(text: &str) -> Result<String, Wrong> {
    let wrong = |why: &'static str| Err(Wrong::new(why, "write it as \"https://a.example\""));
    let Some(url) = web_url(text) else { return wrong("is no http:// or https:// address") };
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("contains a user name or a password");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return wrong("contains a query or a fragment");
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// An `http` or `https` address, absolute, written without characters that a parser would skip.
fn web_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let clean = text.chars().all(|c| !c.is_control() && !c.is_whitespace());
    let absolute = text.split_once("://").is_some_and(|(_, rest)| !rest.starts_with('/'));
    (clean && absolute && matches!(url.scheme(), "http" | "https")).then_some(url)
}

/// An origin as browsers send it (RFC 6454 §6.2).
pub(super) fn origin(text: &str) -> Result<String, Wrong> {
    let fix = "write each origin as browsers send it: \"https://b.example\"";
    let Some(url) = web_url(text) else {
        return Err(Wrong::new(format!("contains {text:?}, no origin"), fix));
    };
    let origin = url.origin().ascii_serialization();
    if text.to_ascii_lowercase() != origin {
        let why = format!("contains {text:?}, no origin as browsers send it");
        return Err(Wrong::new(why, format!("write {origin:?}")));
    }
    Ok(origin)
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

/// Where the activation page leads on to: a path on this site, or an address elsewhere.
pub(super) fn login_page(text: &str) -> Result<String, Wrong> {
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    let local = text.starts_with('/') && !text.starts_with("//");
    if plain && (local || web_url(text).is_some()) {
        return Ok(text.to_owned());
    }
    let fix = "write a path that begins with one /, or an address that begins with https://";
    Err(Wrong::new(format!("is {text:?}, no place to lead on to"), fix))
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
    if LANGUAGES.contains(&text) {
        return Ok(text.to_owned());
    }
    let fix = format!("write one of {}", LANGUAGES.map(|tag| format!("\"{tag}\"")).join(", "));
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
    fn hosts_are_spelled_as_requests_spell_them() {
        assert_eq!(host("A.Example"), Ok("a.example".into()));
        assert_eq!(host("127.0.0.1"), Ok("127.0.0.1".into()));
        assert_eq!(host("[0:0::1]"), Ok("[::1]".into()));
        for bad in
            ["", "a.example:80", "a.example.", "::1", "[::1", "a b", "bücher.example", "a..b"]
        {
            assert!(host(bad).is_err(), "{bad:?}");
        }
        assert!(host("bücher.example").unwrap_err().to_string().contains("xn--bcher-kva.example"));
    }

    #[test]
    fn base_urls_lose_their_last_slash_and_nothing_else() {
        assert_eq!(base_url("https://A.example/"), Ok("https://a.example".into()));
        assert_eq!(base_url("http://[::1]:8080/x/"), Ok("http://[::1]:8080/x".into()));
        for bad in [
            "a.example",
            "ftp://a.example",
            "https:/a",
            "https:///a",
            "https://a/?x",
            "https://a/#x",
            "https://u@a/",
            "https://a\n.example",
            "https://",
        ] {
            assert!(base_url(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn origins_and_login_pages_name_one_place() {
        assert_eq!(origin("HTTPS://b.example"), Ok("https://b.example".into()));
        for bad in ["*", "null", "https://b.example/", "https://b.example:443", "b.example"] {
            assert!(origin(bad).is_err(), "{bad:?}");
        }
        assert!(login_page("/login.html").is_ok() && login_page("https://a.example/").is_ok());
        for bad in ["", "login.html", "//evil.example", "/\\evil", "javascript:alert(1)", "/a b"] {
            assert!(login_page(bad).is_err(), "{bad:?}");
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

    #[test]
    fn listening_addresses_are_absolute_paths_or_ip_addresses() {
        assert_eq!(listen("unix:/run/a.sock"), Ok(Listen::Unix("/run/a.sock".into())));
        assert_eq!(listen("localhost:9000").unwrap().to_string(), "127.0.0.1:9000");
        assert_eq!(listen("[::1]:9000").unwrap().to_string(), "[::1]:9000");
        for bad in ["", "unix:a", "9000", "127.0.0.1", "127.0.0.1:0", "a.example:80", "unix:"] {
            assert!(listen(bad).is_err(), "{bad:?}");
        }
        assert!(listen(&format!("unix:/{}", "x".repeat(107))).is_err());
    }
}
