//! Mail addresses and what a mail makes of them; user names and display names.

use std::sync::{Arc, LazyLock};

use chrono::DateTime;
use codeb_signup::account::{DisplayName, Email, Username};
use codeb_signup::lang::{self, Languages};
use codeb_signup::secret::{Ha1, Token};
use codeb_signup::store::mail::Composer;
use codeb_signup::template::Templates;

/// The composer of a tenant.
pub fn composer() -> Composer {
    let languages = Arc::new(Languages::built_in().unwrap());
    let templates = Arc::new(Templates::new(languages, None).unwrap());
    Composer::new(templates, "Sign-up <signup@a.example>", "https://a.example", "A").unwrap()
}

static COMPOSER: LazyLock<Composer> = LazyLock::new(composer);

/// Whatever counts as an address stays one, is plain ASCII, and makes a mail with one `To`.
pub fn email(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(name) = DisplayName::parse(text) {
        assert!((1..=120).contains(&name.as_str().chars().count()));
        assert!(!name.as_str().chars().any(char::is_control));
        assert_eq!(DisplayName::parse(name.as_str()).unwrap(), name);
    }
    if let Ok(ha1) = Ha1::parse(text) {
        assert!(ha1.reveal().bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    }
    let user = Username::parse(text).unwrap_or_else(|_| Username::parse("joe").unwrap());
    let Ok(email) = Email::parse(text) else { return };
    let address = email.as_str();
    assert_eq!(Email::parse(address).unwrap().as_str(), address, "not stable");
    assert!(address.is_ascii() && address.len() <= 254 && address.matches('@').count() == 1);
    assert!(!address.bytes().any(|b| b.is_ascii_control() || b" ,;:<>()[]\\\"".contains(&b)));
    assert!(email.domain().contains('.'));
    let token = Token::random().unwrap();
    let expires = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let language = lang::TAGS[text.len() % lang::TAGS.len()];
    let mail = COMPOSER.activation(&email, &user, &token, expires, language);
    let mail = mail.unwrap_or_else(|_| panic!("no mail can be made for {text:?}")).formatted();
    let mail = String::from_utf8(mail).unwrap();
    let head = mail.split_once("\r\n\r\n").unwrap().0.replace("\r\n ", " ");
    let to: Vec<&str> = head.split("\r\n").filter(|line| line.starts_with("To:")).collect();
    assert_eq!(to, [format!("To: {address}")]);
    let lines = head.split("\r\n").count();
    assert_eq!(lines, 9, "a header more or less: {head}");
}
