//! CONTRACT.md, "What other programs read": the credentials file, the htdigest view and the
//! pickup directory, written by requests through nginx and read as other programs read them.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use harness::host::{BASE_URL, REALM};
use harness::visitor::{email, ha1, password};
use harness::{Host, Mail, Setup, load, unescaped};

fn generous() -> Host {
    Setup { tenant: "signups_per_hour = 10000".into(), ..Setup::default() }.start()
}

/// An operator's tool: takes the lock, appends lines, gives it back.
fn append_as_operator(host: &Host, text: &str) {
    let lock = File::create(host.state("credentials.lock")).unwrap();
    lock.lock().unwrap();
    let mut file =
        File::options().append(true).create(true).open(host.state("credentials")).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.sync_all().unwrap();
}

fn operator_line(user: &str, disabled: u8) -> String {
    format!("{user}:{REALM}:{}:{disabled}:guest:\n", ha1(user, REALM, &password(user)))
}

/// While accounts are made and activated, a reader looks at every instant: no line but whole ones,
/// no view line of an account that is not enabled, no file in the pickup but whole mails.
#[test]
fn readers_see_whole_lines_and_whole_mails_at_every_instant() {
    let host = generous();
    let writes = |number: usize| {
        let visitor = host.visitor();
        let user =
            format!("u{number}-{}", visitor.address.octets().map(|o| o.to_string()).concat());
        visitor.joined(&user);
        user
    };
    let mut users = Vec::new();
    let made = load::during(4, writes, || {
        let patience = Instant::now() + Duration::from_secs(30);
        let mut looks = 0;
        while looks < 300 || host.mails().len() < 20 && Instant::now() < patience {
            looks += 1;
            let view = fs::read_to_string(host.state("htdigest")).unwrap_or_default();
            let lines = fs::read_to_string(host.state("credentials")).unwrap_or_default();
            let whole = lines.rfind('\n').map_or("", |end| &lines[..end]);
            for line in whole.lines().filter(|line| !line.starts_with('#')) {
                assert_eq!(line.split(':').count(), 6, "a line that is none");
            }
            let whole = view.rfind('\n').map_or("", |end| &view[..end]);
            for line in whole.lines().filter(|line| !line.starts_with('#')) {
                let fields: Vec<&str> = line.split(':').collect();
                assert_eq!((fields.len(), fields[1], fields[2].len()), (3, REALM, 32));
                // The view was read first: whoever stood in it was enabled by then.
                let start = format!("{}:{REALM}:{}:0:", fields[0], fields[2]);
                assert!(lines.contains(&start), "an account in the view is not enabled");
            }
            for entry in fs::read_dir(host.pickup()).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                assert!(name.ends_with(".eml"), "a name that is no mail's");
            }
            // Parses each, which fails where the closing boundary is missing.
            host.mails();
        }
    });
    users.extend(made);
    assert!(!users.is_empty());
    for user in &users {
        assert_eq!(host.account(user).unwrap()[3], "0");
        assert!(host.htdigest().contains(&format!("{user}:{REALM}:")));
    }
    assert_eq!(host.mails().len(), users.len());
}

#[test]
fn what_follows_the_last_lf_counts_for_nothing() {
    let host = Host::plain();
    host.visitor().joined("first");
    let torn = operator_line("joe", 0);
    append_as_operator(&host, &torn[..torn.len() - 1]);
    let reply = host.visitor().sign_up("joe");
    assert_eq!(reply.outcome(), "200 -", "a torn line holds no name");
    assert_eq!(host.account("joe").unwrap()[3], "1");
    assert!(host.account("first").is_some());
    assert!(host.credentials().ends_with('\n'));
}

