//! Follows one path through a message. What it meets is handed to a [`Sink`], value by value and row by row; nothing is
//! gathered here, whatever the message holds.

use crate::policy::descriptor::{FieldPath, Key, Kind, Step, Take};
use crate::wire::proto::{self, ENDS_EARLY, Fields, Malformed, Stop, Value};

use super::scalar::{elements, integer_of, is_of, zero};

/// More parts than a path has: `policy::descriptor` bounds them.
const MOST_STEPS: usize = 16;

/// Takes what a path leads to.
pub trait Sink<'a> {
    /// Why it cannot be taken.
    type Fault: From<Malformed>;

    /// A value of the row under way; where a path takes one, the last counts. Not `whole`: of a tensor, what is here.
    fn value(&mut self, value: Value<'a>, whole: bool) -> Result<(), Self::Fault>;

    /// An entry of a map by class.
    fn entry(&mut self, _key: &'a [u8], _value: Value<'a>) -> Result<(), Self::Fault> {
        Ok(())
    }

    /// What was taken of the row under way does not count; nor, with `rows`, do those before it.
    fn forget(&mut self, rows: bool);

    /// The row ends. `reached`: the message that holds the value was there, so that an absent value may mean zero.
    fn row(&mut self, reached: bool) -> Result<(), Self::Fault>;
}

/// Follows the path. A message that is not `whole` is followed as far as it goes; its last row is left out if it is cut.
///
/// # Errors
/// Not a protobuf message, or what the sink says.
pub fn follow<'a, S: Sink<'a>>(path: &FieldPath, message: &'a [u8], whole: bool, sink: &mut S) -> Result<(), S::Fault> {
    let Some(last) = path.steps.len().checked_sub(1).filter(|last| *last < MOST_STEPS) else {
        return Ok(());
    };
    let each = path.steps.iter().position(|step| step.take == Take::Each);
    let mut scan =
        Scan { steps: &path.steps, kind: &path.kind, last, each, seen: [0; MOST_STEPS], reached: false, sink };
    scan.message(0, message, whole)?;
    if each.is_none() {
        let reached = scan.reached;
        sink.row(reached)?;
    }
    Ok(())
}

struct Scan<'p, 's, S> {
    steps: &'p [Step],
    kind: &'p Kind,
    last: usize,
    /// The step whose elements are rows.
    each: Option<usize>,
    /// Elements met at each step, within the message around them.
    seen: [u32; MOST_STEPS],
    reached: bool,
    sink: &'s mut S,
}

/// Whether all of a message was there; if not, nothing comes after it.
type Complete = bool;

impl<'a, S: Sink<'a>> Scan<'_, '_, S> {
    fn message(&mut self, at: usize, message: &'a [u8], whole: bool) -> Result<Complete, S::Fault> {
        let step = &self.steps[at];
        if at == self.last {
            self.reached = true;
        }
        let mut fields = Fields::new(message);
        loop {
            match fields.next_field() {
                Ok(Some(found)) if found.number == step.field => {
                    if !self.field(at, found.value, true)? {
                        return Ok(false);
                    }
                }
                Ok(Some(found)) => {
                    if step.rivals.contains(&found.number) {
                        self.forget(at);
                    }
                }
                Ok(None) => return Ok(whole),
                Err(Stop::Malformed(malformed)) => return Err(malformed.into()),
                Err(Stop::Cut { .. }) if whole => return Err(ENDS_EARLY.into()),
                Err(Stop::Cut { number, held }) => {
                    if let Some(held) = held.filter(|_| number == step.field) {
                        self.field(at, Value::Bytes(held), false)?;
                    }
                    return Ok(false);
                }
            }
        }
    }

    /// What stands beneath this step does not count any more.
    fn forget(&mut self, at: usize) {
        self.seen[at + 1..].fill(0);
        self.reached = at == self.last;
        self.sink.forget(self.each.is_some_and(|each| each > at));
    }

    fn field(&mut self, at: usize, value: Value<'a>, whole: bool) -> Result<Complete, S::Fault> {
        let step = &self.steps[at];
        if at == self.last {
            return self.leaf(at, value, whole).map(|()| whole);
        }
        let Value::Bytes(message) = value else { return Ok(true) };
        match &step.take {
            Take::One | Take::All | Take::ByClass => self.message(at + 1, message, whole),
            Take::At(wanted) => {
                let seen = self.seen[at];
                self.seen[at] = seen.saturating_add(1);
                if seen == *wanted { self.message(at + 1, message, whole) } else { Ok(whole) }
            }
            Take::Each => {
                self.forget(at);
                if !self.message(at + 1, message, whole)? {
                    return Ok(false);
                }
                self.sink.row(self.reached)?;
                Ok(true)
            }
            Take::Key(key) => {
                let entry = Entry::read(message, whole)?;
                if !entry.is(key) {
                    return Ok(whole);
                }
                self.forget(at);
                let mut fields = Fields::new(message);
                let mut there = false;
                loop {
                    match fields.next_field() {
                        Ok(Some(found)) => {
                            if let (2, Value::Bytes(value)) = (found.number, found.value) {
                                there = true;
                                self.message(at + 1, value, true)?;
                            }
                        }
                        Err(Stop::Cut { number: 2, held: Some(held) }) if !whole => {
                            return self.message(at + 1, held, false);
                        }
                        _ => break,
                    }
                }
                if there || !whole { Ok(whole) } else { self.message(at + 1, &[], true) }
            }
        }
    }

