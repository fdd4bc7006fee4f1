//! Connections: accepted up to a number, closed when they are slow, drained at the end.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Connections that the kernel holds before they are accepted: trainers open one for each sample.
const BACKLOG: u32 = 4096;
/// Descriptors for everything but connections.
const RESERVED: usize = 200;
/// The pause after a failed accept, for example without free descriptors.
const PAUSE: Duration = Duration::from_millis(20);

/// Where the service listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(String),
    Unix(PathBuf),
}

/// The limits of connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) header_timeout: Duration,
    pub(crate) drain_delay: Duration,
}

/// The work of a connection, until it is closed.
type Connection = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A bound socket.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// Accepts connections until it stops.
pub(crate) struct Server {
    listener: Listener,
    router: Router,
    header_timeout: Duration,
    most: usize,
    permits: Arc<Semaphore>,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Self::Unix(path.into())),
            None if text.contains(':') => Ok(Self::Tcp(text.to_owned())),
            _ => Err(format!("expected HOST:PORT or unix:PATH, got {text}")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Address {
    /// # Errors
    /// The address is taken or none of this machine.
    pub(crate) async fn bind(&self) -> Result<Listener> {
        let place = || format!("--listen {self}");
        match self {
            Self::Tcp(address) => {
                let addresses = tokio::net::lookup_host(address).await;
                let address = addresses.with_context(place)?.next();
                let address = address.with_context(place)?;
                Ok(Listener::Tcp(tcp(address).with_context(place)?))
            }
            Self::Unix(path) => {
                let listener = UnixListener::bind(path).with_context(place)?;
                Ok(Listener::Unix(listener, path.clone()))
            }
        }
    }
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Listener {
    /// Whether other machines may connect.
    pub(crate) fn is_public(&self) -> bool {
        match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr();
                address.is_ok_and(|address| !address.ip().is_loopback())
            }
            Self::Unix(..) => false,
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "http://{address}"),
                Err(error) => write!(f, "({error})"),
            },
            Self::Unix(_, path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The path of a socket is the program's.
impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // It may be gone already.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Server {
    /// A server for `router`. Raises the limit of open files to the hard limit.
    pub(crate) fn new(listener: Listener, router: Router, limits: &Limits) -> Self {
        let most = limits
            .connections
            .min(file_limit().saturating_sub(RESERVED))
            .max(1);
        Self {
            listener,
            router,
            header_timeout: limits.header_timeout,
            most,
            permits: Arc::new(Semaphore::new(most)),
        }
    }

    /// The most connections.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Serves connections until `stop` changes; then those that are open answer what they have begun to read.
    pub(crate) async fn serve(self, mut stop: watch::Receiver<bool>) {
        while let Some(permit) = self.turn(&mut stop).await {
            let open = stop.clone();
            let accepted = tokio::select! {
                accepted = self.accept(open) => accepted,
                () = stopped(&mut stop) => break,
            };
            match accepted {
                Ok(connection) => {
                    tokio::spawn(async move {
                        connection.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        let (permits, most) = (self.permits.clone(), self.most);
        // No new connections, while the open ones end.
        drop(self.listener);
        let all = u32::try_from(most).unwrap_or(u32::MAX);
        let _ = permits.acquire_many(all).await;
    }

    /// Waits for a place; none when the server stops.
    async fn turn(&self, stop: &mut watch::Receiver<bool>) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            permit = self.permits.clone().acquire_owned() => permit.ok(),
            () = stopped(stop) => None,
        }
    }

    async fn accept(&self, stop: watch::Receiver<bool>) -> io::Result<Connection> {
        let (router, timeout) = (self.router.clone(), self.header_timeout);
        Ok(match &self.listener {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are small and complete.
                stream.set_nodelay(true)?;
                Box::pin(connection(stream, router, timeout, stop))
            }
            Listener::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Box::pin(connection(stream, router, timeout, stop))
            }
        })
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error would mean that the program has ended.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Serves one connection.
async fn connection<S>(
    stream: S,
    router: Router,
    header_timeout: Duration,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout);
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // A client that leaves or sends no HTTP is nothing to log.
    let _ = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
}

/// The limit of open files, raised as far as it may be.
fn file_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_tcp_or_unix() {
        for text in ["127.0.0.1:0", "[::1]:80", "localhost:80", "unix:/run/s"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["80", "", "unix:"] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.starts_with("expected HOST:PORT"), "{error}");
        }
    }
}
