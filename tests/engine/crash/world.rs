//! A tenant's directory before an operation, and a process of the program on it, driven through the
//! same entrance as a gateway's requests.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use codeb_signup::account::{Account, Username};
use codeb_signup::config::{self, Config};
use codeb_signup::disk::Disk;
use codeb_signup::error::Fault;
use codeb_signup::http::{Body, Handler, Params, Request, Response};
use codeb_signup::maintenance;
use codeb_signup::route::Router;
use codeb_signup::secret::{Ha1, Token};
use codeb_signup::service::Service;
use codeb_signup::store::accounts::{Decide, Decision, Key, Standing, Updated};
use codeb_signup::store::rules;
use codeb_signup::tenant::Tenant;

pub const HOST: &str = "accounts.example";
pub const REALM: &str = "members.example";
pub const HA1: &str = "0123456789abcdef0123456789abcdef";
/// What an account's HA1 becomes where its password changes.
pub const NEW_HA1: &str = "fedcba9876543210fedcba9876543210";

/// The configuration of a tenant whose directories are below `root`.
pub fn config(root: &Path) -> Config {
    let dir = root.display();
    let text = format!(
        "lock_wait = \"5s\"\n[tenant.\"{HOST}\"]\nrealm = \"{REALM}\"\n\
         base_url = \"https://{HOST}\"\nstate = \"{dir}/state\"\npickup = \"{dir}/pickup\"\n\
         mail_from = \"noreply@{HOST}\"\nresend = true\n"
    );
    config::parse(&root.join("config.toml"), &text).unwrap()
}

/// The tokens of the accounts that stand there from the beginning.
#[derive(Debug, Clone)]
pub struct Base {
    pub carl: Token,
    pub dora: Token,
}

/// Accounts from the beginning: their name and their `disabled` byte. `carl` is pending and has his
/// mail, `dora` is pending and expired.
pub const ACCOUNTS: [(&str, char); 6] =
    [("anna", '0'), ("bert", '0'), ("carl", '1'), ("dora", '1'), ("emil", '2'), ("finn", '0')];

impl Base {
    /// Lays the beginning out in `root`.
    pub fn lay_out(root: &Path) -> Self {
        let base = Self { carl: Token::random().unwrap(), dora: Token::random().unwrap() };
        fs::create_dir_all(root.join("state/staging")).unwrap();
        fs::create_dir_all(root.join("state/spool")).unwrap();
        fs::create_dir_all(root.join("pickup")).unwrap();
        fs::write(root.join("state/credentials"), base.credentials()).unwrap();
        for token in [&base.carl, &base.dora] {
            let mail = root.join("pickup").join(format!("{}.eml", token.id().hex()));
            // Quoted-printable as every mail: a token may begin with "3D".
            fs::write(mail, format!("token=3D{}\r\n--x--\r\n", token.reveal())).unwrap();
        }
        base
    }

    fn credentials(&self) -> String {
        let mut text = String::from("# the accounts of a test\n");
        for (user, disabled) in ACCOUNTS {
            let token = match user {
                "carl" => {
                    format!(
                        "&email=carl%40people.example&expires=2100-01-01T00:00:00Z&activation={}",
                        self.carl.id().hex()
                    )
                }
                "dora" => {
                    format!("&expires=2020-01-01T00:00:00Z&activation={}", self.dora.id().hex())
                }
                _ => String::new(),
            };
            text += &format!("{user}:{REALM}:{HA1}:{disabled}:guest:name={user}{token}\n");
        }
        text
    }
}

/// A form that was sent, and from where.
#[derive(Debug, Clone)]
pub struct Form {
    pub user: &'static str,
    pub captcha: String,
    pub answer: i64,
    pub client: Ipv4Addr,
}

/// A process of the program.
#[derive(Debug)]
pub struct Process {
    router: Router,
    tenant: Arc<Tenant>,
}

impl Process {
    /// Starts as `serve` does.
    pub fn start(root: &Path, disk: Arc<dyn Disk>) -> Result<Self, Fault> {
        let config = config(root);
        let service = Arc::new(Service::new(&config, &disk)?);
        let tenant = service.tenancies()[0].open()?;
        tenant.warm_up()?;
        let router = Router::new(&config, service);
        Ok(Self { router, tenant })
    }

    pub fn tenant(&self) -> &Arc<Tenant> {
        &self.tenant
    }

