//! CONTRACT.md, "POST /signup.ashx": a body is UTF-8, and a mail's domain no IPv4 address.
use harness::Setup;

#[test]
fn a_body_in_another_charset_than_utf8_is_refused() {
    let host = Setup { tenant: "signups_per_hour = 1000".into(), ..Setup::default() }.start();
    let visitor = host.visitor();
    let form = visitor.form("joe");
    let in_utf16: Vec<u8> =
        String::from_utf8(form.urlencoded()).unwrap().bytes().flat_map(|b| [b, 0]).collect();
    for charset in ["utf-16", "UTF-16LE", "\"utf-16\"", "iso-8859-1", "utf-7"] {
        for body in [form.urlencoded(), in_utf16.clone()] {
            let content_type = format!("application/x-www-form-urlencoded; charset={charset}");
            let reply = visitor.ask("POST", "signup.ashx").body(&content_type, body).send();
            assert_eq!(reply.outcome(), "400 invalid_request", "{content_type}");
        }
        let content_type = format!("multipart/form-data; boundary=XX; charset={charset}");
        let body = form.multipart();
        let reply = visitor.ask("POST", "signup.ashx").body(&content_type, body).send();
        assert_eq!(reply.outcome(), "400 invalid_request", "{content_type}");
    }
    assert_eq!(visitor.post(&form).outcome(), "200 -", "the captcha is still good");
    for (user, charset) in [("a", "utf-8"), ("b", "\"Utf-8\""), ("c", "us-ascii")] {
        let content_type = format!("application/x-www-form-urlencoded;charset={charset}");
        let body = visitor.form(user).urlencoded();
        let reply = visitor.ask("POST", "signup.ashx").body(&content_type, body).send();
        assert_eq!(reply.outcome(), "200 -", "{content_type}");
    }
}

#[test]
fn the_last_label_of_a_mail_domain_is_not_all_digits() {
    let host = Setup::default().start();
    let visitor = host.visitor();
    let form = visitor.form("joe");
    for email in ["jo@192.0.2.1", "jo@people.1", "jo@people.0123", "jo@bücher.12"] {
        let reply = visitor.post(&form.clone().with("email", email));
        assert_eq!(reply.outcome(), "400 invalid_request", "{email}");
        assert!(reply.description().contains("email"), "{email}: {}", reply.description());
    }
    let reply = visitor.post(&form.with("email", "jo@1.2.3.4x"));
    assert_eq!(reply.outcome(), "200 -", "{}", reply.lossy());
}
