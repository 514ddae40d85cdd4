//! The CGI variables of a request (RFC 3875 §4.1) as the bytes they are, and its body.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// Request parameters: names and values as bytes, since web servers pass on what a client sent. All
/// of them lie in one piece of memory.
#[derive(Debug, Clone, Default)]
pub struct Params {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

/// Where in those bytes a name begins, where its value begins, and where that ends.
#[derive(Debug, Clone, Copy)]
struct Place {
    name: usize,
    value: usize,
    end: usize,
}

/// Parameters that a web server sends; some hosts add a few.
const USUAL: usize = 32;

impl Params {
    /// The parameters that lie in `bytes` one behind the other; `first` gives where the name and the
    /// value of the first one begin, and where it ends. Beside them, whether they reach the last byte.
    pub fn split(
        bytes: Vec<u8>,
        first: impl Fn(&[u8]) -> Option<(usize, usize, usize)>,
    ) -> (Self, bool) {
        let mut places = Vec::with_capacity(USUAL);
        let mut start = 0;
        while let Some((name, value, end)) = bytes.get(start..).and_then(&first) {
            places.push(Place { name: start + name, value: start + value, end: start + end });
            start += end;
        }
        let whole = start == bytes.len();
        (Self { bytes, places }, whole)
    }

    /// Adds a parameter; where a name comes twice, the first counts.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        let place = Place { name: start, value: start + name.len(), end: self.bytes.len() };
        self.places.push(place);
    }

    /// The value of `name`, an empty one included.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let is_it =
            |place: &&Place| self.bytes.get(place.name..place.value) == Some(name.as_bytes());
        self.places.iter().find(is_it).and_then(|place| self.bytes.get(place.value..place.end))
    }

    /// The value of `name` where it is not empty: web servers send empty values for absent ones.
    pub fn present(&self, name: &str) -> Option<&[u8]> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// The value of `name` where it is not empty and UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.present(name).and_then(|value| std::str::from_utf8(value).ok())
    }
}

impl FromIterator<(Vec<u8>, Vec<u8>)> for Params {
    fn from_iter<I: IntoIterator<Item = (Vec<u8>, Vec<u8>)>>(iter: I) -> Self {
        let mut params = Self::default();
        iter.into_iter().for_each(|(name, value)| params.push(&name, &value));
        params
    }
}

/// A request's body, as far as the gateway kept it.
#[derive(Debug, Clone)]
pub enum Body {
    /// All of it, at most [`super::BODY_MAX`] bytes.
    Whole(Vec<u8>),
    /// Larger than that; nothing was kept.
    TooLarge,
    /// It ended before the length that was announced.
    Truncated,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    /// The CGI variables.
    pub params: Params,
    /// Whether the gateway is sure that it has every parameter that was sent.
    pub whole: bool,
    /// The body.
    pub body: Body,
}

/// The methods that endpoints know apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// OPTIONS, for a preflight
    Options,
    /// any other
    Other,
}

impl Request {
    /// The request's method (RFC 9110 §9), `None` where the parameter did not arrive.
    pub fn method(&self) -> Option<Method> {
        Some(match self.params.present("REQUEST_METHOD")? {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"OPTIONS" => Method::Options,
            _ => Method::Other,
        })
    }

    /// The last segment of the path that was asked for, folded to lower case as IIS would.
    pub fn endpoint(&self) -> Vec<u8> {
        let path = (self.params.present("SCRIPT_NAME"))
            .or_else(|| self.params.present("DOCUMENT_URI"))
            .or_else(|| self.params.present("REQUEST_URI").map(path_of_uri))
            .unwrap_or_default();
        let segment = path.rsplit(|&b| b == b'/').next().unwrap_or_default();
        segment.to_ascii_lowercase()
    }

    /// The host that was asked for: `HTTP_HOST`, else `SERVER_NAME`; folded to lower case, without
    /// port and one trailing dot. Empty where neither came.
    pub fn host(&self) -> String {
        let named = self.params.present("HTTP_HOST").or_else(|| self.params.present("SERVER_NAME"));
        let text = String::from_utf8_lossy(named.unwrap_or_default()).to_ascii_lowercase();
        let bare = without_port(&text);
        bare.strip_suffix('.').unwrap_or(bare).to_owned()
    }

    /// The query string.
    pub fn query(&self) -> &[u8] {
        if let Some(query) = self.params.get("QUERY_STRING") {
            return query;
        }
        let uri = self.params.get("REQUEST_URI").unwrap_or_default();
        uri.iter().position(|&b| b == b'?').map_or(&[], |at| &uri[at + 1..])
    }

