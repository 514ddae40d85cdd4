//! The fields of an account. Whoever holds a value of one of these types holds one that keeps the
//! contract's rule for that field; see the table in [`super`].

use std::fmt;

/// Why a text is not a value of one of this module's types: a phrase that follows the field's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The name an account signs in with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Username(String);

/// Names that nobody may sign up with, whatever the tenant adds.
pub const RESERVED: [&str; 14] = [
    "admin",
    "administrator",
    "root",
    "system",
    "postmaster",
    "hostmaster",
    "webmaster",
    "abuse",
    "security",
    "noreply",
    "no-reply",
    "anonymous",
    "guest",
    "nobody",
];

impl Username {
    /// The longest user name, in bytes.
    pub const MAX: usize = 64;

    /// Takes `text` as a user name. Upper case is refused, not folded: the HA1 that the client
    /// sends was computed over the name as the client spelled it.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        Self::check(text)?;
        Ok(Self(text.to_owned()))
    }

    /// Whether `text` is a user name, without keeping it: for a file of millions of them.
    pub fn check(text: &str) -> Result<(), Malformed> {
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-');
        if text.is_empty() || text.len() > Self::MAX || !text.bytes().all(allowed) {
            return Err(Malformed("must be 1 to 64 of a-z 0-9 _ . -"));
        }
        if text == "." || text == ".." {
            return Err(Malformed("is reserved"));
        }
        Ok(())
    }

    /// Whether the name is one that every tenant reserves.
    pub fn is_reserved(&self) -> bool {
        RESERVED.contains(&self.as_str())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name shown to people. It appears in no mail and no log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisplayName(String);

impl DisplayName {
    /// The longest display name, in Unicode scalar values.
    pub const MAX: usize = 120;

    /// Takes `text` as a display name: refuses what could disturb a page or a terminal, then trims
    /// blanks, then measures.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.chars().any(disturbs) {
            return Err(Malformed(
                "must not contain control characters, line separators or bidi overrides",
            ));
        }
        let trimmed = text.trim();
        match trimmed.chars().count() {
            1..=Self::MAX => Ok(Self(trimmed.to_owned())),
            _ => Err(Malformed("must be 1 to 120 characters")),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Control characters (Cc), LINE and PARAGRAPH SEPARATOR, and the explicit bidi embeddings,
/// overrides and isolates of UAX #9.
fn disturbs(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// One plain mail address.
#[derive(Clone, PartialEq, Eq)]
pub struct Email {
    address: String,
    at: usize,
}

impl Email {
    /// The longest address, in bytes (RFC 5321 §4.5.3.1.3, less the angle brackets).
    pub const MAX: usize = 254;
    /// The longest local part, in bytes (RFC 5321 §4.5.3.1.1).
    pub const MAX_LOCAL: usize = 64;

    /// Takes `text` as a plain address: a dot-atom, `@`, and a domain of at least two labels. A
    /// domain outside ASCII is taken in its A-label form (RFC 5890); ASCII domains are lower-cased.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        const WRONG: Malformed = Malformed("must be one plain address, local@domain");
        if text.len() > Self::MAX {
            return Err(Malformed("must be at most 254 bytes"));
        }
        let (local, domain) = text.rsplit_once('@').ok_or(WRONG)?;
        if !is_dot_atom(local) || local.len() > Self::MAX_LOCAL {
            return Err(WRONG);
        }
        let domain = a_label_domain(domain).ok_or(WRONG)?;
        let address = format!("{local}@{domain}");
        if address.len() > Self::MAX {
            return Err(Malformed("must be at most 254 bytes"));
        }
        Ok(Self { address, at: local.len() })
    }

    /// The address, domain in ASCII.
    pub fn as_str(&self) -> &str {
        &self.address
    }

    /// What stands before the `@`.
    pub fn local(&self) -> &str {
        &self.address[..self.at]
    }

    /// What stands behind the `@`.
    pub fn domain(&self) -> &str {
        &self.address[self.at + 1..]
    }
}

/// An address is personal: a debug print must not put it into a log.
impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(…)")
    }
}

/// `dot-atom-text` of RFC 5322 §3.2.3.
fn is_dot_atom(local: &str) -> bool {
    let atext = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b);
    local.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(atext))
}

