//! Paths into messages: `items[].score`, `outputs["scores"]`, `customer.country`.
//!
//! ```text
//! path  = part { "." part }
//! part  = name [ index ]
//! name  = letter or "_", then letters, digits and "_"
//! index = "[]"               every element, or every value
//!       | "[" digits "]"     one element from 0 on, or the entry of a map whose keys are numbers
//!       | "[" string "]"     the entry of a map; in double quotes, with \" and \\
//! ```

use std::borrow::Cow;

/// Parts of a path; each costs a level of nesting.
pub const MOST_PARTS: usize = 16;
/// A longer path is no path.
const MOST_BYTES: usize = 1024;
/// The last element that a path may name: those before it are walked, and written in a static answer.
pub const MOST_INDEX: u64 = 255;

/// What stands in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Index<'t> {
    /// `[]`
    Each,
    /// `[3]`; may be negative as the key of a map.
    Number(i64),
    /// `["key"]`
    Text(Cow<'t, str>),
}

/// A field by name, with what stands in brackets behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<'t> {
    pub name: &'t str,
    pub index: Option<Index<'t>>,
    /// Where it begins: characters, from 1.
    pub column: u32,
}

/// What is wrong with a path, and where: characters, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathFault {
    pub column: u32,
    pub message: String,
}

impl PathFault {
    pub fn new(column: u32, message: impl Into<String>) -> Self {
        Self { column, message: message.into() }
    }
}

/// Reads a path.
///
/// # Errors
/// [`PathFault`], the first.
pub fn parse(text: &str) -> Result<Vec<Part<'_>>, PathFault> {
    if text.len() > MOST_BYTES {
        return Err(PathFault::new(1, format!("a path of {} bytes, wanted at most {MOST_BYTES}", text.len())));
    }
    let mut reader = Reader { text, at: 0 };
    let mut parts = Vec::new();
    loop {
        if parts.len() == MOST_PARTS {
            return Err(reader.fault(format!("more than {MOST_PARTS} parts")));
        }
        let column = reader.column();
        let name = reader.name()?;
        let index = reader.index()?;
        parts.push(Part { name, index, column });
        match reader.peek() {
            None => return Ok(parts),
            Some('.') => reader.skip(1),
            Some('[') => return Err(reader.fault("a second pair of brackets: a list holds no lists")),
            Some(other) => return Err(reader.fault(format!("found {other:?}, wanted `.` or `[`"))),
        }
    }
}