    /// The client: `REMOTE_ADDR` alone, or, where that peer is one of `trusted`, the right-most
    /// address of `X-Forwarded-For` that is not. `None` where `REMOTE_ADDR` is no address.
    pub fn client(&self, trusted: &[IpNet]) -> Option<IpAddr> {
        let peer = parse_address(self.params.text("REMOTE_ADDR")?)?;
        let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
        if !is_trusted(&peer) {
            return Some(peer);
        }
        let forwarded = self.params.present("HTTP_X_FORWARDED_FOR").unwrap_or_default();
        let mut nearest = peer;
        for hop in forwarded.rsplit(|&b| b == b',') {
            // What a trusted proxy did not write as an address was not written by it.
            let Some(address) = std::str::from_utf8(hop).ok().and_then(parse_hop) else { break };
            nearest = address;
            if !is_trusted(&address) {
                break;
            }
        }
        Some(nearest)
    }
}

/// An IP address; an IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2) is the IPv4 address it stands for.
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = text.parse::<IpAddr>().ok()?;
    Some(address.to_canonical())
}

/// One hop of `X-Forwarded-For`: some proxies add a port, and brackets to IPv6.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if let Some(address) = parse_address(text) {
        return Some(address);
    }
    if let Some((inner, _)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return inner.parse::<Ipv6Addr>().ok().map(|a| IpAddr::V6(a).to_canonical());
    }
    let (v4, port) = text.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    v4.parse().ok().map(IpAddr::V4)
}

/// The path of a request URI, which may be in absolute form (RFC 9112 §3.2.2).
fn path_of_uri(uri: &[u8]) -> &[u8] {
    let end = uri.iter().position(|&b| b == b'?' || b == b'#').unwrap_or(uri.len());
    &uri[..end]
}

/// `host`, `host:port`, `[v6]` or `[v6]:port` without the port.
fn without_port(host: &str) -> &str {
    if host.starts_with('[') {
        return host.find(']').map_or(host, |end| &host[..=end]);
    }
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(params: &[(&str, &str)]) -> Request {
        let params =
            params.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).collect();
        Request { params, whole: true, body: Body::Whole(Vec::new()) }
    }

    #[test]
    fn the_endpoint_is_the_last_segment_in_any_case() {
        assert_eq!(request(&[("SCRIPT_NAME", "/a/Signup.ASHX")]).endpoint(), b"signup.ashx");
        assert_eq!(
            request(&[("SCRIPT_NAME", ""), ("DOCUMENT_URI", "/x.ashx")]).endpoint(),
            b"x.ashx"
        );
        assert_eq!(request(&[("REQUEST_URI", "/q/c.ashx?a=/b")]).endpoint(), b"c.ashx");
        assert_eq!(request(&[]).endpoint(), b"");
    }

    #[test]
    fn the_host_loses_its_port_and_one_dot() {
        for (given, host) in [
            ("A.Example:8080", "a.example"),
            ("a.example.", "a.example"),
            ("a.example..:80", "a.example."),
            ("[::1]:80", "[::1]"),
            ("a.example", "a.example"),
        ] {
            assert_eq!(request(&[("HTTP_HOST", given)]).host(), host);
        }
        assert_eq!(request(&[("HTTP_HOST", ""), ("SERVER_NAME", "b.example")]).host(), "b.example");
    }

    #[test]
    fn forwarded_addresses_count_only_behind_a_trusted_peer() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let client = |peer: &str, header: &str| {
            let request = request(&[("REMOTE_ADDR", peer), ("HTTP_X_FORWARDED_FOR", header)]);
            request.client(&trusted).map(|a| a.to_string())
        };
        assert_eq!(client("192.0.2.1", "198.51.100.7"), Some("192.0.2.1".into()));
        assert_eq!(
            client("10.0.0.1", "1.1.1.1, 198.51.100.7, 10.2.2.2"),
            Some("198.51.100.7".into())
        );
        assert_eq!(client("::1", "[2001:db8::5]:99"), Some("2001:db8::5".into()));
        assert_eq!(client("10.0.0.1", "198.51.100.7, unknown"), Some("10.0.0.1".into()));
        assert_eq!(client("::ffff:192.0.2.9", ""), Some("192.0.2.9".into()));
        assert_eq!(client("unix:", "198.51.100.7"), None);
        assert_eq!(client("", ""), None);
    }
}
