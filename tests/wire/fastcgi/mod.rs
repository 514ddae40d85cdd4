//! Our FastCGI responder, spoken to straight at its socket: what the specification says, what a
//! broken or hostile peer does, limits and signals.

mod parked;
mod process;
mod server;
mod wire;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use codeb_signup::gateway::listener::{Listener, Origin};

use self::server::{Server, wait_for};
use self::wire::*;

#[test]
#[ignore = "not a test: the other tests run it as a process of its own"]
fn a_server_for_the_other_tests() {
    server::be_a_child();
}

#[test]
fn requests_follow_each_other_on_one_connection_and_answers_bear_their_ids() {
    let server = Server::start();
    let mut client = Client::connect(&server.socket());
    for (id, name) in [(1, "one"), (700, "two"), (1, "three"), (65_535, "four")] {
        client.send(&request(id, true, name, b"body"));
        assert!(client.answer(id).ends_with(&format!("{name} 4 whole")));
    }
    client.send(&request(9, false, "last", b""));
    assert!(client.answer(9).starts_with("Status: 200 OK\r\n"));
    client.expect_closed();
    wait_for("the work behind the answers", || server.echo.after.load(Ordering::SeqCst) == 5);
}

#[test]
fn tcp_is_served_like_a_unix_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let _server = Server::over(Listener::tcp(listener, Origin::Bound));
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&request(1, true, "first", b"")).unwrap();
    stream.write_all(&request(2, false, "second", b"")).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let answers = String::from_utf8_lossy(&bytes);
    assert!(answers.contains("first 0 whole") && answers.contains("second 0 whole"), "{answers}");
}

#[test]
fn pipelined_requests_are_all_answered_in_their_order() {
    let server = Server::start();
    let mut client = Client::connect(&server.socket());
    let bytes: Vec<u8> =
        (1..=200).flat_map(|id| request(id, id < 200, &id.to_string(), b"x")).collect();
    client.send(&bytes);
    for id in 1..=200 {
        assert!(client.answer(id).ends_with(&format!("{id} 1 whole")));
    }
    client.expect_closed();
}

#[test]
fn a_request_that_comes_a_byte_at_a_time_is_answered() {
    let server = Server::start();
    let mut client = Client::connect(&server.socket());
    for byte in request(3, true, "slowly", b"abc") {
        client.send(&[byte]);
    }
    assert!(client.answer(3).ends_with("slowly 3 whole"));
    client.expect_serves(4);
}

#[test]
fn a_peer_that_closes_at_any_byte_of_a_request_has_asked_for_nothing() {
    let server = Server::start();
    let bytes = request(1, true, "cut", b"abcdef");
    // The last three bytes are padding that a record owes as well.
    for end in 0..bytes.len() {
        let mut client = Client::connect(&server.socket());
        client.send(&bytes[..end]);
        client.0.shutdown(Shutdown::Write).unwrap();
        client.expect_closed();
    }
    assert_eq!(server.handled(), 0);
    let mut client = Client::connect(&server.socket());
    client.send(&bytes);
    client.0.shutdown(Shutdown::Write).unwrap();
    assert!(client.answer(1).ends_with("cut 6 whole"));
    client.expect_closed();
}

#[test]
fn a_second_request_while_one_is_open_is_told_that_there_is_no_multiplexing() {
    let server = Server::start();
    let mut client = Client::connect(&server.socket());
    let params = pairs(&[("QUERY_STRING", "first"), ("CONTENT_LENGTH", "3")]);
    client.send(&begin(1, 1, true));
    client.send(&request(2, true, "second", b"defgh"));
    client.send(&stream(PARAMS, 1, &params));
    client.send(&stream(STDIN, 2, b"stray"));
    client.send(&stream(STDIN, 1, b"abc"));
    assert_eq!(client.receive(), (END, 2, vec![0, 0, 0, 0, 1, 0, 0, 0]));
    assert!(client.answer(1).ends_with("first 3 whole"));
    assert_eq!(server.handled(), 1);
    client.expect_serves(2);
}

#[test]
fn an_aborted_request_ends_unanswered_and_the_connection_goes_on() {
    let server = Server::start();
    let mut client = Client::connect(&server.socket());
    client.send(&begin(5, 1, true));
    client.send(&record(ABORT, 6, &[]));
    client.send(&record(ABORT, 5, &[]));
    assert_eq!(client.receive(), (END, 5, vec![0; 8]));
    client.send(&stream(STDIN, 5, b"late"));
    client.expect_serves(5);
    assert_eq!(server.handled(), 1);
    client.send(&[begin(7, 1, false), record(ABORT, 7, &[])].concat());
    assert_eq!(client.receive(), (END, 7, vec![0; 8]));
    client.expect_closed();
}

