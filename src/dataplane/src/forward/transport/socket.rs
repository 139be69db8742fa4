//! A connected socket of any kind, and the address it has in the settings.

use std::fmt;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

use super::tls::{self, ClientTls};
use crate::policy::Endpoint;

/// `host:port`, `dns:host:port` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// Host (a name, or an address with or without brackets) and port, resolved when connecting.
    Tcp(String),
    /// A path in the file system.
    Unix(PathBuf),
}

impl Address {
    /// Reads an address as the settings write it.
    ///
    /// # Errors
    /// Words on what is wrong, with what is wanted.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(format!("{text:?} names no path; wanted unix:/path"));
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let rest = text.strip_prefix("dns:").unwrap_or(text);
        let rest = rest.trim_start_matches('/');
        match rest.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(Self::Tcp(rest.to_owned())),
            _ => Err(format!("{text:?} is no address; wanted host:port, dns:host:port or unix:/path")),
        }
    }

    /// Connects, with Nagle's algorithm off (with it on, a call alone took 41 ms), and encrypts where that is wanted: `host` is
    /// the name that the other end's certificate must be for.
    ///
    /// # Errors
    /// The resolver's, the socket's own, or what is wrong with the other end's certificate.
    pub async fn connect(&self, host: &str, tls: Option<&ClientTls>) -> io::Result<Socket> {
        match self {
            Self::Tcp(authority) => {
                let stream = TcpStream::connect(authority.as_str()).await?;
                stream.set_nodelay(true)?;
                match tls {
                    None => Ok(Socket::Tcp(stream)),
                    Some(tls) => tls::connect(tls, host, stream).await,
                }
            }
            Self::Unix(path) => Ok(Socket::Unix(UnixStream::connect(path).await?)),
        }
    }

    /// The name that a certificate of this address is for; empty for a path.
    #[must_use]
    pub fn host(&self) -> &str {
        match self {
            Self::Tcp(authority) => {
                let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
                host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
            }
            Self::Unix(_) => "",
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(authority) => f.write_str(authority),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<&Endpoint> for Address {
    fn from(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Tcp { host, port } | Endpoint::Dns { host, port } => {
                let bare = host.contains(':') && !host.starts_with('[');
                Self::Tcp(if bare { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
            }
            Endpoint::Unix(path) => Self::Unix(PathBuf::from(&**path)),
        }
    }
}

/// A connected stream of any kind.
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// Unix domain.
    Unix(UnixStream),
    /// TLS over TCP. Boxed, as its session is of 1 KB, and a plain connection is moved about as well.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// The TCP socket beneath, if there is one.
    #[must_use]
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Tls(stream) => Some(stream.get_ref().0),
            Self::Unix(_) => None,
        }
    }
}

macro_rules! any {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Socket::Tcp($stream) => $call,
            Socket::Unix($stream) => $call,
            Socket::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        any!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        any!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        any!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        any!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        any!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_settings_write_them() {
        assert_eq!(Address::parse("127.0.0.1:80"), Ok(Address::Tcp("127.0.0.1:80".into())));
        assert_eq!(Address::parse("dns:spam:80"), Ok(Address::Tcp("spam:80".into())));
        assert_eq!(Address::parse("[::1]:80"), Ok(Address::Tcp("[::1]:80".into())));
        assert_eq!(Address::parse("unix:/a/b"), Ok(Address::Unix("/a/b".into())));
        assert_eq!(Address::parse("[::1]:80").unwrap().host(), "::1");
        assert_eq!(Address::parse("dns:spam.acme:80").unwrap().host(), "spam.acme");
        for wrong in ["", "host", "host:", ":80", "host:99999", "unix:"] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }
}
