//! Time, moved with the distribution's faketime: 15 minutes of a captcha, the sliding hour of the
//! rate limit, 7 days of an activation link.

use harness::visitor::email;
use harness::{Form, Host, Setup, Visitor};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

fn movable(tenant: &str) -> Host {
    Setup { faketime: true, tenant: tenant.into(), ..Setup::default() }.start()
}

/// Moves the clock to so many seconds after the real time.
fn at(host: &Host, seconds: i64) {
    host.move_clock(&format!("{seconds:+}s"));
}

#[test]
fn a_captcha_may_be_answered_for_fifteen_minutes() {
    let host = movable("");
    let captcha = host.visitor().captcha();
    let late = host.visitor().captcha();
    at(&host, 15 * MINUTE - 20);
    assert_eq!(host.visitor().post(&Form::of("joe", &captcha)).outcome(), "200 -");
    at(&host, 15 * MINUTE + 20);
    assert_eq!(host.visitor().post(&Form::of("jane", &late)).outcome(), "400 captcha_failed");
    assert_eq!(host.visitor().sign_up("jane").outcome(), "200 -", "a new one");
}

#[test]
fn a_spent_captcha_stays_spent_as_long_as_it_could_live() {
    let host = movable("");
    let captcha = host.visitor().captcha();
    at(&host, 14 * MINUTE);
    assert_eq!(host.visitor().post(&Form::of("joe", &captcha)).outcome(), "200 -");
    for minutes in [14, 15, 20, 29, 31, 60] {
        at(&host, minutes * MINUTE + 10);
        let again = host.visitor().post(&Form::of("jane", &captcha));
        assert_eq!(again.outcome(), "400 captcha_failed", "after {minutes} minutes");
    }
    // A clock that is stepped back revives nothing.
    at(&host, 13 * MINUTE);
    let again = host.visitor().post(&Form::of("jane", &captcha));
    assert_eq!(again.outcome(), "400 captcha_failed");
}

#[test]
fn a_tenant_may_set_the_captchas_life() {
    let host = movable("captcha_ttl = \"2m\"");
    let captcha = host.visitor().captcha();
    let late = host.visitor().captcha();
    at(&host, 2 * MINUTE - 20);
    assert_eq!(host.visitor().post(&Form::of("joe", &captcha)).outcome(), "200 -");
    at(&host, 2 * MINUTE + 20);
    assert_eq!(host.visitor().post(&Form::of("jane", &late)).outcome(), "400 captcha_failed");
}

/// Tries to sign up; `Retry-After` where there is no place.
fn try_place(visitor: &Visitor<'_>, user: &str) -> Result<(), i64> {
    let reply = visitor.sign_up(user);
    match reply.status {
        200 => Ok(()),
        429 => Err(reply.header("Retry-After").unwrap().parse().unwrap()),
        _ => panic!("{}", reply.lossy()),
    }
}

#[test]
fn the_hour_of_the_rate_limit_slides() {
    let host = movable("");
    let visitor = host.visitor();
    for (minutes, user) in [(0, "a"), (20, "b"), (40, "c")] {
        at(&host, minutes * MINUTE);
        assert_eq!(try_place(&visitor, user), Ok(()));
    }
    // The real time that passed since then makes the wait a little shorter.
    let near = |told: Result<(), i64>, seconds: i64| {
        let told = told.expect_err("no place");
        assert!((seconds - 15..=seconds + 1).contains(&told), "{told} for {seconds}");
    };
    near(try_place(&visitor, "d"), 20 * MINUTE);
    at(&host, 59 * MINUTE);
    near(try_place(&visitor, "d"), MINUTE);
    at(&host, 60 * MINUTE + 5);
    assert_eq!(try_place(&visitor, "d"), Ok(()), "the first place is free again");
    near(try_place(&visitor, "e"), 20 * MINUTE - 5);
    at(&host, 80 * MINUTE + 5);
    assert_eq!(try_place(&visitor, "e"), Ok(()), "and the second");
    near(try_place(&visitor, "f"), 20 * MINUTE - 5);
    at(&host, 3 * HOUR);
    for user in ["f", "g", "h"] {
        assert_eq!(try_place(&visitor, user), Ok(()));
    }
    assert!(try_place(&visitor, "i").is_err());
}

#[test]
fn an_activation_link_works_for_seven_days() {
    let host = movable("");
    let visitor = host.visitor();
    let (good, late) = (visitor.token_of("good"), visitor.token_of("late"));
    at(&host, 7 * DAY - MINUTE);
    assert_eq!(host.visitor().sign_up("late").outcome(), "409 conflict", "held until then");
    assert_eq!(visitor.activate(&good).status, 200);
    at(&host, 7 * DAY + MINUTE);
    assert_eq!(visitor.activate(&late).status, 400);
    assert!(!host.htdigest().contains("late:"));
    at(&host, 30 * DAY);
    assert_eq!(host.visitor().sign_up("good").outcome(), "409 conflict", "an active one stays");
    assert_eq!(host.account("good").unwrap()[3], "0");
}

/// The name of a pending account that expired is free, whether a sweep ran or not.
#[test]
fn an_expired_name_is_taken_over_by_the_next_sign_up() {
    let host = movable("activation_ttl = \"2h\"");
    let old = host.visitor().token_of("joe");
    let stored = host.attribute("joe", "activation");
    at(&host, 2 * HOUR + MINUTE);
    let visitor = host.visitor();
    let form = visitor.form("joe").with("email", "second@people.example");
    assert_eq!(visitor.post(&form).outcome(), "200 -");
    assert_ne!(host.attribute("joe", "activation"), stored, "one line, the new one");
    assert_eq!(host.attribute("joe", "email").unwrap(), "second@people.example");
    assert_eq!(visitor.activate(&old).status, 400, "the old link opens nothing");
    assert_eq!(host.account("joe").unwrap()[3], "1");
    let new = host.mail_to("second@people.example").token();
    assert_eq!(visitor.activate(&new).status, 200);
    assert!(
        !host.credentials().contains(&email("joe").replace('@', "%40")),
        "nothing personal stays"
    );
}
