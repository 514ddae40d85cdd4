//! Sixteen requests at the same moment over two processes, ten rounds each: of what there is one,
//! one gets it.

use harness::http::Ask;
use harness::{Form, Host, Setup, Visitor, load};

const REQUESTS: usize = 16;
const ROUNDS: usize = 10;

/// One request in two goes to each process, whatever nginx would do.
fn spread<'a>(visitor: Visitor<'a>, number: usize) -> Visitor<'a> {
    visitor.at_process(number % 2)
}

fn generous() -> Host {
    Setup { tenant: "signups_per_hour = 1000".into(), ..Setup::default() }.start()
}

#[test]
fn of_one_name_from_sixteen_clients_one_gets_it() {
    let host = Host::plain();
    for round in 0..ROUNDS {
        let user = format!("name{round}");
        let asks: Vec<Ask> = (0..REQUESTS)
            .map(|number| {
                let visitor = spread(host.visitor(), number);
                visitor.posting(&visitor.form(&user))
            })
            .collect();
        let replies = load::at_once(&asks);
        assert_eq!(load::tally(&replies), "1 x 200 -, 15 x 409 conflict", "round {round}");
        assert_eq!(host.account(&user).unwrap()[3], "1");
        assert_eq!(host.mails().len(), round + 1);
    }
}

#[test]
fn of_sixteen_clicks_on_one_link_one_activates() {
    let host = generous();
    let visitor = host.visitor();
    for round in 0..ROUNDS {
        let user = format!("user{round}");
        let token = visitor.token_of(&user);
        let asks: Vec<Ask> = (0..REQUESTS)
            .map(|number| {
                spread(host.visitor(), number).ask("GET", &format!("activate.ashx?token={token}"))
            })
            .collect();
        let replies = load::at_once(&asks);
        assert_eq!(load::tally(&replies), "1 x 200 -, 15 x 400 -", "round {round}");
        assert_eq!(host.account(&user).unwrap()[3], "0");
        let lines = host.htdigest().lines().filter(|l| l.starts_with(&format!("{user}:"))).count();
        assert_eq!(lines, 1, "round {round}");
    }
}

#[test]
fn of_sixteen_forms_with_one_captcha_one_makes_an_account() {
    let host = Host::plain();
    for round in 0..ROUNDS {
        let captcha = host.visitor().captcha();
        let asks: Vec<Ask> = (0..REQUESTS)
            .map(|number| {
                let form = Form::of(&format!("r{round}n{number}"), &captcha);
                spread(host.visitor(), number).posting(&form)
            })
            .collect();
        let replies = load::at_once(&asks);
        assert_eq!(load::tally(&replies), "1 x 200 -, 15 x 400 captcha_failed", "round {round}");
        assert_eq!(host.credentials().lines().count(), round + 1);
        assert_eq!(host.mails().len(), round + 1);
    }
}

#[test]
fn of_sixteen_names_from_one_client_three_are_made() {
    let host = Host::plain();
    for round in 0..ROUNDS {
        let client = host.visitor();
        let asks: Vec<Ask> = (0..REQUESTS)
            .map(|number| {
                let visitor = spread(client.clone(), number);
                visitor.posting(&visitor.form(&format!("r{round}n{number}")))
            })
            .collect();
        let replies = load::at_once(&asks);
        assert_eq!(load::tally(&replies), "3 x 200 -, 13 x 429 rate_limited", "round {round}");
        let limited = replies.iter().filter(|reply| reply.status == 429);
        for reply in limited {
            let seconds: u64 = reply.header("Retry-After").unwrap().parse().unwrap();
            assert!((1..=3600).contains(&seconds), "{seconds}");
        }
        assert_eq!(host.mails().len(), 3 * (round + 1));
    }
}

/// Through nginx's own choice of process: many at once, none lost, none doubled.
#[test]
fn many_sign_ups_at_once_all_succeed() {
    let host = Host::plain();
    let visitors: Vec<Visitor<'_>> = (0..64).map(|_| host.visitor()).collect();
    let asks: Vec<Ask> = (visitors.iter().enumerate())
        .map(|(number, visitor)| visitor.posting(&visitor.form(&format!("user{number}"))))
        .collect();
    let replies = load::at_once(&asks);
    assert_eq!(load::tally(&replies), "64 x 200 -");
    for number in 0..64 {
        assert!(host.account(&format!("user{number}")).is_some());
    }
    assert_eq!(host.mails().len(), 64);
    assert_eq!(std::fs::read_dir(host.state("staging")).unwrap().count(), 0);
}
