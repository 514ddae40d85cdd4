//! What the operator does about mails: `preview`, `resend`, and templates that `check` refuses.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use harness::visitor::email;
use harness::{Host, Mail, PROGRAM, Setup, TempDir};

fn run(config: &Path, args: &[&str]) -> Output {
    Command::new(&*PROGRAM).args(args).arg("--config").arg(config).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// A configuration whose tenant has a directory of templates with this file in it.
fn with_template(dir: &TempDir, name: &str, text: &str) -> std::path::PathBuf {
    let dir = dir.path();
    for made in ["state", "pickup"] {
        fs::create_dir_all(dir.join(made)).unwrap();
    }
    let template = dir.join("templates").join(name);
    fs::create_dir_all(template.parent().unwrap()).unwrap();
    fs::write(template, text).unwrap();
    let config = dir.join("config.toml");
    let text = format!(
        "[tenant.\"a.example\"]\nrealm = \"a.example\"\nbase_url = \"https://a.example\"\n\
         state = \"{0}/state\"\npickup = \"{0}/pickup\"\nmail_from = \"noreply@a.example\"\n\
         language = \"de\"\ntemplates = \"{0}/templates\"\n",
        dir.display()
    );
    fs::write(&config, text).unwrap();
    config
}

#[test]
fn a_broken_template_is_refused_by_name_and_line() {
    for (name, text, line) in [
        ("mail.txt", "Hello\n{{ link", 2),
        ("mail.html", "\n\n{% if user %}", 3),
        ("fr/page.html", "{{ title }}\n{{ titel }}\n", 2),
        ("ar/mail.txt", "{{ text.mail_nothing }}", 1),
    ] {
        let dir = TempDir::new();
        let config = with_template(&dir, name, text);
        for verb in ["check", "serve"] {
            let output = run(&config, &[verb]);
            assert_eq!(output.status.code(), Some(78), "{}", said(&output));
            assert!(said(&output).contains(":8: tenant.\"a.example\".templates: has a broken"));
            assert!(said(&output).contains(&format!("{name}: line {line}: ")), "{}", said(&output));
        }
    }
}

#[test]
fn a_preview_shows_the_tenants_own_template_in_the_language_that_is_asked_for() {
    let dir = TempDir::new();
    let config = with_template(&dir, "mail.txt", "Ours: {{ text.mail_until }} {{ link }}\n");
    assert!(run(&config, &["check"]).status.success());
    let preview = |what: &str, lang: &[&str], name: &str| {
        let to = dir.path().join(name);
        let args = [&["preview", what, "--to", to.to_str().unwrap()], lang].concat();
        let output = run(&config, &args);
        assert!(output.status.success(), "{}", said(&output));
        fs::read(to).unwrap()
    };
    let text = String::from_utf8(preview("mail", &[], "a.txt")).unwrap();
    assert!(text.starts_with("Ours: Der Link funktioniert"), "{text}");
    let mail = Mail::parse("a.eml", preview("mail", &["--lang", "fr"], "a.eml"));
    assert_eq!(mail.header("Content-Language"), Some("fr"));
    assert!(mail.part("text/plain").starts_with("Ours: Le lien"));
    let html = String::from_utf8(preview("mail", &["--lang", "ar"], "a.html")).unwrap();
    assert!(html.contains("dir=\"rtl\""));
    for (what, holds) in [
        ("page", "alice"),
        ("click-page", "<form"),
        ("refused-page", "Activation link is invalid or expired"),
        ("failed-page", "<h1>"),
    ] {
        let page = String::from_utf8(preview(what, &["--lang", "ja"], "p.html")).unwrap();
        assert!(page.contains(holds) && page.contains("lang=\"ja\""), "{what}");
    }
    let wrong = run(&config, &["preview", "mail", "--lang", "xx", "--to", "/dev/null"]);
    assert_eq!(wrong.status.code(), Some(64));
}

#[test]
fn the_operator_sends_the_mail_again_at_once_and_without_the_key() {
    let host = Setup { processes: 1, ..Setup::default() }.start();
    let visitor = host.visitor();
    let first = visitor.token_of("joe");
    visitor.joined("jane");
    let output = run(&host.config(), &["resend", "joe"]);
    assert!(output.status.success(), "{}", said(&output));
    let mails: Vec<Mail> =
        host.mails().into_iter().filter(|m| m.header("To") == Some(&email("joe"))).collect();
    assert_eq!(mails.len(), 2);
    let second = mails.iter().map(Mail::token).find(|token| *token != first).unwrap();
    for nobody in ["jane", "nobody-here"] {
        assert_eq!(run(&host.config(), &["resend", nobody]).status.code(), Some(67), "{nobody}");
    }
    // The running process sees the new line at once, and either link does.
    assert_eq!(visitor.activate(&second).status, 200);
    assert_eq!(visitor.activate(&first).status, 400);
}

#[test]
fn either_link_activates_after_the_operator_sent_another() {
    let host = Host::plain();
    let first = host.visitor().token_of("joe");
    assert!(run(&host.config(), &["resend", "joe"]).status.success());
    assert_eq!(host.visitor().activate(&first).status, 200);
}
