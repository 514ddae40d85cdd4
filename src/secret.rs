//! Values that must not leave the program except where the contract says so. None of them has a
//! `Debug` or `Display` that prints it, and each is wiped when dropped.

use std::fmt;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::account::Malformed;

/// MD5(user:realm:password) of RFC 7616 §3.4.2: password-equivalent within its realm.
#[derive(Clone, PartialEq, Eq)]
pub struct Ha1(String);

impl Ha1 {
    /// Takes 32 hex digits; A–F become lower case, which is what digest authentication computes
    /// (and Apache refuses upper case).
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Malformed("must be 32 hex digits"));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// Computes the HA1 of a password, as a browser would.
    pub fn compute(user: &str, realm: &str, password: &str) -> Self {
        let mut text = format!("{user}:{realm}:{password}");
        let digest = md5::Md5::digest(text.as_bytes());
        text.zeroize();
        Self(HEXLOWER.encode(&digest))
    }

    /// The 32 digits, for the credentials file and its views alone.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// The secret of an activation link: 256 random bits.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// The length of a token's text: base64url without padding.
    pub const TEXT_LEN: usize = 43;

    /// A new token from the system's random source.
    pub fn random() -> Result<Self, std::io::Error> {
        let mut bytes = [0; 32];
        fill_random(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Takes the text of a link's `token`; trailing bits that base64url leaves open must be zero,
    /// so that one token has one spelling.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != Self::TEXT_LEN {
            return None;
        }
        let mut bytes = BASE64URL_NOPAD.decode(text).ok()?;
        let token = bytes.as_slice().try_into().ok().map(Self);
        bytes.zeroize();
        token
    }

    /// The text for the link in the mail.
    pub fn reveal(&self) -> String {
        BASE64URL_NOPAD.encode(&self.0)
    }

    /// What may be kept on disk: the token's SHA-256.
    pub fn id(&self) -> TokenId {
        TokenId(Sha256::digest(self.0).into())
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// SHA-256 of an activation token: names the staged mail and stands in the account's line.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId([u8; 32]);

impl TokenId {
    /// Takes 64 lower-case hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok()?;
        bytes.as_slice().try_into().ok().map(Self)
    }

    /// 64 lower-case hex digits.
    pub fn hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// The raw hash.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Compares without telling by the time where the two differ.
    pub fn same(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenId(…)")
    }
}

/// A key for HMAC-SHA256.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// A new key from the system's random source.
    pub fn random() -> Result<Self, std::io::Error> {
        let mut bytes = [0; 32];
        fill_random(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Takes the text that [`Key::reveal`] made.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
        let key = bytes.as_slice().try_into().ok().map(Self);
        bytes.zeroize();
        key
    }

    /// 64 hex digits, for the key file alone.
    pub fn reveal(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// The raw key.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

macro_rules! wiped_and_unprintable {
    ($($secret:ident),*) => {$(
        impl fmt::Debug for $secret {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($secret), "(…)"))
            }
        }
    )*};
}
wiped_and_unprintable!(Ha1, Token, Key);

impl Drop for Ha1 {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Fills `bytes` from the system's random source.
pub fn fill_random(bytes: &mut [u8]) -> Result<(), std::io::Error> {
    use rand::TryRng;
    rand::rngs::SysRng.try_fill_bytes(bytes).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ha1_is_what_md5sum_prints() {
        let ha1 = Ha1::compute("joe", "localhost", "secret");
        assert_eq!(ha1.reveal(), "f897f26c85b7233cdeb56487e136c754");
        assert!(Ha1::parse("xyz").is_err() && Ha1::parse(&"g".repeat(32)).is_err());
        assert_eq!(Ha1::parse(&"AB".repeat(16)).unwrap().reveal(), "ab".repeat(16));
    }

    #[test]
    fn a_token_has_one_spelling_and_survives_its_text() {
        let token = Token::random().unwrap();
        let text = token.reveal();
        assert_eq!(text.len(), Token::TEXT_LEN);
        assert!(Token::parse(text.as_bytes()).unwrap().id().same(&token.id()));
        assert!(Token::parse(&text.as_bytes()[1..]).is_none());
        assert!(Token::parse(&[b'_'; 43]).is_none(), "trailing bits set");
    }

    #[test]
    fn no_secret_prints() {
        assert_eq!(format!("{:?}", Token::random().unwrap()), "Token(…)");
        assert_eq!(format!("{:?}", Key::random().unwrap()), "Key(…)");
    }
}
