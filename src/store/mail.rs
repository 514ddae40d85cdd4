//! The activation mail: text and HTML, from one set of values.
//!
//! The display name is in no mail, and a user name with a dot in it is not either: mail programs
//! make a link of `www.evil.example`, and a sign-up form must not be a way to send a stranger text
//! of one's choice.

use std::io;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use data_encoding::BASE64URL_NOPAD;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::{Address, Message};

use crate::account::{Email, Username};
use crate::error::Fault;
use crate::lang::Language;
use crate::secret::{Token, fill_random};
use crate::template::{MailValues, Templates};

/// Composes the mails of one tenant.
#[derive(Debug)]
pub struct Composer {
    templates: Arc<Templates>,
    sender: Mailbox,
    base_url: String,
    host: String,
    site: String,
}

/// What a mail says.
#[derive(Debug)]
pub struct Parts {
    /// The subject.
    pub subject: String,
    /// The part for programs that show text.
    pub text: String,
    /// The part for programs that show HTML.
    pub html: String,
}

impl Composer {
    /// `sender` is the configured `mail_from`, `base_url` what links begin with (mails name its host
    /// as the sender), `site` what mails call the site.
    pub fn new(
        templates: Arc<Templates>,
        sender: &str,
        base_url: &str,
        site: &str,
    ) -> Result<Self, Fault> {
        let sender = sender.parse::<Mailbox>().map_err(|e| fault("take mail_from", e))?;
        let url = url::Url::parse(base_url).map_err(|e| fault("take base_url", e))?;
        let host = url.host_str().unwrap_or(base_url).to_owned();
        let (base_url, site) = (base_url.trim_end_matches('/').to_owned(), site.to_owned());
        Ok(Self { templates, sender, base_url, host, site })
    }

    /// The host as mails and pages name it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The mail with the link that activates `user`'s account until `expires`, in the language of
    /// this tag.
    pub fn activation(
        &self,
        to: &Email,
        user: &Username,
        token: &Token,
        expires: DateTime<Utc>,
        language: &str,
    ) -> Result<Message, Fault> {
        let Parts { subject, text, html } = self.parts(user, token, expires, language)?;
        let address =
            Address::new(to.local(), to.domain()).map_err(|e| fault("address a mail", e))?;
        let part = |kind, body| SinglePart::builder().header(kind).body(body);
        let parts = MultiPart::alternative()
            .singlepart(part(ContentType::TEXT_PLAIN, text))
            .singlepart(part(ContentType::TEXT_HTML, html));
        Message::builder()
            .from(self.sender.clone())
            .to(Mailbox::new(None, address))
            .subject(subject)
            .date_now()
            .message_id(Some(self.message_id()?))
            .raw_header(header("Auto-Submitted", "auto-generated"))
            .raw_header(header("Content-Language", self.language(language).tag()))
            .multipart(parts)
            .map_err(|e| fault("compose a mail", e))
    }

    /// What the mail says.
    pub fn parts(
        &self,
        user: &Username,
        token: &Token,
        expires: DateTime<Utc>,
        language: &str,
    ) -> Result<Parts, Fault> {
        let language = self.language(language);
        let subject = language.line("mail_subject", &[("site", &self.site)]);
        let link = format!("{}/activate.ashx?token={}", self.base_url, token.reveal());
        let values = MailValues {
            subject: &subject,
            host: &self.host,
            site: &self.site,
            user: Some(user.as_str()).filter(|name| !name.contains('.')),
            link: &link,
            date: &language.date(expires),
        };
        let (text, html) = self.templates.mail(language, &values)?;
        Ok(Parts { subject, text, html })
    }

    fn language(&self, tag: &str) -> &Language {
        let languages = &self.templates.languages;
        languages.get(tag).unwrap_or(languages.default())
    }

    /// A new Message-ID (RFC 5322 §3.6.4) in the sender's domain.
    fn message_id(&self) -> Result<String, Fault> {
        let mut random = [0; 18];
        fill_random(&mut random).map_err(|e| fault("draw a Message-ID", e))?;
        Ok(format!("<{}@{}>", BASE64URL_NOPAD.encode(&random), self.sender.email.domain()))
    }
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

/// A fault that no file stands behind; what it quotes is configuration, never a client's.
fn fault(doing: &'static str, cause: impl std::fmt::Display) -> Fault {
    Fault::pathless(doing, io::Error::new(io::ErrorKind::InvalidInput, cause.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail_in(user: &str, language: &str) -> String {
        let languages = Arc::new(crate::lang::Languages::built_in().unwrap());
        let templates = Arc::new(Templates::new(languages, None).unwrap());
        let from = "Sign-up <signup@a.example>";
        let composer = Composer::new(templates, from, "https://a.example/", "A").unwrap();
        let message = composer.activation(
            &Email::parse("joe@b.example").unwrap(),
            &Username::parse(user).unwrap(),
            &Token::random().unwrap(),
            DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            language,
        );
        String::from_utf8(message.unwrap().formatted()).unwrap()
    }

    fn mail(user: &str) -> String {
        mail_in(user, "en")
    }

    #[test]
    fn a_mail_says_which_language_it_is_in() {
        for language in crate::lang::TAGS {
            let mail = mail_in("joe", language);
            assert!(mail.contains(&format!("\r\nContent-Language: {language}\r\n")));
            assert!(mail.is_ascii(), "{language}");
        }
    }

    #[test]
    fn a_mail_has_the_headers_that_the_contract_names_once_each() {
        let mail = mail("joe");
        let head = mail.split_once("\r\n\r\n").unwrap().0;
        for name in ["From: ", "To: ", "Date: ", "Message-ID: ", "MIME-Version: ", "Subject: "] {
            assert_eq!(head.split("\r\n").filter(|l| l.starts_with(name)).count(), 1, "{name}");
        }
        assert!(!mail.replace("\r\n", "").contains('\n'), "only CRLF ends a line");
        assert!(head.contains("@a.example>\r\n"));
    }

    #[test]
    fn a_user_name_with_a_dot_is_left_out() {
        assert!(mail("joe").contains("joe"));
        assert!(!mail("www.evil.example").contains("evil"));
    }
}
