//! The listening socket.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use tokio::net::{TcpListener, UnixListener};

use crate::forward::transport::{Address, Socket};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// A bound listener of either kind.
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix domain; the path is removed when it is dropped.
    Unix(UnixListener, PathBuf),
}

/// A listener as it is handed to a worker's thread.
pub enum Bound {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// Unix domain.
    Unix(std::os::unix::net::UnixListener, PathBuf),
}

/// Binds; the address that comes back is the one that was really bound.
///
/// # Errors
/// The system's own: in use, no right, no such address.
pub fn bind(address: &Address) -> io::Result<(Bound, String)> {
    match address {
        Address::Tcp(authority) => {
            use std::net::ToSocketAddrs;
            let mut fault = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
            for resolved in authority.to_socket_addrs()? {
                match bind_tcp(resolved) {
                    Ok(listener) => {
                        let name = listener.local_addr()?.to_string();
                        return Ok((Bound::Tcp(listener), name));
                    }
                    Err(error) => fault = error,
                }
            }
            Err(fault)
        }
        Address::Unix(path) => {
            // A socket that nobody listens on is left over from a process that was killed.
            let stale = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
                && std::os::unix::net::UnixStream::connect(path).is_err();
            if stale {
                std::fs::remove_file(path)?;
            }
            let listener = std::os::unix::net::UnixListener::bind(path)?;
            listener.set_nonblocking(true)?;
            Ok((Bound::Unix(listener, path.clone()), format!("unix:{}", path.display())))
        }
    }
}

fn bind_tcp(address: std::net::SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

impl Bound {
    /// Makes it a listener of the runtime that calls.
    ///
    /// # Errors
    /// The runtime cannot take it up.
    pub fn listen(self) -> io::Result<Listener> {
        Ok(match self {
            Self::Tcp(listener) => Listener::Tcp(TcpListener::from_std(listener)?),
            Self::Unix(listener, path) => Listener::Unix(UnixListener::from_std(listener)?, path),
        })
    }
}

/// An accepted socket on its way to the worker that will hold it.
pub enum Accepted {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// Unix domain.
    Unix(std::os::unix::net::UnixStream),
}

impl Accepted {
    /// Takes it up on the worker's own runtime.
    ///
    /// # Errors
    /// The runtime cannot take it up.
    pub fn adopt(self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(stream) => Socket::Tcp(tokio::net::TcpStream::from_std(stream)?),
            Self::Unix(stream) => Socket::Unix(tokio::net::UnixStream::from_std(stream)?),
        })
    }
}

impl Listener {
    /// The next connection, with Nagle's algorithm off.
    ///
    /// # Errors
    /// The system's own; most pass (too many open files).
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream.into_std()?))
            }
            Self::Unix(listener, _) => Ok(Accepted::Unix(listener.accept().await?.0.into_std()?)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}
