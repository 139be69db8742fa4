//! Receipts: a decision in about 100 signed bytes, so that a label can be counted later without looking anything up.
//!
//! Layout (numbers little-endian), then base64url without padding:
//! form 1 | key id | decision id (16) | policy u32 | len route | len backend | len segment | rows u16 |
//! form 2, of a call that explores: the same, with len arm | propensity f32 before the rows' number |
//! per row: score f32, flags, class, review probability f32 | HMAC-SHA256 over all before, its first 16 bytes.
//! The key id is the first byte of the key's SHA-256; the time is the one in the decision id (UUIDv7).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use smallvec::SmallVec;

use super::proto::take_array;

const FORM: u8 = 1;
const FORM_WITH_ARM: u8 = 2;
const TAG_BYTES: usize = 16;
/// A receipt covers a call's first rows up to this many.
pub const MAX_ROWS: usize = 256;
/// A longer segment is left out whole.
pub const MAX_SEGMENT_BYTES: usize = 64;
/// More than the longest receipt takes, as text.
const MAX_TEXT_BYTES: usize = 8192;

/// What a receipt says of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Of `positive`; NaN if there is none.
    pub score: f32,
    pub flagged: Option<bool>,
    /// Chosen for review.
    pub sampled: bool,
    /// The number of the outcome, 0 to 7.
    pub outcome: u8,
    /// Index of the label among the route's classes.
    pub class: Option<u8>,
    /// With what probability it was to be chosen for review.
    pub review_pi: f32,
}

/// What a receipt says; of a call that is being answered.
#[derive(Clone, Copy, Debug)]
pub struct Claims<'a> {
    /// UUIDv7.
    pub id: [u8; 16],
    pub policy: u32,
    pub route: &'a str,
    /// Empty if none answered.
    pub backend: &'a str,
    pub segment: &'a str,
    /// The backend that was drawn to be asked first, and its probability; `None` where nothing is explored.
    pub arm: Option<(&'a str, f32)>,
    pub rows: &'a [Row],
}

/// What a receipt that was handed back said, and truly.
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt {
    pub id: [u8; 16],
    pub policy: u32,
    pub route: String,
    pub backend: String,
    pub segment: String,
    pub arm: Option<(String, f32)>,
    pub rows: Vec<Row>,
}

impl Receipt {
    /// Milliseconds since 1970, from the decision id.
    pub fn time_ms(&self) -> u64 {
        let [a, b, c, d, e, f, ..] = self.id;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

/// Why a receipt is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptFault {
    /// Not a receipt at all, or cut short.
    Malformed(&'static str),
    /// Signed with a key that is not known here.
    Foreign,
    /// The key is known, the signature is not its.
    Forged,
}

impl ReceiptFault {
    /// Stable word for it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Foreign => "foreign",
            Self::Forged => "forged",
        }
    }
}

impl fmt::Display for ReceiptFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(words) => write!(f, "not a receipt: {words}"),
            Self::Foreign => f.write_str("the receipt was signed with a key that is not known here"),
            Self::Forged => f.write_str("the receipt's signature does not match what it says"),
        }
    }
}

impl std::error::Error for ReceiptFault {}

/// A route's or backend's name is too long for a receipt (255 bytes), or there is no key to sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsigned(pub &'static str);

impl fmt::Display for Unsigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no receipt: {}", self.0)
    }
}

impl std::error::Error for Unsigned {}

/// Signs and verifies, with its keys prepared once.
#[derive(Clone)]
pub struct Signer {
    keys: Vec<Key>,
}

#[derive(Clone)]
struct Key {
    id: u8,
    mac: Hmac<Sha256>,
}

impl fmt::Debug for Signer {
    /// Never shows a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("keys", &self.keys.len()).finish()
    }
}

impl Signer {
    /// The first key signs, all verify.
    pub fn new<K: AsRef<[u8]>>(keys: &[K]) -> Self {
        Self { keys: keys.iter().filter_map(|key| Key::new(key.as_ref())).collect() }
    }

