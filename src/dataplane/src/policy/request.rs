//! What a decision sees of a request: borrowed from the call, never copied.

use super::memory::Memory;
use super::peer::Peer;
use super::spec::{Input, Param};

/// The call's metadata, by lower-case name. Binary values (`-bin`) are not seen by decisions.
pub trait Metadata: Sync {
    /// The first value of that name.
    fn get(&self, name: &str) -> Option<&str>;
    /// The first value of that name, as it came; a unit is hashed, so it need not be text.
    fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.get(name).map(str::as_bytes)
    }
    /// Every name with its values.
    fn each(&self, visit: &mut dyn FnMut(&str, &str));
}

/// A list of pairs is metadata: for tests, `explain` and benchmarks.
impl<N: AsRef<str> + Sync, V: AsRef<str> + Sync> Metadata for Vec<(N, V)> {
    fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.iter().find(|(known, _)| known.as_ref() == name)?;
        Some(value.as_ref())
    }

    fn each(&self, visit: &mut dyn FnMut(&str, &str)) {
        for (name, value) in self {
            visit(name.as_ref(), value.as_ref());
        }
    }
}

/// What a decision sees of a request.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// `/package.Service/Method`.
    pub method: &'a str,
    /// Empty where the method names no model.
    pub model: &'a str,
    /// The request's own id, empty if it has none.
    pub id: &'a str,
    /// First dimension of the first input; 1 if unknown.
    pub rows: u32,
    pub params: &'a [(&'a str, Param<'a>)],
    pub inputs: &'a [Input<'a>],
    pub metadata: &'a dyn Metadata,
    /// Whom the caller has shown to be; `None` without TLS.
    pub caller: Option<&'a Peer>,
    /// What is remembered of units and routes; `None` remembers nothing.
    pub memory: Option<&'a dyn Memory>,
}

impl<'a> Request<'a> {
    /// The value of a parameter.
    pub fn param(&self, name: &str) -> Option<Param<'a>> {
        self.params.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}