#[test]
fn an_operators_tool_under_the_lock_is_safe() {
    let host = generous();
    let requests = |number: usize| {
        let visitor = host.visitor();
        let user =
            format!("u{number}-{}", visitor.address.octets().map(|o| o.to_string()).concat());
        visitor.signed_up(&user);
        user
    };
    let made = load::during(3, requests, || {
        for number in 0..100 {
            append_as_operator(&host, &operator_line(&format!("op{number}"), 0));
        }
    });
    for user in made.into_iter().chain((0..100).map(|n| format!("op{n}"))) {
        assert!(host.account(&user).is_some(), "{user} is lost");
    }
    for process in [0, 1] {
        let reply = host.visitor().at_process(process).sign_up("op7");
        assert_eq!(reply.outcome(), "409 conflict", "an appended name is taken at once");
    }
}

/// Gives the account of `from` to `to`, a name of the same length, in place.
fn rename_in_place(host: &Host, from: &str, to: &str) {
    let lock = File::options().write(true).open(host.state("credentials.lock")).unwrap();
    lock.lock().unwrap();
    let at = host.credentials().find(&format!("\n{from}:")).expect("its line") + 1;
    let file = File::options().write(true).open(host.state("credentials")).unwrap();
    file.write_all_at(to.as_bytes(), at as u64).unwrap();
}

#[test]
fn a_name_that_a_tool_changed_in_place_under_the_lock_is_the_one_that_counts() {
    let host = generous();
    host.visitor().signed_up("first");
    for round in 0..10 {
        let [old, new] = ["old", "new"].map(|name| format!("{name}{round}"));
        host.visitor().at_process(round % 2).signed_up(&old);
        host.visitor().signed_up(&format!("behind{round}"));
        for process in [0, 1] {
            let reply = host.visitor().at_process(process).sign_up(&old);
            assert_eq!(reply.outcome(), "409 conflict", "it has read the line");
        }
        rename_in_place(&host, &old, &new);
        for process in [0, 1] {
            let reply = host.visitor().at_process(process).sign_up(&new);
            assert_eq!(reply.outcome(), "409 conflict", "process {process}, round {round}");
        }
        host.visitor().at_process(round % 2).signed_up(&old);
        for name in [&old, &new] {
            assert_eq!(host.count_lines(name), 1, "{name}");
        }
    }
}

#[test]
fn a_file_that_an_editor_replaced_under_the_lock_is_followed() {
    let host = generous();
    host.visitor().signed_up("old");
    host.visitor().signed_up("kept");
    let lock = File::options().write(true).open(host.state("credentials.lock")).unwrap();
    lock.lock().unwrap();
    let text: String = (host.credentials().lines())
        .filter(|line| !line.starts_with("old:"))
        .map(|line| format!("{line}\n"))
        .collect();
    let text = format!("# edited\n{text}{}", operator_line("new", 0));
    fs::write(host.state("edited"), text).unwrap();
    fs::rename(host.state("edited"), host.state("credentials")).unwrap();
    drop(lock);
    for process in [0, 1] {
        let visitor = host.visitor().at_process(process);
        assert_eq!(visitor.sign_up("new").outcome(), "409 conflict");
        assert_eq!(visitor.sign_up("kept").outcome(), "409 conflict");
    }
    assert_eq!(host.visitor().sign_up("old").outcome(), "200 -", "its name is free again");
    assert!(host.credentials().contains("# edited\n"), "a comment stays");
}

#[test]
fn the_lock_file_stays_empty_and_the_same() {
    let host = Host::plain();
    host.visitor().joined("joe");
    let before = fs::metadata(host.state("credentials.lock")).unwrap();
    host.visitor().joined("jane");
    let after = fs::metadata(host.state("credentials.lock")).unwrap();
    assert_eq!((after.len(), after.ino()), (0, before.ino()));
}

/// A disabled or a pending account is in no view, whoever made it so.
#[test]
fn only_enabled_accounts_are_in_the_view() {
    let mut host = Host::plain();
    host.visitor().joined("active");
    host.visitor().signed_up("pending");
    append_as_operator(&host, &operator_line("disabled", 2));
    append_as_operator(&host, &operator_line("waiting", 1));
    append_as_operator(&host, &operator_line("enabled", 0));
    // A start of the program makes the views anew where they differ from the file.
    host.restart();
    let view = host.htdigest();
    let mut users: Vec<&str> = (view.lines())
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(':').next().unwrap())
        .collect();
    users.sort_unstable();
    assert_eq!(users, ["active", "enabled"]);
    assert!(!view.contains("\r") && view.ends_with('\n'));
}