    fn leaf(&mut self, at: usize, value: Value<'a>, whole: bool) -> Result<(), S::Fault> {
        let kind = self.kind;
        // Half a text is no text; half a tensor has its shape, half a list its first elements.
        let usable = |kind: &Kind| whole || matches!(kind, Kind::Tensor | Kind::Number(_) | Kind::Enum(_));
        match &self.steps[at].take {
            Take::One => {
                if is_of(kind, value) && usable(kind) {
                    self.sink.value(value, whole)?;
                }
            }
            Take::At(wanted) => {
                let (sink, seen) = (&mut *self.sink, &mut self.seen[at]);
                elements(kind, value, whole, |element| {
                    let place = *seen;
                    *seen = place.saturating_add(1);
                    if place == *wanted && usable(kind) { sink.value(element, whole) } else { Ok(()) }
                })?;
            }
            Take::Each => {
                let sink = &mut *self.sink;
                elements(kind, value, whole, |element| {
                    if !usable(kind) {
                        return Ok(());
                    }
                    sink.forget(false);
                    sink.value(element, whole)?;
                    sink.row(true)
                })?;
            }
            Take::All => {
                let sink = &mut *self.sink;
                elements(kind, value, whole, |element| if usable(kind) { sink.value(element, whole) } else { Ok(()) })?;
            }
            take @ (Take::Key(_) | Take::ByClass) => {
                let Value::Bytes(bytes) = value else { return Ok(()) };
                let entry = Entry::read(bytes, whole)?;
                let value = entry.value(kind, bytes, whole);
                match (take, entry.key, value) {
                    (Take::Key(key), _, value) if entry.is(key) => {
                        self.forget(at);
                        if let Some((value, whole)) = value {
                            self.sink.value(value, whole)?;
                        }
                    }
                    (Take::ByClass, None, Some((value, true))) => self.sink.entry(&[], value)?,
                    (Take::ByClass, Some(Value::Bytes(key)), Some((value, true))) => self.sink.entry(key, value)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// An entry of a map: a message of a key (1) and a value (2).
struct Entry<'a> {
    key: Option<Value<'a>>,
}

impl<'a> Entry<'a> {
    fn read(entry: &'a [u8], whole: bool) -> Result<Self, Malformed> {
        let mut key = None;
        let mut fields = Fields::new(entry);
        loop {
            match fields.next_field() {
                Ok(Some(found)) if found.number == 1 => key = Some(found.value),
                Ok(Some(_)) => {}
                Ok(None) => return Ok(Self { key }),
                Err(Stop::Cut { .. }) if !whole => return Ok(Self { key }),
                Err(stop) => return Err(stop.into()),
            }
        }
    }

    fn is(&self, wanted: &Key) -> bool {
        is_key(wanted, self.key)
    }

    /// The last value; and whether all of it is here.
    fn value(&self, kind: &Kind, entry: &'a [u8], whole: bool) -> Option<(Value<'a>, bool)> {
        let mut last = None;
        let mut fields = Fields::new(entry);
        loop {
            match fields.next_field() {
                Ok(Some(found)) if found.number == 2 && is_of(kind, found.value) => last = Some((found.value, true)),
                Ok(Some(_)) => {}
                Err(Stop::Cut { number: 2, held: Some(held) }) if !whole && *kind == Kind::Tensor => {
                    return Some((Value::Bytes(held), false));
                }
                Ok(None) | Err(_) => break,
            }
        }
        last.or_else(|| whole.then(|| (zero(kind), true)))
    }
}

/// Whether a map's key is this one; an absent key is zero or empty.
pub fn is_key(wanted: &Key, found: Option<Value<'_>>) -> bool {
    match (wanted, found) {
        (Key::Text(text), Some(Value::Bytes(key))) => key == text.as_bytes(),
        (Key::Text(text), _) => text.is_empty(),
        (Key::Int(number, wanted), Some(key)) => integer_of(*number, key).unwrap_or(0) == *wanted,
        (Key::Int(_, wanted), None) => *wanted == 0,
    }
}

/// The one value that a path leads to, where it leads to one.
#[derive(Default)]
pub struct One<'a> {
    /// The value, and whether all of it is here.
    pub value: Option<(Value<'a>, bool)>,
    /// Values met: of what cannot be merged there must be one.
    pub met: u32,
    /// The message that holds it was there.
    pub reached: bool,
}

impl<'a> Sink<'a> for One<'a> {
    type Fault = Malformed;

    fn value(&mut self, value: Value<'a>, whole: bool) -> Result<(), Malformed> {
        self.value = Some((value, whole));
        self.met = self.met.saturating_add(1);
        Ok(())
    }

    fn forget(&mut self, _rows: bool) {
        *self = Self::default();
    }

    fn row(&mut self, reached: bool) -> Result<(), Malformed> {
        self.reached = reached;
        Ok(())
    }
}

/// The value of a path without rows; zero where its absence says so.
///
/// # Errors
/// Not a protobuf message.
pub fn one<'a>(path: &FieldPath, message: &'a [u8], whole: bool) -> Result<Option<(Value<'a>, bool)>, Malformed> {
    let mut sink = One::default();
    follow(path, message, whole, &mut sink)?;
    if sink.value.is_none() && sink.reached && whole && path.zero_if_absent {
        return Ok(Some((zero(&path.kind), true)));
    }
    Ok(sink.value)
}

/// The text of a value.
///
/// # Errors
/// Not UTF-8.
pub fn text(value: Value<'_>) -> Result<&str, Malformed> {
    match value {
        Value::Bytes(bytes) => proto::text(bytes),
        _ => Ok(""),
    }
}