#[test]
fn other_roles_are_refused() {
    let server = Server::start();
    let mut client = Client::connect(&server.socket());
    for role in [0, 2, 3, 77] {
        client.send(&begin(4, role, true));
        assert_eq!(client.receive(), (END, 4, vec![0, 0, 0, 0, 3, 0, 0, 0]));
    }
    client.expect_serves(4);
    client.send(&begin(4, 2, false));
    assert_eq!(client.receive(), (END, 4, vec![0, 0, 0, 0, 3, 0, 0, 0]));
    client.expect_closed();
}

#[test]
fn limits_are_told_to_who_asks() {
    let server = Server::start();
    let mut client = Client::connect(&server.socket());
    let asked = [("FCGI_MPXS_CONNS", ""), ("FCGI_MAX_REQS", ""), ("X", ""), ("FCGI_MAX_CONNS", "")];
    client.send(&record(GET_VALUES, 0, &pairs(&asked)));
    let (kind, id, content) = client.receive();
    assert_eq!((kind, id), (GET_VALUES_RESULT, 0));
    let text = String::from_utf8(content).unwrap();
    assert!(text.contains("FCGI_MPXS_CONNS0") && text.contains("FCGI_MAX_REQS"), "{text:?}");
    assert!(text.contains("FCGI_MAX_CONNS"), "{text:?}");
    client.send(&record(GET_VALUES, 0, &[]));
    assert_eq!(client.receive(), (GET_VALUES_RESULT, 0, Vec::new()));
    client.expect_serves(1);
}

#[test]
fn unknown_record_types_are_answered_or_ignored_by_the_book() {
    let server = Server::start();
    let mut client = Client::connect(&server.socket());
    for kind in [0, 12, 99, 255] {
        client.send(&record(kind, 0, b"whatever"));
        assert_eq!(client.receive(), (UNKNOWN_TYPE, 0, vec![kind, 0, 0, 0, 0, 0, 0, 0]));
    }
    client.send(&begin(1, 1, true));
    client.send(&record(99, 1, b"of a request"));
    client.send(&record(99, 2, b"of none"));
    let params = pairs(&[("QUERY_STRING", "on")]);
    client.send(&[stream(PARAMS, 1, &params), stream(STDIN, 1, b"")].concat());
    assert!(client.answer(1).ends_with("on 0 whole"));
}

#[test]
fn a_wrong_version_ends_the_connection() {
    let server = Server::start();
    for version in [0, 2, 255] {
        let mut client = Client::connect(&server.socket());
        client.expect_serves(1);
        let mut bytes = request(1, true, "x", b"");
        bytes[0] = version;
        client.send(&bytes[..8]);
        client.expect_closed();
    }
    assert_eq!(server.handled(), 3);
}

#[test]
fn begin_records_that_make_no_sense_end_the_connection() {
    let server = Server::start();
    for bytes in [
        begin(0, 1, true),
        record(BEGIN, 1, &[]),
        record(BEGIN, 1, &[0, 1]),
        [begin(1, 1, true), begin(1, 1, true)].concat(),
    ] {
        let mut client = Client::connect(&server.socket());
        client.send(&bytes);
        client.expect_closed();
    }
}

#[test]
fn parameters_that_are_cut_or_too_many_are_told_to_be_lost() {
    let server = Server::start();
    let mut client = Client::connect(&server.socket());
    let good = pairs(&[("QUERY_STRING", "q"), ("A", "b")]);
    let huge = pairs(&[("QUERY_STRING", "q"), ("HTTP_X", &"x".repeat(70_000))]);
    let wild = [good.as_slice(), &[0xff; 8]].concat();
    for params in [&good[..good.len() - 1], &huge, &wild] {
        let end = stream(STDIN, 1, b"");
        client.send(&[begin(1, 1, true), stream(PARAMS, 1, params), end].concat());
        assert!(client.answer(1).ends_with("q 0 lost"));
    }
    client.expect_serves(1);
}

#[test]
fn raw_bytes_in_parameters_arrive() {
    let server = Server::start();
    let mut client = Client::connect(&server.socket());
    let params = [pairs(&[("HTTP_X", "?")]), b"\x0c\x01QUERY_STRING\xff".to_vec()].concat();
    client.send(&[begin(1, 1, true), stream(PARAMS, 1, &params), stream(STDIN, 1, b"")].concat());
    assert!(client.answer(1).ends_with("\u{fffd} 0 whole"));
}

