//! Values that name a place: a path, an address to listen on, a network, a host, a URL.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};

use ipnet::IpNet;
use url::Url;

use super::problem::Wrong;
use super::{Listen, LogTarget};

/// The longest path of a Unix socket, in bytes (`sun_path` of unix(7), less its final zero).
const SOCKET_PATH_MAX: usize = 107;

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

/// A file of the web server, as a page names it.
pub(super) fn logo(text: &str) -> Result<String, Wrong> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    let below = text.starts_with('/') && !text.contains("//") && !text.contains("/.");
    if below && text.bytes().all(plain) && !text.ends_with('/') {
        return Ok(text.to_owned());
    }
    let fix = "write a path below the web root, such as \"/logo.svg\"";
    Err(Wrong::new(format!("is {text:?}, no path of a picture"), fix))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_logo_is_a_path_below_the_web_root() {
        assert_eq!(logo("/img/logo-1.svg"), Ok("/img/logo-1.svg".into()));
        for bad in ["", "logo.svg", "//b.example/l.svg", "/../l", "/a b", "/\"", "/l?x", "/img/"] {
            assert!(logo(bad).is_err(), "{bad:?}");
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
