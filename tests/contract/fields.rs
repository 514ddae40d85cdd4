//! CONTRACT.md, "POST /signup.ashx": the body and the rule of each field, through nginx.
//! None of the refusals costs a captcha or a rate-limit place, so one form serves many cases.

use harness::visitor::URLENCODED;
use harness::{Form, Host, Setup, Visitor};

fn generous() -> Host {
    Setup { tenant: "signups_per_hour = 1000".into(), ..Setup::default() }.start()
}

/// Tries many values for one field; each must be refused by a sentence that names the field.
fn refuses(visitor: &Visitor<'_>, form: &Form, field: &str, values: &[&[u8]]) {
    for value in values {
        let reply = visitor.post(&form.clone().with(field, value));
        let shown = String::from_utf8_lossy(value);
        assert_eq!(reply.outcome(), "400 invalid_request", "{field}={shown:?}");
        assert!(reply.description().contains(field), "{field}={shown:?}: {}", reply.description());
    }
}

#[test]
fn both_kinds_of_form_are_taken_and_unknown_fields_ignored() {
    let host = generous();
    let visitor = host.visitor();
    let form = visitor.form("one").and("x", "1").and("x", "2").and("User", "other");
    assert_eq!(visitor.post(&form).outcome(), "200 -");
    let types = [
        ("two", "multipart/form-data; boundary=XX"),
        ("three", "Multipart/Form-Data; charset=utf-8; Boundary=\"XX\""),
    ];
    for (user, content_type) in types {
        let form = visitor.form(user).and("x", "1").and("x", "2").with("name", "Jö ß 你");
        let body = form.multipart();
        let reply = visitor.ask("POST", "signup.ashx").body(content_type, body).send();
        assert_eq!(reply.outcome(), "200 -", "{content_type}: {}", reply.lossy());
        assert_eq!(host.attribute(user, "name").unwrap(), "Jö ß 你");
    }
    let form = visitor.form("four").urlencoded();
    let content_type = "APPLICATION/x-www-form-urlencoded ; charset=UTF-8";
    let reply = visitor.ask("POST", "signup.ashx").body(content_type, form).send();
    assert_eq!(reply.outcome(), "200 -");
}

#[test]
fn a_body_of_16384_bytes_is_taken_and_one_more_is_413() {
    let host = generous();
    let visitor = host.visitor();
    for (length, outcome) in [(16_384, "200 -"), (16_385, "413 payload_too_large")] {
        let mut body = visitor.form(&format!("u{length}")).urlencoded();
        body.extend_from_slice(b"&padding=");
        body.resize(length, b'x');
        let reply = visitor.ask("POST", "signup.ashx").body(URLENCODED, body).send();
        assert_eq!(reply.outcome(), outcome, "{length}");
    }
    for length in [20_000, 60_000, 65_536, 200_000] {
        let body = "x".repeat(length);
        let reply = visitor.ask("POST", "signup.ashx").body(URLENCODED, body).send();
        assert_eq!(reply.outcome(), "413 payload_too_large", "{length}");
    }
}

#[test]
fn a_body_that_is_no_form_is_refused() {
    let host = generous();
    let visitor = host.visitor();
    let form = visitor.form("joe");
    let urlencoded = form.urlencoded();
    let multipart = form.multipart();
    let cut = &multipart[..multipart.len() - 8];
    let latin = form.clone().with("name", b"J\xf6").urlencoded();
    let raw = [urlencoded.as_slice(), b"\xff\xfe"].concat();
    let bodies: [(&str, &[u8]); 8] = [
        ("text/plain", &urlencoded),
        ("application/json", b"{\"user\":\"joe\"}"),
        ("application/x-www-form-urlencodedx", &urlencoded),
        ("multipart/form-data", &multipart),
        ("multipart/form-data; boundary=YY", &multipart),
        ("multipart/form-data; boundary=XX", cut),
        (URLENCODED, &latin),
        (URLENCODED, &raw),
    ];
    for (content_type, body) in bodies {
        let reply = visitor.ask("POST", "signup.ashx").body(content_type, body).send();
        assert_eq!(reply.outcome(), "400 invalid_request", "{content_type} {}", body.len());
    }
    let length = urlencoded.len().to_string();
    let mut untyped =
        visitor.ask("POST", "signup.ashx").header("Content-Length", length).bytes(false);
    untyped.extend_from_slice(&urlencoded);
    let mut connection = harness::http::Connection::open(host.address(), visitor.address).unwrap();
    let reply = connection.ask(&untyped).unwrap();
    assert_eq!(reply.outcome(), "400 invalid_request", "no content type at all");
    assert_eq!(visitor.post(&form).outcome(), "200 -", "and the captcha is still good");
}

