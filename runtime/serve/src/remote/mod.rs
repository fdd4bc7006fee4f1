//! Images at http(s) addresses: fetched from hosts that are named, at addresses that are checked where the name is resolved,
//! so that no redirect and no second answer of a name server leads anywhere else.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use axum::http::header::LOCATION;
use axum::http::uri::Authority;
use axum::http::{StatusCode, Uri};
use seeward_models::image::dimensions;
use ureq::config::Config;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error};

use crate::errors::Refusal;
use crate::reach::Reach;

/// The most redirects of an image.
const MOST_REDIRECTS: usize = 3;
const CONNECT: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(15);
/// The most bytes of an image.
const MOST_BYTES: u64 = 20 << 20;
/// Seconds after which a client may ask again for what could not be fetched.
const RETRY: u32 = 5;
/// The most characters of an address in an error.
const SHOWN: usize = 200;

/// A host that images may come from: its name, and the port if it is not the scheme's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host(Authority);

/// Where images may come from.
#[derive(Debug)]
pub(crate) struct Remote {
    hosts: Vec<Host>,
    max_bytes: u64,
    /// For an image, redirects included.
    time: Duration,
    agent: Agent,
}

/// What the command line says about addresses.
#[derive(Debug, Default)]
pub(crate) struct RemoteOptions<'a> {
    pub(crate) hosts: Vec<Host>,
    /// Whether hosts may be in private networks.
    pub(crate) is_private: bool,
    /// Root certificates in place of Mozilla's.
    pub(crate) ca: Option<&'a Path>,
    pub(crate) max_bytes: u64,
}

/// Why an image was not fetched.
enum Problem {
    /// Known before anything was sent: the client may know it too.
    NotAllowed(String),
    /// What the network has shown, which only the log says.
    Network(String),
    /// The same, where another try may succeed.
    ForNow(String),
}

/// Refuses addresses of a wrong reach.
struct Checked<R> {
    inner: R,
    most: Reach,
}

impl std::str::FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<Authority>() {
            Ok(authority) if !text.contains('@') && !authority.host().is_empty() => {
                Ok(Self(authority))
            }
            _ => Err(format!("expected HOST or HOST:PORT, got {text}")),
        }
    }
}

impl Host {
    fn admits(&self, uri: &Uri) -> bool {
        let default = match uri.scheme_str() {
            Some("https") => 443,
            _ => 80,
        };
        let port = uri.port_u16().unwrap_or(default);
        let host = uri.host().unwrap_or_default();
        self.0.host().eq_ignore_ascii_case(host) && self.0.port_u16().unwrap_or(default) == port
    }
}

impl Remote {
    /// # Errors
    /// Certificates that cannot be read.
    pub(crate) fn new(options: RemoteOptions) -> Result<Self> {
        Self::with_resolver(options, DefaultResolver::default())
    }

