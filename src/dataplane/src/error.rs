//! Faults of a policy document, each with the place where it stands.
//!
//! A document is compiled as a whole: every fault is reported at once, and nothing of a faulty document is used.

use std::fmt;

/// One step into the policy document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Index(usize),
}

/// What is wrong with a policy document, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From the document's root to the value at fault.
    pub path: Vec<Step>,
    /// What was found, what was wanted, and the mend.
    pub message: String,
    /// Line within a CEL text, from 1.
    pub line: Option<u32>,
    /// Column (in characters) within that line, from 1.
    pub column: Option<u32>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.path.iter().enumerate() {
            match step {
                Step::Key(key) if position == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        if !self.path.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(&self.message)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, " (line {line}, column {column})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}
