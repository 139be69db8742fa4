//! Whose call it is: the unit that choices stick to, and the slice of traffic it belongs to (`device=phone,country=de`),
//! short enough for a receipt.
//!
//! What a caller sends cannot make the text long or ambiguous: a value that is too long, or holds what the text is
//! parted by, counts as `other`; a value that is absent leaves its segment out.

use super::compiled::Source;
use super::peer::Peer;
use super::request::Request;
use super::spec::Param;

/// Metadata by which a caller names the unit.
pub const UNIT_METADATA: &str = "gateway-unit";
/// A receipt holds no more.
pub const SEGMENT_BYTES: usize = 64;
/// A share smaller than this per value would turn most values into `other`.
pub const LEAST_VALUE_BYTES: usize = 5;
const OTHER: &str = "other";

/// The segments of a policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Segments {
    names: Vec<(Box<str>, Source)>,
    /// How long a value may be, such that all of them fit.
    value_bytes: usize,
}

impl Segments {
    /// `None` if the names leave too little room for values.
    pub fn new(names: Vec<(Box<str>, Source)>) -> Option<Self> {
        if names.is_empty() {
            return Some(Segments::default());
        }
        // Each name with its `=`, and a comma between them.
        let taken = names.iter().map(|(name, _)| name.len() + 1).sum::<usize>() + names.len() - 1;
        let value_bytes = SEGMENT_BYTES.checked_sub(taken)? / names.len();
        (value_bytes >= LEAST_VALUE_BYTES).then_some(Segments { names, value_bytes })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|(name, _)| &**name)
    }

    /// The segment of a call.
    pub fn of(&self, request: &Request) -> Segment {
        let mut segment = Segment::default();
        for (name, source) in &self.names {
            with_value(source, request, |value| {
                let fits = value.len() <= self.value_bytes && value.bytes().all(plain);
                segment.push(name, if fits { value } else { OTHER });
            });
        }
        segment
    }
}

fn plain(byte: u8) -> bool {
    byte > b' ' && byte != b',' && byte != b'=' && byte != 0x7f
}

/// Hands the value of a source to `take`, as text; does nothing where it is absent or empty.
pub(super) fn with_value(source: &Source, request: &Request, take: impl FnOnce(&str)) {
    match source {
        Source::Metadata(name) => match request.metadata.get(name) {
            Some(value) if !value.is_empty() => take(value),
            _ => {}
        },
        Source::Param(name) => match request.param(name) {
            Some(Param::Text("")) | None => {}
            Some(Param::Text(value)) => take(value),
            Some(Param::Bool(value)) => take(if value { "true" } else { "false" }),
            Some(Param::Int(value)) => take(&value.to_string()),
            Some(Param::Float(value)) => take(&value.to_string()),
        },
        Source::CallerId => match request.caller.map_or("", Peer::id) {
            "" => {}
            id => take(id),
        },
    }
}

/// Hands over the bytes of the unit: metadata (unless the settings' source is the
/// certificate), else the settings' source, else the request's id, else the decision's.
pub(super) fn with_unit(source: Option<&Source>, request: &Request, id: &[u8; 16], take: impl FnOnce(&[u8])) {
    let mut take = Some(take);
    let mut once = |unit: &[u8]| {
        if let Some(take) = take.take() {
            take(unit);
        }
    };
    let named = |name: &str| request.metadata.bytes(name).filter(|unit| !unit.is_empty());
    // Who is held to what a certificate says does not choose the unit by metadata.
    if source != Some(&Source::CallerId)
        && let Some(unit) = named(UNIT_METADATA)
    {
        return once(unit);
    }
    match source {
        Some(Source::Metadata(name)) => {
            if let Some(unit) = named(name) {
                return once(unit);
            }
        }
        Some(source) => with_value(source, request, |unit| once(unit.as_bytes())),
        None => {}
    }
    if !request.id.is_empty() {
        once(request.id.as_bytes());
    }
    once(id);
}

/// The text of a call's segment, held inline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    length: u8,
    bytes: [u8; SEGMENT_BYTES],
}

impl Default for Segment {
    fn default() -> Self {
        Segment { length: 0, bytes: [0; SEGMENT_BYTES] }
    }
}

impl Segment {
    fn push(&mut self, name: &str, value: &str) {
        if self.length > 0 {
            self.append(",");
        }
        self.append(name);
        self.append("=");
        self.append(value);
    }

    fn append(&mut self, text: &str) {
        let start = usize::from(self.length);
        let Some(room) = self.bytes.get_mut(start..start + text.len()) else { return };
        room.copy_from_slice(text.as_bytes());
        self.length += u8::try_from(text.len()).unwrap_or(0);
    }

    /// `device=phone,country=de`; empty if the call has none.
    pub fn text(&self) -> &str {
        // Made of whole texts only, so this is always UTF-8.
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or("")
    }

    /// The value of one segment.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.each().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Names and values.
    pub fn each(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text().split(',').filter_map(|pair| pair.split_once('='))
    }
}
