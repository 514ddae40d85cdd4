//! Each parser against a plain reference, over many made-up inputs. The inputs are drawn from pieces
//! that matter to the parser, by a generator with a fixed seed; a failure prints the input.

use std::path::Path;
use std::time::Duration;

use chrono::DateTime;
use codeb_signup::account::{
    Account, Attributes, DisplayName, Email, Purpose, RESERVED, Realm, Role, Status, Username,
    timestamp,
};
use codeb_signup::config;
use codeb_signup::gateway::fastcgi::pairs;
use codeb_signup::secret::{Ha1, Token, TokenId};
use codeb_signup::store::accounts::Standing;
use codeb_signup::store::flat::line::{Line, line_of};

/// Inputs for each property.
const ROUNDS: usize = 20_000;

/// xorshift64* (Vigna): small, and the same on every machine.
struct Draw(u64);

impl Draw {
    fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }

    fn one<'p, T: ?Sized>(&mut self, of: &[&'p T]) -> &'p T {
        of[self.below(of.len())]
    }

    /// Up to `most` of the pieces, one behind the other.
    fn text(&mut self, pieces: &[&str], most: usize) -> String {
        (0..self.below(most + 1)).map(|_| self.one(pieces)).collect()
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.below(256) as u8).collect()
    }
}

#[test]
fn urlencoded_bodies_are_what_the_url_crate_makes_of_them() {
    let pieces = [
        "a",
        "user",
        "captcha_token",
        "=",
        "=",
        "&",
        "&",
        "+",
        "%",
        "%41",
        "%3D",
        "%26",
        "%ff",
        "%C3%BC",
        "%c3",
        "ü",
        "%4",
        "x",
        "1",
        "%00",
        ";",
        "us%65r",
        "\u{fffd}",
        "%EF%BF%BD",
    ];
    let mut draw = Draw::new();
    for _ in 0..ROUNDS {
        crate::cases::by_name("urlencoded")(draw.text(&pieces, 24).as_bytes());
    }
}

#[test]
fn multipart_bodies_are_read_back_as_they_were_composed() {
    let pieces = ["--", "\r\n", "\r", "\n", "x", "ü", "|", ":", ";", "name=\"a\"", "\0", "-", " "];
    let mut draw = Draw::new();
    for _ in 0..ROUNDS {
        crate::cases::by_name("multipart")(draw.text(&pieces, 24).as_bytes());
    }
}

#[test]
fn pairs_are_read_back_as_they_were_written() {
    let mut draw = Draw::new();
    for _ in 0..ROUNDS / 4 {
        let written: Vec<(Vec<u8>, Vec<u8>)> =
            (0..draw.below(6)).map(|_| (draw.bytes(140), draw.bytes(300))).collect();
        let mut bytes = Vec::new();
        for (name, value) in &written {
            for length in [name.len(), value.len()] {
                match u8::try_from(length) {
                    // Short lengths may be written long (FastCGI 1.0 §3.4 forbids nothing).
                    Ok(short) if short < 128 && draw.below(8) > 0 => bytes.push(short),
                    _ => bytes.extend(((length as u32) | 1 << 31).to_be_bytes()),
                }
            }
            bytes.extend([name.as_slice(), value].concat());
        }
        let (params, whole) = pairs::decode(bytes.clone());
        assert!(whole);
        for (name, _) in &written {
            let first = &written.iter().find(|(other, _)| other == name).unwrap().1;
            if let Ok(name) = std::str::from_utf8(name) {
                assert_eq!(params.get(name), Some(first.as_slice()));
            }
        }
        // Whatever is missing is noticed, unless the cut falls between two pairs.
        if !bytes.is_empty() {
            crate::cases::by_name("pairs")(&bytes[..draw.below(bytes.len())]);
        }
    }
}

#[test]
fn user_names_are_of_their_alphabet_and_length() {
    let pieces = ["a", "z", "0", "9", "_", ".", "-", "A", "é", " ", ":", "@", "/", "\n", "#"];
    let mut draw = Draw::new();
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..ROUNDS {
        let kinds = 7 + draw.below(9);
        let mut name = draw.text(&pieces[..kinds], 6);
        name = name.repeat(1 + draw.below(13));
        let plain = (1..=64).contains(&name.chars().count())
            && name.chars().all(|c| "abcdefghijklmnopqrstuvwxyz0123456789_.-".contains(c))
            && name != "."
            && name != "..";
        assert_eq!(Username::parse(&name).is_ok(), plain, "{name:?}");
        *if plain { &mut taken } else { &mut refused } += 1;
    }
    assert!(taken > ROUNDS / 20 && refused > ROUNDS / 20, "{taken} {refused}");
    assert!(RESERVED.iter().all(|name| Username::parse(name).unwrap().is_reserved()));
}