/// The domain in ASCII and lower case, or `None` where it is no mail domain. A last label of digits
/// alone would make it an IPv4 address, or a name that no registry gives out (RFC 3696 §2).
fn a_label_domain(domain: &str) -> Option<String> {
    let ascii = if domain.is_ascii() {
        domain.to_ascii_lowercase()
    } else {
        // `Host::parse` undoes percent signs, which no domain has.
        let plain = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || c == '-' || c == '.';
        if !domain.chars().all(plain) {
            return None;
        }
        match url::Host::parse(domain).ok()? {
            url::Host::Domain(name) => name,
            url::Host::Ipv4(_) | url::Host::Ipv6(_) => return None,
        }
    };
    let (rest, last) = ascii.rsplit_once('.')?;
    let is_number = last.bytes().all(|b| b.is_ascii_digit());
    (rest.split('.').chain([last]).all(is_ldh) && !is_number).then_some(ascii)
}

/// A label of letters, digits and hyphens (RFC 5890 §2.3.1), 1 to 63 bytes.
fn is_ldh(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// The protection space that an HA1 is computed for (RFC 7616 §3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realm(String);

impl Realm {
    /// The longest realm, in bytes.
    pub const MAX: usize = 64;

    /// Takes `text` as a realm: what every reader of `user:realm:ha1` and every digest
    /// implementation takes without quoting.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let allowed = |b: u8| (b' '..=b'~').contains(&b) && !matches!(b, b':' | b'"' | b'\\');
        if text.is_empty() || text.len() > Self::MAX || !text.bytes().all(allowed) {
            return Err(Malformed(
                "must be 1 to 64 printable ASCII characters without ':', '\"' and '\\'",
            ));
        }
        if text != text.trim() {
            return Err(Malformed("must not begin or end with a blank"));
        }
        if text.bytes().all(|b| b == b'#') {
            return Err(Malformed("must not be '#' alone, as in the dead lines of a view"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The realm as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Realm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an account may do, as the programs that read the credentials file name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role(String);

impl Role {
    /// Takes `text` as a role.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        if text.is_empty() || text.len() > 32 || !text.bytes().all(allowed) {
            return Err(Malformed("must be 1 to 32 of a-z 0-9 _ -"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The role as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_keep_the_contract() {
        for good in ["a", "joe", "a.b-c_d", "0", "...", &"x".repeat(64)] {
            assert!(Username::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "Joe", "jöe", "a b", "a:b", "a\n", &"x".repeat(65)] {
            assert!(Username::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn display_names_refuse_what_disturbs_before_they_trim() {
        assert_eq!(DisplayName::parse("  Jo  ").map(|n| n.as_str().to_owned()), Ok("Jo".into()));
        assert!(DisplayName::parse(&"ß".repeat(120)).is_ok());
        for bad in ["", "  ", "\tJo", "Jo\n", "a\u{202e}b", "a\u{2028}", &"ß".repeat(121)] {
            assert!(DisplayName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn addresses_are_plain_and_their_domains_ascii() {
        let address = |text: &str| Email::parse(text).map(|e| e.as_str().to_owned());
        assert_eq!(address("Jo.e+x@Example.ORG"), Ok("Jo.e+x@example.org".into()));
        assert_eq!(address("a@bücher.example"), Ok("a@xn--bcher-kva.example".into()));
        for bad in [
            "",
            "a",
            "@b.c",
            "a@",
            "a@b",
            "a@b.",
            "a@.b",
            ".a@b.c",
            "a.@b.c",
            "a..b@c.d",
            "a b@c.d",
            "\"a\"@b.c",
            "a@b.c,d@e.f",
            "A <a@b.c>",
            "a@b.c\r\nBcc: x@y.z",
            "a@[1.2.3.4]",
            "a@-b.c",
            "a@１.２.３.４",
            "a@1.2.3.4",
            "a@b.123",
            "a@bü.1",
            "ä@b.c",
            "a@b@c.d",
            "a@ü%2e.example",
        ] {
            assert!(Email::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Email::parse(&format!("{}@b.example", "a".repeat(65))).is_err());
    }

    #[test]
    fn realms_need_no_quoting_anywhere() {
        assert!(["localhost", "My Host", "#1"].iter().all(|realm| Realm::parse(realm).is_ok()));
        for bad in ["", "#", "##", "a:b", "a\"b", "a\\b", "ü", "a\nb", " a"] {
            assert!(Realm::parse(bad).is_err(), "{bad:?}");
        }
    }
}
