//! Hosts on loopback, names that a toy resolver gives addresses, and what such hosts may try.

use super::*;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A GIF of one pixel.
const PIXEL: &[u8] =
    b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";
const METADATA: &str = "169.254.169.254";

/// A host that answers every path by a function, one connection after the other.
struct Site {
    port: u16,
    seen: Arc<AtomicUsize>,
}

impl Site {
    fn start(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Self {
        Self::serve(move |mut stream| {
            let path = path(&mut stream);
            // A client that refuses to read on is what some tests want.
            let _ = stream.write_all(&answer(&path));
        })
    }

    fn serve(talk: impl Fn(TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(AtomicUsize::new(0));
        let count = seen.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                talk(stream.unwrap());
            }
        });
        Self { port, seen }
    }

    fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    /// This site under a name.
    fn at(&self, name: &str, path: &str) -> String {
        format!("http://{name}:{}{path}", self.port)
    }
}

fn path(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    head.split(' ').nth(1).unwrap_or_default().to_owned()
}

fn ok(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn redirect(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes()
}

/// Gives names these addresses, one for each question; the last one for all further ones.
#[derive(Debug)]
struct Names {
    answers: Mutex<VecDeque<IpAddr>>,
    asked: Arc<AtomicUsize>,
}

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let literal = uri.host().unwrap().parse();
        let next = match answers.len() {
            1 => answers[0],
            _ => answers.pop_front().unwrap(),
        };
        let mut found = self.empty();
        found.push(SocketAddr::new(
            literal.unwrap_or(next),
            uri.port_u16().unwrap_or(80),
        ));
        Ok(found)
    }
}

struct Fetcher {
    remote: Remote,
    asked: Arc<AtomicUsize>,
}

/// A service that fetches from `hosts`, whose names have the addresses.
fn fetcher(hosts: &[String], addresses: &[&str], is_private: bool) -> Fetcher {
    let asked = Arc::new(AtomicUsize::new(0));
    let answers = addresses.iter().map(|address| address.parse().unwrap());
    let names = Names {
        answers: Mutex::new(answers.collect()),
        asked: asked.clone(),
    };
    let options = RemoteOptions {
        hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
        is_private,
        max_bytes: 1000,
        ca: None,
    };
    let remote = Remote::with_resolver(options, names).unwrap();
    Fetcher { remote, asked }
}

fn local(site: &Site) -> Fetcher {
    fetcher(
        &[format!("images.test:{}", site.port)],
        &["127.0.0.1"],
        true,
    )
}

#[track_caller]
fn refused(fetcher: &Fetcher, address: &str) -> Refusal {
    fetcher.remote.fetch(address).expect_err(address)
}

#[test]
fn an_image_of_a_named_host_is_fetched() {
    let site = Site::start(|path| match path {
        "/a%20b.gif?size=1" => ok(PIXEL),
        "/moved/one" => redirect("two"),
        "/moved/two" => redirect("/moved/three#part"),
        "/moved/three" => redirect("/a%20b.gif?size=1"),
        _ => redirect("/moved/one"),
    });
    let fetcher = local(&site);
    for path in ["/a%20b.gif?size=1", "/a%20b.gif?size=1#part", "/moved/one"] {
        let image = fetcher.remote.fetch(&site.at("images.test", path));
        assert_eq!(&*image.unwrap(), PIXEL, "{path}");
    }
    // One more redirect is one too many.
    let error = refused(&fetcher, &site.at("IMAGES.test", "/far"));
    assert_eq!(error.status.as_u16(), 422);
    // Each request has asked for its host once, and went there.
    assert_eq!(fetcher.asked.load(Ordering::SeqCst), site.seen());
}

#[test]
fn other_hosts_are_not_asked() {
    let site = Site::start(|_| ok(PIXEL));
    let fetcher = local(&site);
    for address in [
        site.at("127.0.0.1", "/"),
        site.at("images.test.evil.test", "/"),
        site.at("images.test@127.0.0.1", "/"),
        site.at("user:word@images.test", "/"),
        site.at("[::ffff:127.0.0.1]", "/"),
        site.at("2130706433", "/"),
        "http://images.test/".to_owned(),
        "https://images.test/".to_owned(),
        "http:///a.png".to_owned(),
        "http://".to_owned(),
    ] {
        let error = refused(&fetcher, &address);
        assert_eq!(error.status.as_u16(), 422, "{address}");
        assert!(error.message.starts_with("image http"), "{error:?}");
    }
    assert_eq!((site.seen(), fetcher.asked.load(Ordering::SeqCst)), (0, 0));
}

#[test]
fn a_named_host_in_a_private_network_is_not_asked() {
    let site = Site::start(|_| ok(PIXEL));
    let named = |host: &str| format!("{host}:{}", site.port);
    let hosts = [
        "images.test",
        "2130706433",
        "127.0.0.1",
        "[::ffff:127.0.0.1]",
        "localhost",
    ];
    let hosts = hosts.map(named);
    let toy = fetcher(&hosts, &["127.0.0.1"], false);
    let error = refused(&toy, &site.at("images.test", "/"));
    // Which address the name has is for the log.
    assert!(error.message.ends_with(": not fetched"), "{error:?}");
    // The system's resolver knows more spellings.
    let options = RemoteOptions {
        hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
        max_bytes: 1000,
        ..RemoteOptions::default()
    };
    let remote = Remote::new(options).unwrap();
    for host in ["2130706433", "127.0.0.1", "[::ffff:127.0.0.1]", "localhost"] {
        assert!(remote.fetch(&site.at(host, "/")).is_err(), "{host}");
    }
    assert_eq!(site.seen(), 0);
}