#[test]
fn display_names_are_refused_or_trimmed_and_measured() {
    let pieces = [
        "a", "é", "😀", " ", "\u{a0}", "\u{3000}", "\t", "\n", "\0", "\u{7f}", "\u{85}", "\u{9f}",
        "\u{2028}", "\u{2029}", "\u{202a}", "\u{202e}", "\u{2066}", "\u{2069}", "\u{200f}", "Jo",
    ];
    let mut draw = Draw::new();
    for round in 0..ROUNDS {
        let from = if round % 3 == 0 { &pieces[..6] } else { &pieces[..] };
        let name = draw.text(from, 5).repeat(1 + draw.below(40));
        let disturbing = |c: char| {
            let n = u32::from(c);
            n < 0x20 || (0x7f..0xa0).contains(&n) || matches!(n, 0x2028..=0x202e | 0x2066..=0x2069)
        };
        let trimmed = name.trim();
        let length = trimmed.chars().count();
        let plain = !name.chars().any(disturbing) && (1..=120).contains(&length);
        let parsed = DisplayName::parse(&name);
        assert_eq!(parsed.is_ok(), plain, "{name:?}");
        if let Ok(parsed) = parsed {
            assert_eq!(parsed.as_str(), trimmed);
        }
    }
}

/// RFC 5321 as the contract cuts it, for addresses of ASCII, written as a person would check one.
fn is_plain_address(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let atext = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-/=?^_`{|}~";
    let letdig = &atext[..62];
    let local_right = local.len() <= 64
        && local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(|c| atext.contains(c)));
    let labels: Vec<&str> = domain.split('.').collect();
    let label_right = |label: &&str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| c == '-' || letdig.contains(c))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_right = !labels.last().is_some_and(|last| last.chars().all(|c| c.is_ascii_digit()));
    let domain_right = labels.len() >= 2 && labels.iter().all(label_right) && last_right;
    local_right && domain_right && text.len() <= 254
}

#[test]
fn mail_addresses_are_plain_ones() {
    let pieces = [
        "a",
        "Z",
        "7",
        ".",
        ".",
        "@",
        "-",
        "+",
        "_",
        "\"",
        "(",
        "<",
        ",",
        " ",
        "\r",
        "'",
        "b.c",
        "xyz",
        "{|}",
        "\\",
        ":",
        "[",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ];
    let mut draw = Draw::new();
    let mut taken = 0;
    for round in 0..ROUNDS {
        let good = ["a", "Z", "7", "xyz", "b.c", "a-b", "q", "-"];
        let from = if round % 4 == 0 { &pieces[..] } else { &good[..] };
        let address = match round % 3 {
            0 => draw.text(from, 9),
            _ => format!("{}@{}.{}", draw.text(from, 6), draw.text(from, 6), draw.text(from, 6)),
        };
        let parsed = Email::parse(&address);
        assert_eq!(parsed.is_ok(), is_plain_address(&address), "{address:?}");
        if let Ok(email) = parsed {
            let (local, domain) = address.split_once('@').unwrap();
            assert_eq!(email.as_str(), format!("{local}@{}", domain.to_ascii_lowercase()));
            taken += 1;
        }
        crate::cases::by_name("email")(address.as_bytes());
    }
    assert!(taken > ROUNDS / 50, "{taken}");
}

#[test]
fn a_token_is_43_digits_of_base64url_with_two_bits_of_zero() {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let others = "+/=. %\n";
    let mut draw = Draw::new();
    for _ in 0..ROUNDS {
        let length = [43, 43, 43, 42, 44, 0][draw.below(6)];
        let mut text: String =
            (0..length).map(|_| char::from(alphabet.as_bytes()[draw.below(64)])).collect();
        if draw.below(4) == 0 && length > 0 {
            let at = draw.below(length);
            let other = others.as_bytes()[draw.below(others.len())];
            text.replace_range(at..=at, &char::from(other).to_string());
        }
        let right = text.len() == 43
            && text.chars().all(|c| alphabet.contains(c))
            && alphabet.find(text.chars().last().unwrap()).unwrap().is_multiple_of(4);
        let parsed = Token::parse(text.as_bytes());
        assert_eq!(parsed.is_some(), right);
        if let Some(token) = parsed {
            assert_eq!(token.reveal(), text);
            let id = token.id();
            assert!(TokenId::parse(&id.hex()).unwrap().same(&id));
            assert!(
                TokenId::parse(&id.hex().to_uppercase())
                    .is_none_or(|_| id.hex().bytes().all(|b| b.is_ascii_digit()))
            );
        }
    }
}

#[test]
fn an_account_is_read_back_from_its_line() {
    let pieces =
        ["a", "é", "😀", " ", ":", "&", "=", "%", "+", "#", "\u{a0}", "\u{feff}", ",", "\""];
    let user_pieces = ["a", "0", "_", ".", "-", "z"];
    let mut draw = Draw::new();
    let realm = Realm::parse("My Host (1)").unwrap();
    let role = Role::parse("guest").unwrap();
    for _ in 0..ROUNDS / 4 {
        let Ok(user) = Username::parse(&draw.text(&user_pieces, 20)) else { continue };
        let Ok(name) = DisplayName::parse(&draw.text(&pieces, 100)) else { continue };
        let email =
            Email::parse(&format!("{}x+%&=@b.example", user.as_str().replace('.', "="))).unwrap();
        let ha1 = Ha1::compute(user.as_str(), "My Host (1)", name.as_str());
        let created = DateTime::from_timestamp(draw.below(4_000_000_000) as i64, 0).unwrap();
        let token = Token::random().unwrap().id();
        let expires = created + Duration::from_secs(604_800);
        let attributes = Attributes::default().with(&[
            ("name", Some(name.as_str())),
            ("email", Some(email.as_str())),
            ("created", Some(&timestamp(created))),
            ("expires", Some(&timestamp(expires))),
            ("activation", Some(&token.hex())),
        ]);
        let account = Account {
            user,
            realm: realm.to_string(),
            ha1,
            status: Status::Pending,
            role: role.as_str().to_owned(),
            attributes,
        };
        let line = line_of(&account);
        assert!(line.is_ascii() && line.ends_with('\n') && line.len() < 4096);
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(line.matches(':').count(), 5, "a colon of a value's own: {line:?}");
        let Line::Record(record) = Line::parse(line.trim_end().as_bytes()) else { panic!() };
        assert_eq!(record.standing(), Some(Standing::Is(account.clone())));
        assert_eq!(account.attributes.get("name").as_deref(), Some(name.as_str()));
        assert_eq!(account.email().as_ref(), Some(&email));
        assert_eq!(account.tokens(Purpose::Activation), [token]);
        assert!(!account.is_expired(created) && account.is_expired(expires));
        crate::cases::by_name("line")(line.as_bytes());
    }
}

#[test]
fn durations_are_a_number_and_one_unit() {
    let pieces = ["0", "1", "5", "9", "00", "s", "m", "h", "d", "S", " ", "-", "+", ".", "ms", "ü"];
    let mut draw = Draw::new();
    let (shortest, longest) = (Duration::from_secs(1), Duration::from_secs(30));
    for _ in 0..ROUNDS / 4 {
        let text = match draw.below(3) {
            0 => draw.text(&pieces, 4),
            _ => format!("{}{}", draw.below(200), draw.one(&["s", "m", "h", "d"])),
        };
        let file = format!(
            "lock_wait = \"{text}\"\n[tenant.\"a.example\"]\nrealm = \"a\"\n\
             base_url = \"https://a.example\"\nstate = \"/s\"\npickup = \"/p\"\n\
             mail_from = \"a@a.example\"\n"
        );
        let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86400)];
        let plain = units.iter().find_map(|(unit, seconds)| {
            let digits = text.strip_suffix(unit)?;
            let right = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
            right.then(|| digits.parse::<u64>().unwrap().checked_mul(*seconds))?
        });
        let parsed = config::parse(Path::new("config.toml"), &file);
        match plain.map(Duration::from_secs) {
            Some(duration) if (shortest..=longest).contains(&duration) => {
                assert_eq!(parsed.unwrap().lock_wait, duration, "{text:?}");
            }
            _ => assert!(parsed.is_err(), "{text:?}"),
        }
    }
}
