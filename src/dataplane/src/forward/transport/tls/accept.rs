//! A caller's connection, from its first byte to HTTP/2.

use std::time::Duration;

use rustls::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::{ALPN, ServerTls, peer};
use crate::forward::transport::Socket;
use crate::policy::Peer;

/// How long a caller may take over its handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one that was refused may take to hear of it.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// What is read of one that was refused, so that its unread bytes do not undo the answer.
const FAREWELL_BYTES: u64 = 64 * 1024;
/// First byte of a TLS handshake (RFC 8446, 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// Why a connection did not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It did not speak TLS.
    PlainText,
    /// It did not ask for HTTP/2.
    NoAlpn,
    /// It has no certificate, or none that holds.
    Certificate,
    /// The two did not agree otherwise, or the caller left.
    Handshake,
    /// It took too long.
    Timeout,
}

/// Takes a connection up, and learns who calls.
///
/// # Errors
/// [`Refused`]; the caller was told as clearly as what it speaks allows.
pub async fn accept(tls: &ServerTls, stream: TcpStream) -> Result<(Socket, Peer), Refused> {
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(tls, stream)).await {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err((refused, socket))) => {
            if let Some(socket) = socket {
                let _ = tokio::time::timeout(FAREWELL_TIMEOUT, farewell(refused, socket)).await;
            }
            Err(refused)
        }
        Err(_) => Err(Refused::Timeout),
    }
}

/// With an error comes what words can still be sent by.
async fn handshake(tls: &ServerTls, stream: TcpStream) -> Result<(Socket, Peer), (Refused, Option<Socket>)> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) if first[0] == HANDSHAKE_RECORD => {}
        Ok(1) => return Err((Refused::PlainText, Some(Socket::Tcp(stream)))),
        _ => return Err((Refused::Handshake, None)),
    }
    // What went wrong was told to the caller by an alert.
    let accepted = TlsAcceptor::from(tls.config()).accept(stream).await.map_err(|error| (reason(&error), None))?;
    let (_, session) = accepted.get_ref();
    let agreed = session.alpn_protocol() == Some(ALPN);
    let caller = session.peer_certificates().and_then(|chain| chain.first()).map(|der| peer(der)).unwrap_or_default();
    let socket = Socket::Tls(Box::new(TlsStream::Server(accepted)));
    if agreed { Ok((socket, caller)) } else { Err((Refused::NoAlpn, Some(socket))) }
}

fn reason(error: &std::io::Error) -> Refused {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => Refused::Certificate,
        Some(Error::NoApplicationProtocol) => Refused::NoAlpn,
        _ => Refused::Handshake,
    }
}

/// Says why in HTTP/1.1, to a caller that seems to speak HTTP of any version: gRPC's clients end the call at once with what
/// they make of it (`an http1.x server`, status 400), where a GOAWAY after SETTINGS has them try again until their deadline.
async fn farewell(refused: Refused, mut socket: Socket) -> std::io::Result<()> {
    let mut start = [0; 3];
    if socket.read_exact(&mut start).await.is_ok() && start.iter().all(u8::is_ascii_uppercase) {
        let words = match refused {
            Refused::PlainText => "this port speaks TLS only\n",
            _ => "this port wants HTTP/2, agreed on by ALPN (h2)\n",
        };
        let length = words.len();
        let head = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain";
        socket.write_all(format!("{head}\r\ncontent-length: {length}\r\n\r\n{words}").as_bytes()).await?;
    }
    socket.shutdown().await?;
    // Bytes left unread would have the kernel take the answer back.
    tokio::io::copy(&mut socket.take(FAREWELL_BYTES), &mut tokio::io::sink()).await.map(|_| ())
}
