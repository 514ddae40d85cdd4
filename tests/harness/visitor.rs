//! A person with a browser: an address, captchas to solve, forms to send, links to follow.

use std::net::Ipv4Addr;

use crate::host::{HOST, Host};
use crate::http::{Ask, Reply};

/// The content type of an ordinary form.
pub const URLENCODED: &str = "application/x-www-form-urlencoded";

/// The HA1 that a browser computes.
pub fn ha1(user: &str, realm: &str, password: &str) -> String {
    use md5::{Digest, Md5};
    let digest = Md5::digest(format!("{user}:{realm}:{password}").as_bytes());
    data_encoding::HEXLOWER.encode(&digest)
}

/// What a visitor's password is made of.
pub fn password(user: &str) -> String {
    format!("correct horse {user}")
}

/// The address that a visitor gives.
pub fn email(user: &str) -> String {
    format!("mail-{}@people.example", user.replace('.', "_"))
}

/// One client.
#[derive(Debug, Clone)]
pub struct Visitor<'a> {
    host: &'a Host,
    pub address: Ipv4Addr,
    /// The host that the visitor's browser asks for.
    pub asks: String,
    /// Where the endpoints are: `/` or one process's `/process0/`.
    pub prefix: String,
}

/// A solved captcha.
#[derive(Debug, Clone)]
pub struct Captcha {
    pub token: String,
    pub answer: i64,
    pub realm: String,
}

impl Captcha {
    /// Reads the answer of `/captcha.ashx` as a person would.
    pub fn solve(reply: &Reply) -> Self {
        assert_eq!(reply.status, 200, "{}", reply.lossy());
        let json = reply.json();
        let text = |name: &str| json[name].as_str().expect("a captcha's member").to_owned();
        let question = text("question");
        let (a, b) = question.split_once(" + ").expect("an addition");
        let number = |t: &str| t.parse::<i64>().expect("an integer");
        Self { token: text("token"), answer: number(a) + number(b), realm: text("realm") }
    }
}

/// A sign-up form: fields in order.
#[derive(Debug, Clone)]
pub struct Form(pub Vec<(String, Vec<u8>)>);

impl Form {
    /// A form that is right in every field.
    pub fn of(user: &str, captcha: &Captcha) -> Self {
        let digest = ha1(user, &captcha.realm, &password(user));
        let answer = captcha.answer.to_string();
        let fields = [
            ("user", user),
            ("name", "Jo Doe"),
            ("email", &email(user)),
            ("ha1", &digest),
            ("captcha_token", &captcha.token),
            ("captcha_answer", &answer),
        ];
        Self(fields.iter().map(|(n, v)| ((*n).to_owned(), v.as_bytes().to_vec())).collect())
    }

    /// With another value in one field.
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        for field in self.0.iter_mut().filter(|(n, _)| n == name) {
            field.1 = value.as_ref().to_vec();
        }
        self
    }

    /// With one more field.
    pub fn and(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.0.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Without one field.
    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|(n, _)| n != name);
        self
    }

    /// As `application/x-www-form-urlencoded`, bytes outside ASCII included.
    pub fn urlencoded(&self) -> Vec<u8> {
        let pairs: Vec<String> = (self.0.iter())
            .map(|(name, value)| {
                let value: String = url::form_urlencoded::byte_serialize(value).collect();
                format!("{name}={value}")
            })
            .collect();
        pairs.join("&").into_bytes()
    }

    /// As `multipart/form-data` with the boundary `XX`.
    pub fn multipart(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for (name, value) in &self.0 {
            body.extend_from_slice(
                format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n")
                    .as_bytes(),
            );
            body.extend_from_slice(value);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--XX--\r\n");
        body
    }
}

impl<'a> Visitor<'a> {
    pub fn new(host: &'a Host, address: Ipv4Addr) -> Self {
        Self { host, address, asks: HOST.to_owned(), prefix: "/".to_owned() }
    }

    /// The same visitor at one process alone.
    pub fn at_process(mut self, number: usize) -> Self {
        self.prefix = format!("/process{number}/");
        self
    }

    /// The same visitor, asking for another host.
    pub fn asking(mut self, host: &str) -> Self {
        self.asks = host.to_owned();
        self
    }

    /// A request of this visitor to an endpoint.
    pub fn ask(&self, method: &str, endpoint: &str) -> Ask {
        let target = format!("{}{endpoint}", self.prefix);
        Ask::new(self.host.address(), self.address, method, &target, &self.asks)
    }

    pub fn captcha(&self) -> Captcha {
        Captcha::solve(&self.ask("GET", "captcha.ashx").send())
    }

    /// A right form with a captcha of its own.
    pub fn form(&self, user: &str) -> Form {
        Form::of(user, &self.captcha())
    }

    /// The request that posts a form.
    pub fn posting(&self, form: &Form) -> Ask {
        self.ask("POST", "signup.ashx").body(URLENCODED, form.urlencoded())
    }

    pub fn post(&self, form: &Form) -> Reply {
        self.posting(form).send()
    }

    /// A whole sign-up.
    pub fn sign_up(&self, user: &str) -> Reply {
        self.post(&self.form(user))
    }

    /// A whole sign-up that must succeed.
    pub fn signed_up(&self, user: &str) {
        let reply = self.sign_up(user);
        assert_eq!(reply.outcome(), "200 -", "{}", reply.lossy());
    }

    /// A whole sign-up that must succeed; the link's token.
    pub fn token_of(&self, user: &str) -> String {
        self.signed_up(user);
        self.host.mail_to(&email(user)).token()
    }

    /// Follows a link.
    pub fn activate(&self, token: &str) -> Reply {
        self.ask("GET", &format!("activate.ashx?token={token}")).send()
    }

    /// A whole sign-up and its activation, both of which must succeed.
    pub fn joined(&self, user: &str) {
        let token = self.token_of(user);
        let reply = self.activate(&token);
        assert_eq!(reply.status, 200, "{}", reply.lossy());
    }
}