#[test]
fn a_field_given_twice_is_refused() {
    let host = generous();
    let visitor = host.visitor();
    let form = visitor.form("joe");
    for (name, value) in form.0.clone() {
        let reply = visitor.post(&form.clone().and(&name, value));
        assert_eq!(reply.outcome(), "400 invalid_request", "{name}");
        let reply = visitor.post(&form.clone().and(&name, ""));
        assert_eq!(reply.outcome(), "400 invalid_request", "{name} and an empty one");
    }
}

#[test]
fn a_missing_or_empty_field_is_refused_with_the_original_sentence() {
    let host = generous();
    let visitor = host.visitor();
    let form = visitor.form("joe");
    let sentence = "user, name, email, ha1, captcha_token, captcha_answer required";
    for (name, _) in form.0.clone() {
        for broken in [form.clone().without(&name), form.clone().with(&name, "")] {
            // Even where another field is of the wrong shape.
            for broken in [broken.clone(), broken.with("user", "Not A Name")] {
                if name == "user" && broken.0.iter().any(|(n, v)| n == "user" && !v.is_empty()) {
                    continue;
                }
                let reply = visitor.post(&broken);
                assert_eq!(reply.outcome(), "400 invalid_request", "{name}");
                assert_eq!(reply.description(), sentence, "{name}");
            }
        }
    }
}

#[test]
fn user_names() {
    let host = generous();
    let visitor = host.visitor();
    let long = "x".repeat(64);
    for user in ["a", "0", "_", "-", "...", "a.b-c_d", "roots", "a.admin", long.as_str()] {
        let form = visitor.form(user).with("email", "someone@people.example");
        let reply = visitor.post(&form);
        assert_eq!(reply.outcome(), "200 -", "{user}");
        let expected = serde_json::json!({"ok": true, "user": user});
        assert_eq!(reply.json(), expected);
    }
    let form = visitor.form("joe");
    let too_long = "x".repeat(65);
    let bad: [&[u8]; 14] = [
        b"Joe",
        b"JOE",
        b" joe",
        b"joe ",
        b"jo e",
        b"jo\xc3\xb6",
        b"jo:e",
        b"jo/e",
        b"joe\n",
        b"joe\0",
        b"jo%e",
        b"joe@x",
        b"\"joe\"",
        too_long.as_bytes(),
    ];
    refuses(&visitor, &form, "user", &bad);
    let reserved: [&[u8]; 16] = [
        b"admin",
        b"administrator",
        b"root",
        b"system",
        b"postmaster",
        b"hostmaster",
        b"webmaster",
        b"abuse",
        b"security",
        b"noreply",
        b"no-reply",
        b"anonymous",
        b"guest",
        b"nobody",
        b".",
        b"..",
    ];
    refuses(&visitor, &form, "user", &reserved);
}

#[test]
fn a_tenant_may_reserve_more_names() {
    let host = Setup { tenant: "reserved = [\"staff\"]".into(), ..Setup::default() }.start();
    let visitor = host.visitor();
    let form = visitor.form("joe");
    refuses(&visitor, &form, "user", &[b"staff", b"root"]);
    assert_eq!(visitor.post(&form).outcome(), "200 -");
}

#[test]
fn display_names() {
    let host = generous();
    let visitor = host.visitor();
    let (long, too_long) = ("ß".repeat(120), "ß".repeat(121));
    let padded = format!("  {long}\u{a0}\u{3000} ");
    let good = [
        ("a", "J", "J"),
        ("b", " Jo  Doe ", "Jo  Doe"),
        ("c", &long, &long),
        ("d", &padded, &long),
    ];
    for (user, name, kept) in good {
        let reply = visitor.post(&visitor.form(user).with("name", name));
        assert_eq!(reply.outcome(), "200 -", "{name:?}");
        assert_eq!(host.attribute(user, "name").unwrap(), kept);
    }
    let mut bad: Vec<Vec<u8>> = vec![too_long.into_bytes(), b" ".to_vec(), "\u{3000}\u{a0}".into()];
    let disturbing = "\0\t\n\r\u{1b}\u{7f}\u{80}\u{85}\u{9f}\u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\
                      \u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";
    for c in disturbing.chars() {
        // At an edge too: what disturbs is refused before blanks are trimmed.
        bad.extend([format!("Jo{c}Doe").into_bytes(), format!("Jo{c}").into_bytes()]);
    }
    let bad: Vec<&[u8]> = bad.iter().map(Vec::as_slice).collect();
    refuses(&visitor, &visitor.form("joe"), "name", &bad);
}

