//! TLS on both sides: certificates from files that may change while connections stand.
//!
//! In: paths of PEM files, accepted or connected TCP streams. Out: encrypted sockets that have agreed on HTTP/2, and who
//! the caller has shown to be. Never: a certificate that is not checked, or one that takes the place of a good one and is
//! not good itself.

mod accept;
mod connect;
mod files;
mod names;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ServerConfig};

pub use accept::{HANDSHAKE_TIMEOUT, Refused, accept};
pub use connect::connect;
pub use files::{Certificate, FileFault, Reader};
pub use names::{Facts, facts, peer};

use crate::policy::BackendTls;

/// What is spoken inside.
const ALPN: &[u8] = b"h2";

/// Files of which a configuration is made.
pub trait Files {
    /// What is made of them.
    type Config;
    /// Reads them; `None` where `reader` has noted faults.
    fn read(&self, reader: &mut Reader) -> Option<Self::Config>;
}

/// The listener's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// The gateway's own certificate, and those that lead to its root.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who signs callers' certificates; callers need one then.
    pub client_ca: Option<PathBuf>,
}

struct Held<C> {
    config: Arc<C>,
    digest: u64,
    certificates: Vec<Certificate>,
}

/// A configuration in use, and the files it comes from.
pub struct Kept<F: Files> {
    files: F,
    held: ArcSwap<Held<F::Config>>,
}

/// The listener's.
pub type ServerTls = Kept<ServerFiles>;
/// A backend's.
pub type ClientTls = Kept<BackendTls>;

fn read<F: Files>(files: &F) -> Result<Held<F::Config>, Vec<FileFault>> {
    let mut reader = Reader::new();
    match files.read(&mut reader) {
        Some(config) if reader.faults.is_empty() => {
            Ok(Held { config: Arc::new(config), digest: reader.digest(), certificates: reader.certificates })
        }
        _ => Err(reader.faults),
    }
}

impl<F: Files> Kept<F> {
    /// Reads the files.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn new(files: F) -> Result<Self, Vec<FileFault>> {
        let held = read(&files)?;
        Ok(Self { files, held: ArcSwap::from_pointee(held) })
    }

    /// Reads the files again; new connections have what is in them, those that stand go on. `false`: nothing has changed.
    ///
    /// # Errors
    /// Everything that is wrong with them; then what was read before stays in use.
    pub fn reload(&self) -> Result<bool, Vec<FileFault>> {
        let fresh = read(&self.files)?;
        let changed = fresh.digest != self.held.load().digest;
        if changed {
            self.held.store(Arc::new(fresh));
        }
        Ok(changed)
    }

    /// The files.
    pub fn files(&self) -> &F {
        &self.files
    }

    /// What is in use.
    pub fn config(&self) -> Arc<F::Config> {
        Arc::clone(&self.held.load().config)
    }

    /// The certificates in use.
    pub fn certificates(&self) -> Vec<Certificate> {
        self.held.load().certificates.clone()
    }
}

impl Files for ServerFiles {
    type Config = ServerConfig;

    fn read(&self, reader: &mut Reader) -> Option<ServerConfig> {
        let own = reader.own(&self.cert, &self.key);
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .ok()?;
        let mut config = match &self.client_ca {
            None => builder.with_no_client_auth().with_cert_resolver(Arc::new(resolver(own?))),
            Some(path) => {
                let roots = reader.roots("client_ca", path);
                let (own, roots) = own.zip(roots)?;
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()))
                        .build();
                let verifier = match verifier {
                    Ok(verifier) => verifier,
                    Err(error) => {
                        reader.fault("client_ca", path, format!("it cannot be used: {error}"), "");
                        return None;
                    }
                };
                builder.with_client_cert_verifier(verifier).with_cert_resolver(Arc::new(resolver(own)))
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        if self.client_ca.is_some() {
            // A resumed session would bring its certificate along unverified, long after that has expired.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Some(config)
    }
}

impl Files for BackendTls {
    type Config = ClientConfig;

    fn read(&self, reader: &mut Reader) -> Option<ClientConfig> {
        let roots = match &self.ca {
            Some(path) => reader.roots("ca", Path::new(&**path)),
            None => reader.system_roots(),
        };
        let own = self.cert.as_deref().zip(self.key.as_deref());
        let own = own.map(|(cert, key)| reader.own(Path::new(cert), Path::new(key)));
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .ok()?
            .with_root_certificates(roots?);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => builder.with_client_cert_resolver(Arc::new(resolver(own?))),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Some(config)
    }
}

fn resolver(own: Arc<rustls::sign::CertifiedKey>) -> SingleCertAndKey {
    SingleCertAndKey::from(own)
}