    fn with_resolver(options: RemoteOptions, inner: impl Resolver) -> Result<Self> {
        let tls = TlsConfig::builder().root_certs(roots(options.ca)?).build();
        let config = Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_connect(Some(CONNECT))
            .max_idle_connections(0)
            .user_agent(concat!("seeward-serve/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build();
        let most = match options.is_private {
            true => Reach::Private,
            false => Reach::Public,
        };
        let resolver = Checked { inner, most };
        Ok(Self {
            hosts: options.hosts,
            max_bytes: options.max_bytes.min(MOST_BYTES),
            time: WHOLE,
            agent: Agent::with_parts(config, DefaultConnector::default(), resolver),
        })
    }

    /// The content of the image at an address.
    ///
    /// # Errors
    /// 422 for an address that may not be fetched or has no image, 503 for one that another time may be fetched.
    pub(crate) fn fetch(&self, address: &str) -> Result<Arc<[u8]>, Refusal> {
        let shown: String = address.chars().take(SHOWN).collect();
        self.follow(address).map_err(|problem| match problem {
            Problem::NotAllowed(problem) => {
                Refusal::unprocessable(format!("image {shown}: {problem}"))
            }
            Problem::Network(problem) => {
                tracing::warn!(address = shown, problem, "an image was not fetched");
                Refusal::unprocessable(format!("image {shown}: not fetched"))
            }
            Problem::ForNow(problem) => {
                tracing::warn!(address = shown, problem, "an image was not fetched for now");
                Refusal::unavailable(format!("image {shown}: not fetched for now"), RETRY)
            }
        })
    }

    fn follow(&self, address: &str) -> Result<Arc<[u8]>, Problem> {
        let end = Instant::now() + self.time;
        let mut uri = parse(address)?;
        self.check(&uri)?;
        for _ in 0..=MOST_REDIRECTS {
            let left = end.saturating_duration_since(Instant::now());
            let request = self.agent.get(&uri).config().timeout_global(Some(left));
            let mut response = request.build().call()?;
            if !response.status().is_redirection() {
                check_status(response.status())?;
                let body = response.body_mut().with_config().limit(self.max_bytes);
                return image(body.read_to_vec()?);
            }
            let to = response.headers().get(LOCATION);
            let to = to.and_then(|to| to.to_str().ok()).unwrap_or_default();
            uri = redirected(&uri, to)
                .and_then(|uri| self.check(&uri).map(|()| uri))
                .map_err(hidden)?;
        }
        Err(Problem::Network(format!(
            "more than {MOST_REDIRECTS} redirects"
        )))
    }

    /// Checks that the host is named. Its IP addresses are checked where they are found.
    fn check(&self, uri: &Uri) -> Result<(), Problem> {
        match self.hosts.iter().any(|host| host.admits(uri)) {
            true => Ok(()),
            false => Err(Problem::NotAllowed(
                "the service fetches nothing from this host (--image-host permits it)".to_owned(),
            )),
        }
    }
}

fn parse(address: &str) -> Result<Uri, Problem> {
    // A fragment is the client's own.
    let address = address.split('#').next().unwrap_or_default();
    let uri = address.parse::<Uri>();
    let uri = uri.map_err(|error| Problem::NotAllowed(format!("expected an address: {error}")))?;
    match uri.authority() {
        Some(authority) if !authority.as_str().contains('@') => Ok(uri),
        _ => Err(Problem::NotAllowed(
            "expected an address of a host, without a user".to_owned(),
        )),
    }
}

/// Where a redirect leads; never from https to http.
fn redirected(from: &Uri, to: &str) -> Result<Uri, Problem> {
    let (scheme, authority) = (from.scheme_str().unwrap_or("http"), from.authority());
    let authority = authority.map_or("", Authority::as_str);
    let folder = from
        .path()
        .rsplit_once('/')
        .map_or("", |(folder, _)| folder);
    let uri = match to {
        "" => Err(Problem::Network("a redirect to nowhere".to_owned())),
        _ if to.contains("://") => parse(to),
        _ if to.starts_with("//") => parse(&format!("{scheme}:{to}")),
        _ if to.starts_with('/') => parse(&format!("{scheme}://{authority}{to}")),
        _ => parse(&format!("{scheme}://{authority}{folder}/{to}")),
    }?;
    let allowed: &[&str] = match scheme {
        "https" => &["https"],
        _ => &["http", "https"],
    };
    match allowed.contains(&uri.scheme_str().unwrap_or_default()) {
        true => Ok(uri),
        false => Err(Problem::Network(format!(
            "a redirect from {scheme} to {to}"
        ))),
    }
}

/// What a redirect says is of the network.
fn hidden(problem: Problem) -> Problem {
    match problem {
        Problem::NotAllowed(problem) => Problem::Network(format!("a redirect: {problem}")),
        other => other,
    }
}

fn check_status(status: StatusCode) -> Result<(), Problem> {
    match status {
        StatusCode::OK => Ok(()),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Err(Problem::ForNow(status.to_string()))
        }
        _ if status.is_server_error() => Err(Problem::ForNow(status.to_string())),
        _ => Err(Problem::Network(status.to_string())),
    }
}

fn image(bytes: Vec<u8>) -> Result<Arc<[u8]>, Problem> {
    match dimensions(&bytes) {
        Ok(_) => Ok(bytes.into()),
        Err(error) => Err(Problem::Network(format!("expected an image: {error}"))),
    }
}

/// Root certificates in a file, or Mozilla's.
fn roots(file: Option<&Path>) -> Result<RootCerts> {
    let Some(file) = file else {
        return Ok(RootCerts::WebPki);
    };
    let place = || format!("--image-host-ca {}", file.display());
    let text = std::fs::read(file).with_context(place)?;
    let mut found = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item.with_context(place)? {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        bail!("{}: expected certificates as PEM, got none", place());
    }
    Ok(RootCerts::new_with_certs(&found))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match &error {
            // Refused below, or by TLS.
            Error::Io(inner)
                if matches!(
                    inner.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::InvalidData
                ) =>
            {
                Self::Network(error.to_string())
            }
            Error::Io(_) | Error::Timeout(_) | Error::HostNotFound | Error::ConnectionFailed => {
                Self::ForNow(error.to_string())
            }
            _ => Self::Network(error.to_string()),
        }
    }
}

impl<R: Resolver> Resolver for Checked<R> {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        match found
            .iter()
            .find(|address| Reach::of(address.ip()) > self.most)
        {
            None => Ok(found),
            Some(address) => Err(Error::Io(std::io::Error::new(
                ErrorKind::PermissionDenied,
                format!(
                    "the host has the address {}, which may not be asked",
                    address.ip()
                ),
            ))),
        }
    }
}

impl<R> fmt::Debug for Checked<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checked({:?})", self.most)
    }
}

#[cfg(test)]
mod tests;
