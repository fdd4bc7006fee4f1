//! The program on a free port, and a client that sends bytes as a test wants them.
#![allow(dead_code, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use seeward_runtime::{Options, Request, RewardModel};
use serde_json::Value;

/// Longer than anything takes that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn golden(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    root.canonicalize().unwrap().join(path)
}

pub(crate) fn model() -> RewardModel {
    RewardModel::load(golden("bundles/qwen2"), Options::default()).unwrap()
}

/// The rewards of a request by the library alone.
pub(crate) fn expected(model: &RewardModel, request: Request) -> Vec<f32> {
    let result = model.score(&[request]).unwrap().results.remove(0);
    result.unwrap().rewards
}

#[track_caller]
pub(crate) fn assert_close(got: f32, expected: f32) {
    let differs = (got - expected).abs();
    assert!(
        differs <= 1e-5 * expected.abs().max(1.0),
        "{got} instead of {expected}"
    );
}

/// A running service, which ends with the test.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    log: Arc<Mutex<String>>,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// In lower case, with the lines of the headers.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The message of an error, whose shape is checked.
    #[track_caller]
    pub(crate) fn error(&self) -> String {
        let body = self.json();
        let error = &body["error"];
        assert_eq!(error["code"], self.status, "{body}");
        assert!(
            error["type"].is_string() && error.get("param").is_some(),
            "{body}"
        );
        assert_eq!(
            (&body["object"], &body["message"]),
            (&"error".into(), &error["message"])
        );
        error["message"].as_str().unwrap().to_owned()
    }
}

impl Server {
    /// The golden bundle with these flags, ready.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::of(&golden("bundles/qwen2"), flags)
    }

    pub(crate) fn of(bundle: &Path, flags: &[&str]) -> Self {
        let server = Self::spawn(bundle, flags);
        server.wait_for_status(200);
        server
    }

    /// A service that listens, and may be loading its model.
    pub(crate) fn spawn(bundle: &Path, flags: &[&str]) -> Self {
        let mut child = command(bundle)
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let address = loop {
            let line = lines.next().expect("a line with the address").unwrap();
            log.lock().unwrap().push_str(&(line.clone() + "\n"));
            if let Some((_, address)) = line.split_once("listening on http://") {
                break address
                    .split(' ')
                    .next()
                    .unwrap()
                    .trim_matches('"')
                    .to_owned();
            }
        };
        let tail = log.clone();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                tail.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Self {
            child,
            address,
            log,
        }
    }

    /// Waits until `/ready` has this status.
    #[track_caller]
    pub(crate) fn wait_for_status(&self, status: u16) {
        let start = Instant::now();
        while self.get("/ready").status != status {
            assert!(start.elapsed() < PATIENCE, "not {status}: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Whether the service logs this text, maybe a moment after its answer.
    pub(crate) fn logs(&self, text: &str) -> bool {
        let since = Instant::now();
        while !self.log().contains(text) {
            if since.elapsed() > PATIENCE {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send(&format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        ))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(&post(path, &body.to_string()))
    }

    /// Sends the text of a request on a new connection.
    pub(crate) fn send(&self, request: &str) -> Reply {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        read(&mut stream)
    }

    /// The value of a line of `/metrics`.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = self.get("/metrics").body;
        let start = format!("{name} ");
        let line = page.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("{name} in:\n{page}"));
        line[start.len()..].parse().unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill")
            .args(["-s", name, &id])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits for the end of the program.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "still running: {}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program with a bundle, on a free port.
pub(crate) fn command(bundle: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seeward-serve"));
    command.arg("--model").arg(bundle);
    command.args(["--listen", "127.0.0.1:0", "--threads", "2"]);
    command
}

/// The text of a request with a JSON body.
pub(crate) fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
}

/// Everything up to the end of the connection; status 0 if nothing came.
pub(crate) fn read(stream: &mut TcpStream) -> Reply {
    let mut text = Vec::new();
    // A reset after an answer to a request that was not read to its end.
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Reply {
        status: status.unwrap_or(0),
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}