#[test]
fn a_redirect_leads_nowhere_else() {
    let secret = Site::start(|_| ok(PIXEL));
    let port = secret.port;
    let site = Site::start(move |path| match path {
        "/host" => redirect(&format!("http://127.0.0.1:{port}/")),
        "/same" => redirect(&format!("//other.test:{port}/")),
        "/metadata" => redirect(&format!("http://{METADATA}/latest")),
        "/user" => redirect("http://a@images.test/"),
        "/file" => redirect("file:///etc/passwd"),
        _ => redirect(""),
    });
    // Even where the host of the metadata is named.
    let hosts = [format!("images.test:{}", site.port), METADATA.to_owned()];
    let fetcher = fetcher(&hosts, &["127.0.0.1"], true);
    for path in ["/host", "/same", "/metadata", "/user", "/file", "/nowhere"] {
        let error = refused(&fetcher, &site.at("images.test", path));
        let expected = (422, true);
        let got = (
            error.status.as_u16(),
            error.message.ends_with(": not fetched"),
        );
        assert_eq!(got, expected, "{error:?}");
    }
    assert_eq!((site.seen(), secret.seen()), (6, 0));
}

#[test]
fn a_name_that_changes_its_address_is_checked_each_time() {
    let site = Site::start(|path| match path {
        "/again" => redirect("/"),
        _ => ok(PIXEL),
    });
    let hosts = [format!("images.test:{}", site.port)];
    let changing = || fetcher(&hosts, &["127.0.0.1", METADATA], true);
    // The address that was checked is the one that is connected to: there is no second question.
    let once = changing();
    assert!(once.remote.fetch(&site.at("images.test", "/")).is_ok());
    assert_eq!(once.asked.load(Ordering::SeqCst), 1);
    let twice = changing();
    assert_eq!(
        refused(&twice, &site.at("images.test", "/again"))
            .status
            .as_u16(),
        422
    );
    assert_eq!((twice.asked.load(Ordering::SeqCst), site.seen()), (2, 2));
}

#[test]
fn https_stays_https() {
    let from: Uri = "https://images.test/a/b".parse().unwrap();
    let to = |to: &str| redirected(&from, to).ok().map(|uri| uri.to_string());
    assert_eq!(to("c").as_deref(), Some("https://images.test/a/c"));
    assert_eq!(to("https://x.test/c").as_deref(), Some("https://x.test/c"));
    assert_eq!(to("http://images.test/a"), None);
}

#[test]
fn what_is_no_image_or_too_much_is_refused() {
    let site = Site::start(|path| match path {
        "/text" => ok(b"no image"),
        "/large" => ok(&[0; 1001]),
        "/endless" => [
            &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"[..],
            &b"fff\r\n".repeat(1 << 16),
        ]
        .concat(),
        "/cut" => b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\nGIF89a".to_vec(),
        "/none" => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
        "/busy" => b"HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n".to_vec(),
        _ => b"SSH-2.0\r\n".to_vec(),
    });
    let fetcher = local(&site);
    for (path, status) in [
        ("/text", 422),
        ("/large", 422),
        ("/endless", 422),
        ("/none", 422),
        ("/ssh", 422),
        ("/busy", 503),
        ("/cut", 503),
    ] {
        let error = refused(&fetcher, &site.at("images.test", path));
        assert_eq!(error.status.as_u16(), status, "{path}: {error:?}");
    }
}

#[test]
fn a_slow_host_is_left() {
    let site = Site::serve(|mut stream| {
        path(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n");
        // A byte from time to time.
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let mut fetcher = local(&site);
    fetcher.remote.time = Duration::from_millis(300);
    let start = Instant::now();
    let error = refused(&fetcher, &site.at("images.test", "/"));
    assert_eq!(error.status.as_u16(), 503);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn https_hosts_are_known_by_their_certificates() {
    let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls");
    let chain = vec![CertificateDer::from_pem_file(tls.join("cert.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(tls.join("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, key);
    let config = Arc::new(config.unwrap());
    let site = Site::serve(move |stream| {
        let session = rustls::ServerConnection::new(config.clone()).unwrap();
        let mut stream = rustls::StreamOwned::new(session, stream);
        path(&mut stream);
        let _ = stream.write_all(&ok(PIXEL)).and_then(|()| stream.flush());
    });
    let ask = |name: &str, ca: Option<&Path>| {
        let names = Names {
            answers: Mutex::new(VecDeque::from(["127.0.0.1".parse().unwrap()])),
            asked: Arc::default(),
        };
        let options = RemoteOptions {
            hosts: vec![format!("{name}:{}", site.port).parse().unwrap()],
            is_private: true,
            max_bytes: 1000,
            ca,
        };
        let remote = Remote::with_resolver(options, names).unwrap();
        remote.fetch(&format!("https://{name}:{}/", site.port))
    };
    let ca = tls.join("ca.pem");
    assert_eq!(&*ask("images.test", Some(&ca)).unwrap(), PIXEL);
    for error in [ask("images.test", None), ask("other.test", Some(&ca))] {
        assert_eq!(error.unwrap_err().status.as_u16(), 422);
    }
    let key = tls.join("key.pem");
    for file in [key.as_path(), Path::new("no/such.pem")] {
        assert!(roots(Some(file)).is_err(), "{}", file.display());
    }
}

#[test]
fn hosts_are_names_with_or_without_a_port() {
    for host in ["images.test", "images.test:8080", "[::1]:80", "10.0.0.1"] {
        assert!(host.parse::<Host>().is_ok(), "{host}");
    }
    for host in ["", "http://images.test", "a@b", "images.test/a", ":80"] {
        let error = host.parse::<Host>().unwrap_err();
        assert!(error.starts_with("expected HOST"), "{host}: {error}");
    }
}
