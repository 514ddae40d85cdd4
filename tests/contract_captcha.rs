//! CONTRACT.md, "GET /captcha.ashx", through nginx.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::Host;

#[test]
fn it_answers_a_question_a_token_and_the_realm() {
    let host = Host::plain();
    let reply = host.get("/captcha.ashx");
    assert_eq!(reply.status, 200);
}