#[test]
fn mail_addresses() {
    let host = generous();
    let visitor = host.visitor();
    let local = "l".repeat(64);
    let longest = format!("{local}@{0}.{0}.{1}.example", "d".repeat(59), "e".repeat(61));
    assert_eq!(longest.len(), 254);
    let good = [
        ("a", "jo.e+x_1@people.example", "jo.e+x_1@people.example"),
        ("b", "!#$%&'*+-/=?^_`{|}~@people.example", "!#$%&'*+-/=?^_`{|}~@people.example"),
        ("c", "jo@bücher.example", "jo@xn--bcher-kva.example"),
        ("d", "Ann@XN--BCHER-kva.Example", "Ann@xn--bcher-kva.example"),
        ("e", &longest, &longest),
    ];
    for (user, given, kept) in good {
        let reply = visitor.post(&visitor.form(user).with("email", given));
        assert_eq!(reply.outcome(), "200 -", "{given}");
        assert_eq!(host.attribute(user, "email").unwrap(), kept);
        assert_eq!(host.mail_to(kept).header("To"), Some(kept));
    }
    let longer = format!("{longest}s");
    let longer_local = format!("{local}l@people.example");
    let bad = [
        "jo",
        "@people.example",
        "jo@",
        "jo@localhost",
        "jo@people.",
        "jo@.example",
        ".jo@people.example",
        "jo.@people.example",
        "j..o@people.example",
        "j o@people.example",
        " jo@people.example",
        "jo@people.example ",
        "\"jo\"@people.example",
        "jo(x)@people.example",
        "Jo <jo@people.example>",
        "jo@people.example,ann@people.example",
        "jo@people.example;ann@people.example",
        "jo@people.example\r\nBcc: ann@people.example",
        "jo\0@people.example",
        "jö@people.example",
        "jo@[192.0.2.1]",
        "jo@-people.example",
        "jo@people-.example",
        "jo@peo_ple.example",
        "jo@people..example",
        "a@b@people.example",
        "jo@ｐ%2e.example",
        &longer,
        &longer_local,
    ];
    let bad: Vec<&[u8]> = bad.iter().map(|text| text.as_bytes()).collect();
    refuses(&visitor, &visitor.form("joe"), "email", &bad);
}

#[test]
fn the_ha1_is_kept_as_it_came_in_lower_case() {
    let host = generous();
    let visitor = host.visitor();
    let given = "0123456789ABCDEFabcdef0123456789";
    assert_eq!(visitor.post(&visitor.form("a").with("ha1", given)).outcome(), "200 -");
    assert_eq!(host.account("a").unwrap()[2], given.to_lowercase());
    let bad: [&[u8]; 6] = [
        b"0",
        b"0123456789abcdef0123456789abcde",
        b"0123456789abcdef0123456789abcdef0",
        b"g123456789abcdef0123456789abcdef",
        b" 0123456789abcdef0123456789abcde",
        b"0123456789abcdef:123456789abcdef",
    ];
    refuses(&visitor, &visitor.form("joe"), "ha1", &bad);
}

#[test]
fn answers_are_taken_as_integer_parsers_take_them() {
    let host = generous();
    let visitor = host.visitor();
    let answers: [fn(i64) -> String; 5] = [
        |n| format!("+{n}"),
        |n| format!("000{n}"),
        |n| format!(" {n}\t"),
        |n| format!("\r\n+0{n} "),
        |n| format!("{n:0>300}"),
    ];
    for (number, spell) in answers.iter().enumerate() {
        let captcha = visitor.captcha();
        let form = Form::of(&format!("u{number}"), &captcha);
        let form = form.with("captcha_answer", spell(captcha.answer));
        assert_eq!(visitor.post(&form).outcome(), "200 -", "{number}");
    }
}

/// Of any shape, once present, they fail at the captcha and nowhere else.
#[test]
fn captcha_fields_of_any_shape_fail_as_a_captcha() {
    let host = generous();
    let visitor = host.visitor();
    for answer in
        ["x", "1.0", "-", "--1", "0x8", "٣", "99999999999999999999", "-5", "8 8", "\0", " "]
    {
        let reply = visitor.post(&visitor.form("joe").with("captcha_answer", answer));
        assert_eq!(reply.outcome(), "400 captcha_failed", "{answer:?}");
    }
    let form = visitor.form("joe");
    let good = visitor.captcha().token;
    let (head, tail) = good.split_once('.').unwrap();
    let broken = [
        ".",
        "x",
        "a.b",
        " ",
        "ä",
        "\0",
        head,
        tail,
        &format!("{head}."),
        &format!(".{tail}"),
        &format!("{tail}.{head}"),
        &format!("{good}="),
        &format!("{good}.x"),
        &format!(" {good}"),
        &"A".repeat(8000),
    ];
    let mut answers = Vec::new();
    for token in broken {
        let reply = visitor.post(&form.clone().with("captcha_token", token));
        assert_eq!(reply.outcome(), "400 captcha_failed", "{token:?}");
        answers.push(reply.lossy());
    }
    answers.push(visitor.post(&visitor.form("joe").with("captcha_answer", "-1")).lossy());
    answers.dedup();
    assert_eq!(answers.len(), 1, "all reasons are one and the same answer");
    assert!(host.account("joe").is_none());
}
