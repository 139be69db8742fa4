//! Texts that many rows share, kept once a batch.

use std::collections::HashMap;

/// No text.
pub const NO_TEXT: u32 = u32::MAX;
/// Different texts in one batch; what comes after is shown as none.
const MAX_TEXTS: usize = 8192;
/// Texts that are compared one by one: a batch has rarely more, and hashing each took as long as all other columns.
const NEAR_TEXTS: usize = 8;
/// The longest text kept.
const MAX_TEXT_BYTES: usize = 256;

/// Texts and their indexes.
#[derive(Debug, Default)]
pub struct Strings {
    texts: Vec<String>,
    index: HashMap<Box<str>, u32>,
}

impl Strings {
    /// The index of a text; [`NO_TEXT`] when the batch holds too many others.
    pub fn intern(&mut self, text: &str) -> u32 {
        let near = self.texts.iter().take(NEAR_TEXTS).zip(0_u32..).find(|(known, _)| *known == text);
        if let Some((_, index)) = near {
            return index;
        }
        if self.texts.len() > NEAR_TEXTS
            && let Some(&index) = self.index.get(text)
        {
            return index;
        }
        if self.texts.len() >= MAX_TEXTS || text.len() > MAX_TEXT_BYTES {
            return NO_TEXT;
        }
        let index = u32::try_from(self.texts.len()).unwrap_or(NO_TEXT);
        self.texts.push(text.to_owned());
        self.index.insert(text.into(), index);
        index
    }

    /// The texts by index.
    #[must_use]
    pub fn into_texts(self) -> Vec<String> {
        self.texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once_and_their_number_is_bounded() {
        let mut strings = Strings::default();
        assert_eq!(strings.intern("a"), 0);
        assert_eq!(strings.intern("b"), 1);
        assert_eq!(strings.intern("a"), 0);
        for n in 0..MAX_TEXTS {
            strings.intern(&n.to_string());
        }
        assert_eq!(strings.intern("one too many"), NO_TEXT);
        assert_eq!(strings.intern(&"x".repeat(300)), NO_TEXT);
        assert_eq!(strings.into_texts().len(), MAX_TEXTS);
    }
}