    fn ask(&self, method: &str, path: &str, query: &str, body: &str, client: Ipv4Addr) -> Response {
        let client = client.to_string();
        let length = body.len().to_string();
        let params: Params = [
            ("REQUEST_METHOD", method),
            ("SCRIPT_NAME", path),
            ("QUERY_STRING", query),
            ("HTTP_HOST", HOST),
            ("REMOTE_ADDR", &client),
            ("CONTENT_TYPE", "application/x-www-form-urlencoded"),
            ("CONTENT_LENGTH", &length),
        ]
        .into_iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect();
        let body = Body::Whole(body.as_bytes().to_vec());
        let mut response = self.router.handle(Request { params, whole: true, body });
        if let Some(after) = response.take_after() {
            after();
            self.router.finish(Instant::now() + Duration::from_secs(60));
        }
        response
    }

    /// A captcha, solved, in a form; `None` where none can be had.
    pub fn form(&self, user: &'static str, last_byte: u8) -> Option<Form> {
        let client = Ipv4Addr::new(192, 0, 2, last_byte);
        let reply = self.ask("GET", "/captcha.ashx", "", "", client);
        if reply.status != 200 {
            return None;
        }
        let json: serde_json::Value = serde_json::from_slice(reply.body()).unwrap();
        let (a, b) = json["question"].as_str()?.split_once(" + ")?;
        let answer = a.parse::<i64>().ok()? + b.parse::<i64>().ok()?;
        Some(Form { user, captcha: json["token"].as_str()?.to_owned(), answer, client })
    }

    /// The status of a sign-up.
    pub fn sign_up(&self, form: &Form) -> u16 {
        let body = format!(
            "user={user}&name=N&email={user}%40people.example&ha1={HA1}&captcha_token={captcha}\
             &captcha_answer={answer}",
            user = form.user,
            captcha = form.captcha,
            answer = form.answer
        );
        self.ask("POST", "/signup.ashx", "", &body, form.client).status
    }

    /// The status of following a link.
    pub fn activate(&self, token: &str) -> u16 {
        let query = format!("token={token}");
        self.ask("GET", "/activate.ashx", &query, "", Ipv4Addr::LOCALHOST).status
    }

    /// Asks for carl's mail once more; whether it came.
    pub fn resend_to_carl(&self) -> bool {
        let Some(form) = self.form("carl", 7) else { return false };
        let body = format!(
            "user=carl&email=carl%40people.example&captcha_token={}&captcha_answer={}",
            form.captcha, form.answer
        );
        let mails = || fs::read_dir(&self.tenant.config.pickup).map_or(0, Iterator::count);
        let before = mails();
        // A fault is logged, not answered: the answer tells nothing.
        let answered = self.ask("POST", "/resend.ashx", "", &body, form.client).status == 200;
        answered && mails() > before
    }

    /// What an operator says; whether it was done.
    pub fn set(&self, user: &str, decide: Decide) -> bool {
        let key = Key::User(Username::parse(user).unwrap());
        let updated = self.tenant().accounts.update(key, decide);
        matches!(updated, Ok(Updated::Put(_) | Updated::Removed(_)))
    }

    /// Gives an account another HA1; whether it was done.
    pub fn change_ha1(&self, user: &str) -> bool {
        self.set(
            user,
            Box::new(|standing| match standing {
                Standing::Is(account) => {
                    Decision::Put(Account { ha1: Ha1::parse(NEW_HA1).unwrap(), ..account.clone() })
                }
                _ => Decision::Leave,
            }),
        )
    }

    /// Expires an account; whether it was done.
    pub fn expire(&self, user: &str) -> bool {
        self.set(user, rules::expire(Utc::now()))
    }

    /// Sweeps as the service does.
    pub fn sweep(&self) -> Result<(), String> {
        match maintenance::sweep(&self.tenant, Utc::now()) {
            Ok(Some(report)) if report.faults.is_empty() => Ok(()),
            Ok(Some(report)) => Err(report.faults[0].to_string()),
            Ok(None) => Err("another process sweeps".into()),
            Err(fault) => Err(fault.to_string()),
        }
    }
}

/// A directory of its own in memory, where there is one, so that a real sync costs nothing.
pub fn scratch(name: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let path = parent.join(format!("codeb-crash-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}
