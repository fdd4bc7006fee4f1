//! Many connections at once, slow ones among them, and the end at random moments: every request is answered or refused.
//!
//! The largest number of connections is 10 000, or what the limit of open files allows; it is printed.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use support::{PATIENCE, Server, post, read};

/// Descriptors of the test itself.
const RESERVED: u64 = 200;

/// A short request of a number, with a small answer.
fn request(number: usize) -> String {
    let body = json!({"prompt": "Is water wet?", "responses": [format!("Yes, {number}.")]});
    post("/v1/rewards", &body.to_string())
}

/// Raises the limit of open files; the number of connections that it allows, `most` at most.
fn allowed(most: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let hard = limit.maximum.unwrap_or(u64::MAX);
    most.min(usize::try_from(hard.saturating_sub(RESERVED)).unwrap())
}

fn send(server: &Server, text: &str) -> TcpStream {
    let mut stream = server.connect();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// Opens connections with a request each before any answer is read: the number of those that were answered with a reward.
fn at_once(server: &Server, count: usize) -> usize {
    let open: Vec<TcpStream> = (0..count)
        .map(|number| send(server, &request(number)))
        .collect();
    let replies = open.into_iter().map(|mut stream| read(&mut stream));
    replies
        .filter(|reply| reply.status == 200 && reply.json()["results"][0]["rewards"][0].is_number())
        .count()
}

#[test]
fn every_one_of_many_connections_is_answered() {
    let most = allowed(10_000);
    let server = Server::start(&[]);
    for count in [64, 1000, most] {
        let start = Instant::now();
        assert_eq!(at_once(&server, count), count);
        eprintln!(
            "{count} connections at once answered in {:.1?}",
            start.elapsed()
        );
    }
    let total = (64 + 1000 + most) as f64;
    assert_eq!(server.metric("seeward_responses_total"), total);
    assert_eq!(server.metric("seeward_queue_requests"), 0.0);
}

#[test]
fn slow_clients_take_no_place_from_others() {
    allowed(10_000);
    let flags = ["--header-timeout", "2", "--body-timeout", "2"];
    let server = Server::start(&flags);
    let text = request(0);
    let slow: Vec<TcpStream> = (0..600)
        .map(|number| match number % 3 {
            0 => send(&server, &text[..10]),
            1 => send(&server, &text[..text.len() - 1]),
            _ => send(&server, ""),
        })
        .collect();
    assert_eq!(at_once(&server, 1000), 1000);
    for (number, mut stream) in slow.into_iter().enumerate() {
        // A body that came too slowly gets an answer, a header none.
        let expected = if number % 3 == 1 { 408 } else { 0 };
        assert_eq!(read(&mut stream).status, expected, "{number}");
    }
    assert_eq!(at_once(&server, 64), 64);
}

/// What a client saw.
#[derive(Debug, Default)]
struct Seen {
    sent: usize,
    answered: usize,
    /// Closed before any answer, or not accepted.
    refused: usize,
}

/// Asks until the service is gone.
fn ask_until(server: &Server, end: &AtomicBool, client: usize) -> Seen {
    let mut seen = Seen::default();
    while !end.load(Ordering::SeqCst) {
        seen.sent += 1;
        let Ok(mut stream) = TcpStream::connect(&server.address) else {
            seen.refused += 1;
            continue;
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let text = request(client * 100_000 + seen.sent);
        let status = match stream.write_all(text.as_bytes()) {
            Ok(()) => read(&mut stream).status,
            Err(_) => 0,
        };
        match status {
            0 => seen.refused += 1,
            200 => seen.answered += 1,
            other => panic!("{other}"),
        }
    }
    seen
}

/// Ends a busy service by a signal: what all clients saw together, and the answers that the service logged.
fn end_while_busy(signal: &str, after: Duration) -> (Seen, usize) {
    let mut server = Server::start(&["--drain-delay", "0"]);
    let end = AtomicBool::new(false);
    let before = server.log().matches(" answered ").count();
    let clients: Vec<Seen> = thread::scope(|scope| {
        let (server, end) = (&server, &end);
        let ask = |client| move || ask_until(server, end, client);
        let clients: Vec<_> = (0..16).map(|client| scope.spawn(ask(client))).collect();
        thread::sleep(after);
        server.signal(signal);
        thread::sleep(Duration::from_millis(300));
        end.store(true, Ordering::SeqCst);
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect()
    });
    let status = server.wait();
    if signal != "KILL" {
        assert_eq!(status.code(), Some(0), "{}", server.log());
        assert!(server.logs("stopped"));
    }
    let log = server.log();
    let posts = log
        .lines()
        .skip(before)
        .filter(|line| line.contains("/v1/rewards"));
    let sum = |all: Seen, one: &Seen| Seen {
        sent: all.sent + one.sent,
        answered: all.answered + one.answered,
        refused: all.refused + one.refused,
    };
    (clients.iter().fold(Seen::default(), sum), posts.count())
}

#[test]
fn a_service_that_ends_answers_or_refuses_every_request() {
    // Moments from before the first answer to well within the load.
    for (number, after) in [3, 17, 41, 90, 160, 333].into_iter().enumerate() {
        let signal = ["TERM", "INT"][number % 2];
        let (seen, logged) = end_while_busy(signal, Duration::from_millis(after));
        assert_eq!(seen.answered + seen.refused, seen.sent, "{seen:?}");
        // Every answer that the service has written has arrived, none was lost on the way.
        assert_eq!(seen.answered, logged, "{signal} after {after} ms: {seen:?}");
        assert!(seen.refused > 0, "{seen:?}");
    }
}

#[test]
fn a_killed_service_leaves_no_request_open() {
    for after in [5, 80, 200] {
        let (seen, _) = end_while_busy("KILL", Duration::from_millis(after));
        assert_eq!(seen.answered + seen.refused, seen.sent, "{seen:?}");
    }
}