#[test]
fn bodies_are_held_against_their_announced_length_and_the_cap() {
    let server = Server::start();
    let mut client = Client::connect(&server.socket());
    let mut ask = |length: &str, body: &[u8]| {
        let params = pairs(&[("QUERY_STRING", "q"), ("CONTENT_LENGTH", length)]);
        client.send(&[begin(1, 1, true), stream(PARAMS, 1, &params)].concat());
        client.send(&stream(STDIN, 1, body));
        let answer = client.answer(1);
        answer.rsplit("\r\n").next().unwrap().to_owned()
    };
    assert_eq!(ask("10", b"short"), "q truncated whole");
    assert_eq!(ask("2", b"longer"), "q 2 whole");
    assert_eq!(ask("", b"silent"), "q 6 whole");
    assert_eq!(ask("-1", b""), "q 0 lost");
    assert_eq!(ask("16384", &[b'x'; 16_384]), "q 16384 whole");
    assert_eq!(ask("16385", &[b'x'; 16_385]), "q too-large whole");
    assert_eq!(ask("", &[b'x'; 300_000]), "q too-large whole");
    assert_eq!(ask("300000", &[b'x'; 300_000]), "q too-large whole");
    assert_eq!(ask("5", b"after"), "q 5 whole");
}

#[test]
fn a_body_that_is_too_large_is_answered_early_and_a_flood_is_hung_up_on() {
    let server = Server::start();
    let mut client = Client::connect(&server.socket());
    let params = pairs(&[("QUERY_STRING", "q"), ("CONTENT_LENGTH", "99999999")]);
    client.send(&[begin(1, 1, false), stream(PARAMS, 1, &params)].concat());
    assert!(client.answer(1).ends_with("q too-large whole"));
    // Not kept, but the rest of the body is still read, so that no reset overtakes the answer.
    client.send(&stream(STDIN, 1, &[b'x'; 200_000]));
    client.expect_closed();

    let mut client = Client::connect(&server.socket());
    client.send(&[begin(1, 1, true), stream(PARAMS, 1, &params)].concat());
    client.answer(1);
    let piece = record(STDIN, 1, &[b'x'; 60_000]);
    let refused = (0..100).any(|_| client.0.write_all(&piece).is_err());
    assert!(refused, "six megabytes were read");
}

#[test]
fn a_handler_that_panics_is_a_500_and_the_next_request_is_served() {
    let server = Server::start();
    let mut client = Client::connect(&server.socket());
    client.send(&request(1, true, "panic", b""));
    let answer = client.answer(1);
    assert!(answer.starts_with("Status: 500 ") && answer.contains("\"error\":\"server_error\""));
    client.expect_serves(2);
}

#[test]
fn a_large_answer_waits_for_a_slow_reader_without_a_worker() {
    let server = Server::start();
    let mut slow: Vec<Client> = (0..8).map(|_| Client::connect(&server.socket())).collect();
    for client in &mut slow {
        client.send(&request(1, true, "large", b""));
    }
    wait_for("all of them", || server.handled() == 8);
    Client::connect(&server.socket()).expect_serves(1);
    for client in &mut slow {
        assert!(client.answer(1).len() > 3_000_000);
        client.expect_serves(2);
    }
}

#[test]
fn slow_clients_do_not_hold_up_fast_ones() {
    let server = Server::start();
    let bytes = request(1, true, "slow-sender", b"");
    let mut slow: Vec<Client> = (0..50).map(|_| Client::connect(&server.socket())).collect();
    for second in 0..3 {
        for client in &mut slow {
            client.send(&bytes[second..=second]);
        }
        let mut fast = Client::connect(&server.socket());
        for id in 1..200 {
            fast.expect_serves(id);
        }
        // This is the slowness itself, not a wait for something.
        thread::sleep(Duration::from_secs(1));
    }
    for client in &mut slow {
        client.send(&bytes[3..]);
        assert!(client.answer(1).ends_with("slow-sender 0 whole"));
    }
}

#[test]
fn two_thousand_idle_connections_leave_the_next_request_served() {
    let hard = server::raise_descriptor_limit().unwrap();
    assert!(hard >= 2_500, "this test needs 2,500 descriptors, the hard limit is {hard}");
    let scratch = server::Scratch::new();
    let _server = server::ChildServer::listening_on(&scratch.socket(), "-");
    let mut idle: Vec<Client> = (0..2_000).map(|_| Client::connect(&scratch.socket())).collect();
    Client::connect(&scratch.socket()).expect_serves(1);
    for client in idle.iter_mut().step_by(97) {
        client.expect_serves(2);
    }
}