    /// Appends a receipt of those claims to `out`: rows past [`MAX_ROWS`] are not covered, a segment longer than
    /// [`MAX_SEGMENT_BYTES`] is left out.
    ///
    /// # Errors
    /// [`Unsigned`]; nothing was appended.
    pub fn sign(&self, claims: &Claims<'_>, out: &mut String) -> Result<(), Unsigned> {
        let key = self.keys.first().ok_or(Unsigned("there is no key to sign with"))?;
        let mut bytes: SmallVec<[u8; 256]> = SmallVec::new();
        bytes.extend_from_slice(&[if claims.arm.is_some() { FORM_WITH_ARM } else { FORM }, key.id]);
        bytes.extend_from_slice(&claims.id);
        bytes.extend_from_slice(&claims.policy.to_le_bytes());
        let segment = if claims.segment.len() > MAX_SEGMENT_BYTES { "" } else { claims.segment };
        for text in [claims.route, claims.backend, segment].into_iter().chain(claims.arm.map(|(arm, _)| arm)) {
            let len = u8::try_from(text.len()).map_err(|_| Unsigned("a name of more than 255 bytes"))?;
            bytes.push(len);
            bytes.extend_from_slice(text.as_bytes());
        }
        if let Some((_, propensity)) = claims.arm {
            bytes.extend_from_slice(&propensity.to_le_bytes());
        }
        let rows = &claims.rows[..claims.rows.len().min(MAX_ROWS)];
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_ROWS")]
        bytes.extend_from_slice(&(rows.len() as u16).to_le_bytes());
        for row in rows {
            bytes.extend_from_slice(&row.encode());
        }
        let tag = key.mac.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&tag[..TAG_BYTES]);
        URL_SAFE_NO_PAD.encode_string(&bytes, out);
        Ok(())
    }

    /// What a receipt says, if one of the keys signed it.
    ///
    /// # Errors
    /// [`ReceiptFault`].
    pub fn verify(&self, receipt: &str) -> Result<Receipt, ReceiptFault> {
        if receipt.len() > MAX_TEXT_BYTES {
            return Err(ReceiptFault::Malformed("it is too long"));
        }
        let bytes = URL_SAFE_NO_PAD.decode(receipt).map_err(|_| ReceiptFault::Malformed("no base64url"))?;
        let (body, tag) = bytes.split_last_chunk::<TAG_BYTES>().ok_or(ReceiptFault::Malformed("it is too short"))?;
        let (key_id, claimed) = parse(body)?;
        let mut known = self.keys.iter().filter(|key| key.id == key_id).peekable();
        if known.peek().is_none() {
            return Err(ReceiptFault::Foreign);
        }
        // Compares in constant time, so that the time taken says nothing of the right tag.
        let signed = known.any(|key| key.mac.clone().chain_update(body).verify_truncated_left(tag).is_ok());
        if signed { Ok(claimed) } else { Err(ReceiptFault::Forged) }
    }
}

impl Key {
    /// HMAC takes keys of any length, so there always is one.
    fn new(key: &[u8]) -> Option<Self> {
        let mac = Hmac::new_from_slice(key).ok()?;
        Some(Self { id: Sha256::digest(key)[0], mac })
    }
}

impl Row {
    const BYTES: usize = 10;
    const NO_CLASS: u8 = u8::MAX;

    fn encode(&self) -> [u8; Self::BYTES] {
        let [a, b, c, d] = self.score.to_le_bytes();
        let [e, f, g, h] = self.review_pi.to_le_bytes();
        let flags = u8::from(self.flagged == Some(true))
            | u8::from(self.sampled) << 1
            | u8::from(self.flagged.is_some()) << 2
            | (self.outcome & 7) << 3;
        [a, b, c, d, flags, self.class.unwrap_or(Self::NO_CLASS), e, f, g, h]
    }

    fn decode([a, b, c, d, flags, class, e, f, g, h]: [u8; Self::BYTES]) -> Self {
        Self {
            score: f32::from_le_bytes([a, b, c, d]),
            flagged: (flags & 4 != 0).then_some(flags & 1 != 0),
            sampled: flags & 2 != 0,
            outcome: flags >> 3 & 7,
            class: Some(class).filter(|class| *class != Self::NO_CLASS),
            review_pi: f32::from_le_bytes([e, f, g, h]),
        }
    }
}

/// What the bytes claim, and the id of the key they claim to be signed with. Nothing of it is to be believed yet.
fn parse(mut body: &[u8]) -> Result<(u8, Receipt), ReceiptFault> {
    const SHORT: ReceiptFault = ReceiptFault::Malformed("it ends early");
    let [form, key_id] = take_array(&mut body).ok_or(SHORT)?;
    if form != FORM && form != FORM_WITH_ARM {
        return Err(ReceiptFault::Malformed("an unknown form"));
    }
    let id = take_array(&mut body).ok_or(SHORT)?;
    let policy = take_array(&mut body).map(u32::from_le_bytes).ok_or(SHORT)?;
    let mut text = || -> Result<String, ReceiptFault> {
        let [len] = take_array(&mut body).ok_or(SHORT)?;
        let (text, rest) = body.split_at_checked(usize::from(len)).ok_or(SHORT)?;
        body = rest;
        String::from_utf8(text.to_vec()).map_err(|_| ReceiptFault::Malformed("a name that is not UTF-8"))
    };
    let (route, backend, segment) = (text()?, text()?, text()?);
    let arm = if form == FORM_WITH_ARM { Some(text()?) } else { None };
    let propensity = |body: &mut &[u8]| take_array(body).map(f32::from_le_bytes).ok_or(SHORT);
    let arm = arm.map(|arm| Ok((arm, propensity(&mut body)?))).transpose()?;
    let rows = take_array(&mut body).map(u16::from_le_bytes).ok_or(SHORT)?;
    let (encoded, rest) = body.as_chunks::<{ Row::BYTES }>();
    if encoded.len() != usize::from(rows) || !rest.is_empty() {
        return Err(ReceiptFault::Malformed("its rows do not fill it"));
    }
    let rows = encoded.iter().copied().map(Row::decode).collect();
    Ok((key_id, Receipt { id, policy, route, backend, segment, arm, rows }))
}

#[cfg(test)]
mod tests;
