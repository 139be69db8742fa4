//! A connection to a backend, up to HTTP/2.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

use super::{ALPN, ClientTls};
use crate::forward::transport::Socket;

/// Encrypts a connection to `host`: the name as the settings have it, never an address that it was resolved to, since that
/// is what the backend's certificate must be for.
///
/// # Errors
/// In words for whom the backend fails. Who calls bounds the wait.
pub async fn connect(tls: &ClientTls, host: &str, stream: TcpStream) -> io::Result<Socket> {
    let wanted = tls.files().server_name.as_deref().unwrap_or(host);
    let name = ServerName::try_from(wanted.to_owned())
        .map_err(|_| io::Error::other(format!("TLS: {wanted:?} is no name that a certificate can be for")))?;
    let connected = TlsConnector::from(tls.config()).connect(name, stream).await;
    let connected = connected.map_err(|error| io::Error::other(format!("TLS: {}", words(&error, wanted))))?;
    if connected.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(io::Error::other("TLS: the server does not offer HTTP/2 by ALPN (h2), as gRPC wants"));
    }
    Ok(Socket::Tls(Box::new(TlsStream::Client(connected))))
}

fn words(error: &io::Error, wanted: &str) -> String {
    let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => "the server closed the connection in the handshake".to_owned(),
            _ => error.to_string(),
        };
    };
    match inner {
        Error::InvalidCertificate(fault) => certificate(fault, wanted),
        Error::InvalidMessage(_) => "the server does not speak TLS".to_owned(),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server wants a client certificate (tls: {cert, key})".to_owned()
        }
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "the server does not offer HTTP/2 by ALPN (h2), as gRPC wants".to_owned()
        }
        Error::AlertReceived(alert) => format!("the server refused the handshake: {alert:?}"),
        other => other.to_string(),
    }
}

fn certificate(fault: &CertificateError, wanted: &str) -> String {
    match fault {
        CertificateError::NotValidForName => format!("the server's certificate is not for {wanted:?}"),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<&str> = presented.iter().take(8).map(|name| plain(name)).collect();
            let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
            format!("the server's certificate is not for {wanted:?} but for {names} (tls: {{server_name}})")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet".to_owned()
        }
        CertificateError::UnknownIssuer => {
            "the server's certificate is signed by nobody that is trusted (tls: {ca})".to_owned()
        }
        other => format!("the server's certificate does not hold: {other}"),
    }
}

/// `DnsName("a.b")` is how the names come.
fn plain(name: &str) -> &str {
    name.split_once("(\"").and_then(|(_, rest)| rest.strip_suffix("\")")).unwrap_or(name)
}
