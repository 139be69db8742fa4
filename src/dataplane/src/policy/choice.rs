//! Every random choice: a salted hash against a share, so that it is sticky, nested (5 % is inside 10 %) and can be
//! worked out again later.
//!
//! `u = xxh3_64(salt || purpose || 0 || route || 0 || key) / 2^64`, chosen when `u < share`.

use xxhash_rust::xxh3::xxh3_64;

/// Keys up to this long are hashed without allocating.
const INLINE_BYTES: usize = 512;

/// A prepared choice: what does not change between calls is put together once.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    prefix: Box<[u8]>,
    /// Probability of being chosen, 0 to 1.
    pub share: f64,
}

impl Choice {
    pub fn new(salt: &[u8], purpose: &str, route: &str, share: f64) -> Self {
        let prefix = [salt, purpose.as_bytes(), &[0], route.as_bytes(), &[0]].concat();
        Choice { prefix: prefix.into(), share }
    }

    /// Whether `key` is within the share.
    pub fn chosen(&self, key: &[u8]) -> bool {
        // Nothing and everything need no hash, and must hold exactly.
        self.share >= 1.0 || (self.share > 0.0 && self.within(key, self.share))
    }

    /// Whether `key` is within another share than the prepared one.
    pub fn within(&self, key: &[u8], share: f64) -> bool {
        share >= 1.0 || unit_interval(salted(&self.prefix, key)) < share
    }

    /// The key's own number in (0, 1), neither end included, so that it has a logarithm.
    pub fn uniform(&self, key: &[u8]) -> f64 {
        unit_interval(salted(&self.prefix, key)) + 0.5 / (1u64 << 53) as f64
    }
}

/// Hash of `prefix || key`, without allocating for keys of usual length.
pub(super) fn salted(prefix: &[u8], key: &[u8]) -> u64 {
    let length = prefix.len() + key.len();
    let mut inline = [0u8; INLINE_BYTES];
    if let Some(buffer) = inline.get_mut(..length) {
        buffer[..prefix.len()].copy_from_slice(prefix);
        buffer[prefix.len()..].copy_from_slice(key);
        xxh3_64(buffer)
    } else {
        xxh3_64(&[prefix, key].concat())
    }
}

/// A hash as a number in [0, 1): its upper 53 bits, which a double holds exactly (all 64 could round up to 1).
fn unit_interval(hash: u64) -> f64 {
    #[allow(clippy::cast_precision_loss)] // 53 bits fit
    let upper = (hash >> 11) as f64;
    upper / (1u64 << 53) as f64
}
