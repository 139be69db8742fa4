//! Certificates, keys and trust as they stand in files: everything that is wrong with them, with the mend.
//!
//! `gateway check`, the start, a new policy and a changed file all come here, so that none of them takes what another
//! would refuse.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use xxhash_rust::xxh3::Xxh3;

use super::names::facts;
use crate::records::Arrival;

/// No bundle of certificates is longer.
pub const MOST_BYTES: u64 = 4 * 1024 * 1024;
/// The bit of a file's mode by which everybody may read it.
const READ_BY_OTHERS: u32 = 0o004;

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFault {
    /// `cert`, `key`, `client_ca` or `ca`.
    pub setting: &'static str,
    /// As the settings name it; empty where they name none.
    pub file: String,
    /// What was found.
    pub found: String,
    /// What to do; may be empty.
    pub mend: String,
}

/// A certificate in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// `cert`, `client_ca` or `ca`.
    pub setting: &'static str,
    /// As the settings name it.
    pub file: String,
    /// Unix seconds.
    pub not_before: i64,
    /// Unix seconds.
    pub not_after: i64,
    /// Whose it is.
    pub names: Vec<String>,
}

/// Reads files, and notes what is wrong instead of stopping at the first.
pub struct Reader {
    now: i64,
    digest: Xxh3,
    /// Why they cannot be used.
    pub faults: Vec<FileFault>,
    /// What can be used, and is probably not meant.
    pub warnings: Vec<FileFault>,
    /// What was read.
    pub certificates: Vec<Certificate>,
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

impl Reader {
    /// Judges validity as of now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            now: Arrival::now().unix_us / 1_000_000,
            digest: Xxh3::new(),
            faults: Vec::new(),
            warnings: Vec::new(),
            certificates: Vec::new(),
        }
    }

    /// Of all bytes read so far: tells whether anything has changed.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest.digest()
    }

    /// Notes a fault.
    pub fn fault(&mut self, setting: &'static str, path: &Path, found: impl Into<String>, mend: impl Into<String>) {
        self.faults.push(FileFault { setting, file: shown(path), found: found.into(), mend: mend.into() });
    }

    fn bytes(&mut self, setting: &'static str, path: &Path) -> Option<Vec<u8>> {
        let read = || -> std::io::Result<Result<Vec<u8>, &'static str>> {
            // Asked first: to open a pipe would wait for somebody to write.
            if !std::fs::metadata(path)?.is_file() {
                return Ok(Err("this is no file"));
            }
            let mut held = Vec::new();
            File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut held)?;
            Ok(if held.len() as u64 > MOST_BYTES { Err("this file is too long for certificates") } else { Ok(held) })
        };
        let (found, mend) = match read() {
            Ok(Ok(held)) => {
                self.digest.update(&held);
                self.digest.update(&[0]);
                return Some(held);
            }
            Ok(Err(found)) => (found.to_owned(), ""),
            Err(error) => match error.kind() {
                std::io::ErrorKind::NotFound => ("there is no such file".to_owned(), "write where it stands"),
                std::io::ErrorKind::PermissionDenied => {
                    ("it cannot be read".to_owned(), "let the user that runs the gateway read it")
                }
                _ => (format!("it cannot be read: {error}"), ""),
            },
        };
        self.fault(setting, path, found, mend);
        None
    }

    /// Every certificate of a file; `None` where it cannot be used.
    fn certificates_of(&mut self, setting: &'static str, path: &Path) -> Option<Vec<CertificateDer<'static>>> {
        let held = self.bytes(setting, path)?;
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&held).collect();
        match read {
            Ok(found) if found.is_empty() => {
                let (found, mend) = without_certificate(&held);
                self.fault(setting, path, found, mend);
                None
            }
            Ok(found) => Some(found),
            Err(error) => {
                self.fault(
                    setting,
                    path,
                    format!("this is no PEM: {error}"),
                    "write it anew: it is cut off or changed",
                );
                None
            }
        }
    }

    /// A certificate with those that lead to its root, and its key.
    pub fn own(&mut self, cert: &Path, key: &Path) -> Option<Arc<CertifiedKey>> {
        let chain = self.certificates_of("cert", cert).filter(|chain| self.valid_chain(cert, chain));
        let private = self.key(key);
        let (chain, private) = chain.zip(private)?;
        let leaf = chain.len();
        match CertifiedKey::from_der(chain, private, &ring::default_provider()) {
            Ok(own) => return Some(Arc::new(own)),
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                let mend = match leaf {
                    1 => "both files must be written together",
                    _ => "both files must be written together, the holder's own certificate first",
                };
                self.fault("key", key, format!("it is not the key of the certificate in {}", shown(cert)), mend);
            }
            Err(error) => self.fault("key", key, format!("this key cannot be used: {error}"), WANTED_KEY),
        }
        None
    }

    fn valid_chain(&mut self, path: &Path, chain: &[CertificateDer<'_>]) -> bool {
        let before = self.faults.len();
        for (at, der) in chain.iter().enumerate() {
            let which = if at == 0 { String::new() } else { format!("certificate {} of it ", at + 1) };
            let Some(facts) = facts(der) else {
                self.fault("cert", path, format!("{which}cannot be parsed").trim().to_owned(), "write it anew");
                continue;
            };
            if facts.not_after < self.now {
                let days = (self.now - facts.not_after) / 86_400;
                self.fault("cert", path, format!("{which}expired {}", ago(days)), "renew it");
            } else if facts.not_before > self.now {
                let minutes = (facts.not_before - self.now).div_euclid(60) + 1;
                self.fault(
                    "cert",
                    path,
                    format!("{which}is not valid yet, but in {minutes} min"),
                    "wait, or set this machine's clock",
                );
            }
            if at == 0 {
                self.certificates.push(Certificate {
                    setting: "cert",
                    file: shown(path),
                    not_before: facts.not_before,
                    not_after: facts.not_after,
                    names: facts.names,
                });
            }
        }
        self.faults.len() == before
    }

    fn key(&mut self, path: &Path) -> Option<PrivateKeyDer<'static>> {
        let held = self.bytes("key", path)?;
        let open = std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & READ_BY_OTHERS != 0);
        if open {
            self.warnings.push(FileFault {
                setting: "key",
                file: shown(path),
                found: "everybody on this machine may read this private key".into(),
                mend: "chmod o-r, or in Kubernetes defaultMode: 0440 at the volume".into(),
            });
        }
        if let Ok(key) = PrivateKeyDer::from_pem_slice(&held) {
            return Some(key);
        }
        let text = String::from_utf8_lossy(&held);
        let (found, mend) = if text.contains("ENCRYPTED") {
            ("this key is encrypted", "openssl pkey -in KEY -out PLAIN.pem takes the password off")
        } else if text.contains("-----BEGIN CERTIFICATE") {
            ("this is a certificate, not a key", "cert and key may stand the wrong way round")
        } else if held.is_empty() {
            ("this file is empty", WANTED_KEY)
        } else {
            ("there is no private key in it: no -----BEGIN PRIVATE KEY----- that can be read", WANTED_KEY)
        };
        self.fault("key", path, found, mend);
        None
    }

    /// Whom to trust, by a file of certificates.
    pub fn roots(&mut self, setting: &'static str, path: &Path) -> Option<RootCertStore> {
        let found = self.certificates_of(setting, path)?;
        let mut roots = RootCertStore::empty();
        let (mut expired, mut soonest) = (0, None::<Certificate>);
        for der in found {
            let facts = facts(&der);
            if facts.as_ref().is_some_and(|facts| facts.not_after < self.now) {
                expired += 1;
                continue;
            }
            let (Some(facts), Ok(())) = (facts, roots.add(der)) else {
                self.fault(setting, path, "a certificate in it cannot be parsed", "write it anew");
                return None;
            };
            if soonest.as_ref().is_none_or(|known| facts.not_after < known.not_after) {
                soonest = Some(Certificate {
                    setting,
                    file: shown(path),
                    not_before: facts.not_before,
                    not_after: facts.not_after,
                    names: facts.names,
                });
            }
        }
        self.certificates.extend(soonest);
        if roots.is_empty() {
            self.fault(setting, path, "every certificate in it has expired", "renew it");
            return None;
        }
        if expired > 0 {
            self.warnings.push(FileFault {
                setting,
                file: shown(path),
                found: format!("{expired} of its certificates have expired and are left out"),
                mend: "take them out".into(),
            });
        }
        Some(roots)
    }

    /// Whom this machine trusts.
    pub fn system_roots(&mut self) -> Option<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            self.faults.push(FileFault {
                setting: "ca",
                file: String::new(),
                found: "this machine has no certificates that it trusts (SSL_CERT_FILE names none either)".into(),
                mend: "write tls: {ca: PATH}, or install ca-certificates".into(),
            });
            return None;
        }
        Some(roots)
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

const WANTED_KEY: &str = "wanted a PEM of an RSA, ECDSA (P-256, P-384) or Ed25519 key";

fn ago(days: i64) -> String {
    match days {
        0 => "less than a day ago".to_owned(),
        1 => "a day ago".to_owned(),
        _ => format!("{days} days ago"),
    }
}

fn without_certificate(held: &[u8]) -> (&'static str, &'static str) {
    let text = String::from_utf8_lossy(held);
    if held.is_empty() {
        ("this file is empty", "wanted a PEM of certificates")
    } else if text.contains("PRIVATE KEY-----") {
        ("this is a key, not a certificate", "cert and key may stand the wrong way round")
    } else if held.starts_with(&[0x30, 0x82]) {
        (
            "there is no -----BEGIN CERTIFICATE----- in it: it seems to be DER",
            "openssl x509 -inform der -in FILE -out FILE.pem makes a PEM of it",
        )
    } else {
        ("there is no -----BEGIN CERTIFICATE----- in it", "wanted a PEM of certificates")
    }
}