struct Reader<'t> {
    text: &'t str,
    /// In bytes.
    at: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    fn column(&self) -> u32 {
        let before = self.text.get(..self.at).unwrap_or(self.text);
        u32::try_from(before.chars().count() + 1).unwrap_or(u32::MAX)
    }

    fn fault(&self, message: impl Into<String>) -> PathFault {
        PathFault::new(self.column(), message)
    }

    fn name(&mut self) -> Result<&'t str, PathFault> {
        let rest = self.rest();
        let end = rest.find(|one: char| !(one.is_ascii_alphanumeric() || one == '_')).unwrap_or(rest.len());
        let name = &rest[..end];
        if name.is_empty() || name.starts_with(|one: char| one.is_ascii_digit()) {
            let found = self.peek().map_or("the path ends".to_owned(), |one| format!("found {one:?}"));
            return Err(self.fault(format!("{found}, wanted the name of a field")));
        }
        self.skip(end);
        Ok(name)
    }

    fn index(&mut self) -> Result<Option<Index<'t>>, PathFault> {
        let Some(inner) = self.rest().strip_prefix('[') else { return Ok(None) };
        let index = match inner.chars().next() {
            Some(']') => {
                self.skip(2);
                return Ok(Some(Index::Each));
            }
            Some('"') => {
                self.skip(2);
                Index::Text(self.string()?)
            }
            Some(one) if one.is_ascii_digit() || one == '-' => {
                let end = inner.find(|one: char| !(one.is_ascii_digit() || one == '-')).unwrap_or(inner.len());
                let number = inner[..end].parse().map_err(|_| self.fault("a number that is none"))?;
                self.skip(1 + end);
                Index::Number(number)
            }
            _ => {
                self.skip(1);
                return Err(self.fault("wanted `]`, a number, or a key in double quotes"));
            }
        };
        if self.peek() != Some(']') {
            return Err(self.fault("wanted `]`"));
        }
        self.skip(1);
        Ok(Some(index))
    }

    /// A text up to its closing quote, which is passed.
    fn string(&mut self) -> Result<Cow<'t, str>, PathFault> {
        let rest = self.rest();
        let mut made: Option<String> = None;
        let mut characters = rest.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.skip(at + 1);
                    return Ok(made.map_or(Cow::Borrowed(&rest[..at]), Cow::Owned));
                }
                '\\' => {
                    let made = made.get_or_insert_with(|| rest[..at].to_owned());
                    match characters.next() {
                        Some((_, escaped @ ('"' | '\\'))) => made.push(escaped),
                        _ => {
                            self.skip(at);
                            return Err(self.fault("wanted \\\" or \\\\"));
                        }
                    }
                }
                other => {
                    if let Some(made) = &mut made {
                        made.push(other);
                    }
                }
            }
        }
        Err(self.fault("a key without its closing quote"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(parts: &[Part<'_>]) -> String {
        let mut text = String::new();
        for part in parts {
            text.push_str(if text.is_empty() { "" } else { "." });
            text.push_str(part.name);
            match &part.index {
                None => {}
                Some(Index::Each) => text.push_str("[]"),
                Some(Index::Number(number)) => text.push_str(&format!("[{number}]")),
                Some(Index::Text(key)) => {
                    text.push_str(&format!("[\"{}\"]", key.replace('\\', "\\\\").replace('"', "\\\"")));
                }
            }
        }
        text
    }

    #[test]
    fn faults_say_where() {
        for (text, column, words) in [
            ("", 1, "the path ends"),
            ("a.", 3, "the path ends"),
            ("a..b", 3, "found '.'"),
            ("a[", 3, "wanted `]`"),
            ("a[x]", 3, "wanted `]`"),
            ("a[1", 4, "wanted `]`"),
            ("a[1-]", 2, "a number that is none"),
            ("a[99999999999999999999]", 2, "a number that is none"),
            ("a[\"k]", 4, "closing quote"),
            ("a[\"k\\n\"]", 5, "wanted \\\""),
            ("a[0][0]", 5, "a list holds no lists"),
            ("a b", 2, "found ' '"),
            ("1a", 1, "wanted the name"),
            ("\u{fc}.a", 1, "wanted the name"),
        ] {
            let fault = parse(text).unwrap_err();
            assert_eq!(fault.column, column, "{text}: {}", fault.message);
            assert!(fault.message.contains(words), "{text}: {}", fault.message);
        }
        assert!(parse(&["a"; 17].join(".")).unwrap_err().message.contains("16 parts"));
        assert!(parse(&"a".repeat(1025)).unwrap_err().message.contains("1024"));
    }

    proptest! {
        #[test]
        fn a_path_reads_back_as_it_was_written(
            parts in prop::collection::vec(("[a-z_][a-z0-9_]{0,5}", 0_u8..4, any::<i64>(), ".{0,5}"), 1..16)
        ) {
            let parts: Vec<Part<'_>> = parts.iter().map(|(name, kind, number, key)| Part {
                name,
                index: match kind {
                    0 => None,
                    1 => Some(Index::Each),
                    2 => Some(Index::Number(*number)),
                    _ => Some(Index::Text(Cow::Borrowed(key))),
                },
                column: 0,
            }).collect();
            let text = shown(&parts);
            let read: Vec<Part<'_>> =
                parse(&text).unwrap().into_iter().map(|part| Part { column: 0, ..part }).collect();
            prop_assert_eq!(read, parts);
        }

        #[test]
        fn any_text_is_a_path_or_a_fault(text in "\\PC{0,40}") {
            if let Err(fault) = parse(&text) {
                prop_assert!(fault.column as usize <= text.chars().count() + 1);
            }
        }

        #[test]
        fn texts_that_look_like_paths_are_paths_or_faults(text in "[a\\[\\]\"\\\\.0-9-]{0,12}") {
            let _ = parse(&text);
        }
    }
}