#[test]
fn a_mail_is_whole_and_by_the_book() {
    let host = Host::plain();
    for user in ["joe", "jane"] {
        host.visitor().signed_up(user);
    }
    let mut message_ids = Vec::new();
    for user in ["joe", "jane"] {
        let mail = host.mail_to(&email(user));
        assert!(mail.file.ends_with(".eml"));
        let bare_lf = mail.raw.iter().enumerate().filter(|(_, b)| **b == b'\n');
        assert!(bare_lf.clone().count() > 10);
        for (at, _) in bare_lf {
            assert_eq!(mail.raw[at - 1], b'\r', "CRLF line ends");
        }
        assert!(mail.raw.ends_with(b"\r\n"));
        assert!(mail.raw.split(|b| *b == b'\n').all(|line| line.len() <= 999));
        for once in ["To", "From", "Subject", "Message-ID", "Date", "MIME-Version"] {
            assert_eq!(mail.count(once), 1, "{once}");
        }
        for never in ["Bcc", "Cc", "Resent-To", "Return-Path"] {
            assert_eq!(mail.count(never), 0, "{never}");
        }
        assert_eq!(mail.header("MIME-Version"), Some("1.0"));
        assert!(mail.header("From").unwrap().contains("noreply@accounts.example"));
        let id = mail.header("Message-ID").unwrap();
        assert!(id.starts_with('<') && id.ends_with('>') && id.contains('@'));
        message_ids.push(id.to_owned());
        let date = chrono::DateTime::parse_from_rfc2822(mail.header("Date").unwrap()).unwrap();
        let age = chrono::Utc::now().signed_duration_since(date).num_seconds();
        assert!((-2..120).contains(&age), "the date is now");
        let link = mail.link();
        assert_eq!(link, format!("{BASE_URL}/activate.ashx?token={}", mail.token()));
        let html = unescaped(mail.part("text/html"));
        assert!(html.contains(&link), "the HTML part has the link too");
    }
    message_ids.dedup();
    assert_eq!(message_ids.len(), 2);
}

/// What a stranger types neither adds a header nor a link, and his name is not in the mail at all.
#[test]
fn user_text_adds_nothing_to_a_mail() {
    let host = generous();
    let names = [
        "Zork https://evil.example/pay",
        "Zork <a href=\"https://evil.example\">pay</a>",
        "=?utf-8?q?Zork=0ABcc:_x@evil.example?=",
        "Zork www.evil.example",
        "Zork\", \"x@evil.example",
        "zörk@evil.example",
    ];
    let plain = {
        host.visitor().signed_up("plain");
        shape(&host.mail_to(&email("plain")))
    };
    for (number, name) in names.iter().enumerate() {
        let visitor = host.visitor();
        let user = format!("user{number}");
        let form = visitor.form(&user).with("name", name);
        assert_eq!(visitor.post(&form).outcome(), "200 -", "{name}");
        let mail = host.mail_to(&email(&user));
        assert_eq!(shape(&mail), plain, "{name}");
        let raw = String::from_utf8(mail.raw.clone()).unwrap().to_lowercase();
        assert!(!raw.contains("evil") && !raw.contains("zork"), "{name}");
        for part in &mail.parts {
            let text = part.text.to_lowercase();
            assert!(!text.contains("evil") && !text.contains("rk@"), "{name}");
        }
    }
}

/// The names of a mail's headers and the number of links in each part.
fn shape(mail: &Mail) -> (Vec<String>, Vec<usize>) {
    let raw = String::from_utf8(mail.raw.clone()).unwrap();
    let head = raw.split("\r\n\r\n").next().unwrap();
    let names = (head.split("\r\n"))
        .filter(|line| !line.starts_with([' ', '\t']))
        .map(|line| line.split(':').next().unwrap().to_owned())
        .collect();
    let links = mail.parts.iter().map(|p| p.text.matches("://").count()).collect();
    (names, links)
}
