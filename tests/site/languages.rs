//! Pages and mails in the visitor's language, through nginx.

use std::collections::BTreeMap;
use std::fs;

use harness::host::HOST;
use harness::visitor::email;
use harness::{Host, Mail, Setup, repository, unescaped};

/// What the tenant is called.
const SITE: &str = "Bücher & Söhne";

const INVALID: &str = "Activation link is invalid or expired";

type Texts = BTreeMap<String, String>;

/// The texts of mails and activation pages as their files say: tag, texts.
fn languages() -> Vec<(String, Texts)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(repository("src/templates/lang")).unwrap() {
        let path = entry.unwrap().path();
        let tag = path.file_stem().unwrap().to_str().unwrap().to_owned();
        all.push((tag, serde_json::from_slice(&fs::read(path).unwrap()).unwrap()));
    }
    all
}

/// A text without the marks of direction around what was filled in.
fn plain(text: &str) -> String {
    text.replace(['\u{2068}', '\u{2069}'], "")
}

/// The words of a text, however its lines break.
fn words(text: &str) -> String {
    plain(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A text as it stands in a page or a mail.
fn filled(texts: &Texts, key: &str, user: &str) -> String {
    texts[key].replace("{user}", user).replace("{host}", HOST).replace("{site}", SITE)
}

/// The subject, decoded (RFC 2047: only the blanks between two encoded words are none).
fn decoded_subject(mail: &Mail) -> String {
    let mut subject = String::new();
    let mut before_encoded = false;
    for word in mail.header("Subject").unwrap().split_whitespace() {
        let code = word.strip_prefix("=?utf-8?b?").and_then(|rest| rest.strip_suffix("?="));
        let apart = !before_encoded || code.is_none();
        if apart && !subject.is_empty() {
            subject.push(' ');
        }
        before_encoded = code.is_some();
        match code {
            Some(code) => {
                let bytes = data_encoding::BASE64.decode(code.as_bytes()).unwrap();
                subject += std::str::from_utf8(&bytes).unwrap();
            }
            None => subject += word,
        }
    }
    subject
}

#[test]
fn a_whole_sign_up_speaks_each_language() {
    let tenant = format!("resend = true\nsite_name = \"{SITE}\"");
    let host = Setup { tenant, ..Setup::default() }.start();
    for (n, (tag, texts)) in languages().into_iter().enumerate() {
        let (user, visitor) = (format!("u-{tag}"), host.visitor());
        // Half of them are asked for by the form, half by the browser.
        let form = visitor.form(&user);
        let reply = match n % 2 {
            0 => visitor.posting(&form.and("lang", &tag)).header("Accept-Language", "en").send(),
            _ => visitor.posting(&form).header("Accept-Language", &tag).send(),
        };
        assert_eq!(reply.outcome(), "200 -", "{tag}");
        assert_eq!(host.attribute(&user, "lang").as_deref(), Some(tag.as_str()));
        check_mail(&host.mail_to(&email(&user)), &tag, &texts, &user);

        let token = host.mail_to(&email(&user)).token();
        let open = || {
            let target = format!("activate.ashx?token={token}");
            let accept = format!("x-unknown, {tag};q=0.9, en;q=0.5");
            visitor.ask("GET", &target).header("Accept-Language", accept).send()
        };
        let (good, refused) = (open(), open());
        assert_eq!((good.status, refused.status), (200, 400), "{tag}");
        let opening = format!("<html lang=\"{tag}\" dir=\"{}\">", texts["dir"]);
        for page in [&good, &refused] {
            assert!(page.text().contains(&opening), "{tag}");
            assert_eq!(page.header("Content-Language"), Some(tag.as_str()));
        }
        let page = plain(&unescaped(good.text()));
        for key in ["page_active_title", "page_active_user", "page_sign_in"] {
            assert!(page.contains(&filled(&texts, key, &user)), "{tag}: {key}: {page}");
        }
        let page = plain(&unescaped(refused.text()));
        assert!(page.contains(INVALID), "{tag}: the contract's sentence");
        for key in texts.keys().filter(|key| key.starts_with("page_refused_")) {
            assert!(page.contains(&filled(&texts, key, &user)), "{tag}: {key}: {page}");
        }
        for link in ["/login.html", "signup.html", "signup.html#resend"] {
            assert!(page.contains(&format!("href=\"{link}\"")), "{tag}: {link}");
        }
    }
}

fn check_mail(mail: &Mail, tag: &str, texts: &Texts, user: &str) {
    assert_eq!(mail.header("Content-Language"), Some(tag));
    assert_eq!(mail.header("Auto-Submitted"), Some("auto-generated"));
    assert!(mail.header("Message-ID").unwrap().ends_with("@accounts.example>"));
    assert_eq!(decoded_subject(mail), filled(texts, "mail_subject", user), "{tag}");
    let (text, html) = (mail.part("text/plain"), mail.part("text/html"));
    let before = texts["mail_until"].split_once("{date}").unwrap().0;
    let said = words(text);
    let date = said.split_once(before).unwrap().1;
    let date = &date[..date.find("(UTC)").expect("a time that names its zone") + "(UTC)".len()];
    let months = texts["date_months"].split(' ');
    assert!(months.filter(|month| date.contains(month)).count() >= 1, "{tag}: {date}");
    for key in texts.keys().filter(|key| key.starts_with("mail_")) {
        let wanted = filled(texts, key, user).replace("{date}", date);
        let for_html = ["mail_button", "mail_or_link"].contains(&key.as_str());
        let for_text = key == "mail_open";
        assert!(
            for_html || key == "mail_subject" || words(text).contains(&words(&wanted)),
            "{tag}: {key}"
        );
        assert!(for_text || words(&unescaped(html)).contains(&words(&wanted)), "{tag}: {key}");
    }
    let link = mail.link();
    assert!(text.split(['\r', '\n']).any(|line| line == link), "the link has its own line");
    assert!(html.contains(&format!("<html lang=\"{tag}\" dir=\"{}\">", texts["dir"])));
    assert_eq!(html.matches("class=\"button\"").count(), 1);
    assert!(html.contains("prefers-color-scheme: dark"));
    assert!(!html.contains("<img") && !html.contains("url("), "no picture");
    for (at, _) in html.match_indices("href=\"") {
        assert!(html[at + 6..].starts_with(&link), "no link but the one");
    }
    assert!(unescaped(html).contains(&format!(">{link}</a>")), "the link can be read");
}

#[test]
fn the_tenants_language_is_for_those_who_name_none() {
    let host = Setup { tenant: "language = \"pl\"".into(), ..Setup::default() }.start();
    let visitor = host.visitor();
    visitor.signed_up("joe");
    assert_eq!(host.mail_to(&email("joe")).header("Content-Language"), Some("pl"));
    assert_eq!(visitor.activate("x").header("Content-Language"), Some("pl"));
    let odd = visitor.form("jane").and("lang", b"\xff").and("lang", "tlh").and("lang", "de");
    assert_eq!(visitor.post(&odd).outcome(), "200 -", "a bad `lang` spoils no form");
    assert_eq!(host.mail_to(&email("jane")).header("Content-Language"), Some("pl"));
}

#[test]
fn a_tenants_templates_outrank_the_built_in_ones() {
    let prepare: fn(&std::path::Path) = |dir| {
        fs::create_dir_all(dir.join("templates/de")).unwrap();
        fs::write(dir.join("templates/mail.txt"), "Ours: {{ link }}\n").unwrap();
        fs::write(dir.join("templates/de/page.html"), "<h1>{{ title }}</h1>{{ user }}").unwrap();
    };
    let tenant = "templates = \"@DIR@/templates\"".into();
    let host = Setup { tenant, prepare, ..Setup::default() }.start();
    let visitor = host.visitor();
    let token = visitor.token_of("joe");
    let mail = host.mail_to(&email("joe"));
    assert!(mail.part("text/plain").starts_with("Ours: https://accounts.example/join/"));
    assert!(mail.part("text/html").contains("<html"));
    let target = format!("activate.ashx?token={token}");
    let page = visitor.ask("GET", &target).header("Accept-Language", "de").send();
    assert!(page.text().starts_with("<h1>") && page.text().ends_with("joe"), "{}", page.text());
}

#[test]
fn the_language_files_are_served_to_the_page() {
    let host = Host::plain();
    for (tag, texts) in languages() {
        for folder in ["lang", "lang/form", "lang/privacy"] {
            let reply = host.get(&format!("/{folder}/{tag}.json"));
            assert_eq!(reply.status, 200, "{folder}: {tag}");
            assert!(reply.header("Content-Security-Policy").is_some(), "{folder}: {tag}");
        }
        let reply = host.get(&format!("/lang/{tag}.json"));
        assert_eq!(reply.json()["language"].as_str(), Some(texts["language"].as_str()));
    }
}
