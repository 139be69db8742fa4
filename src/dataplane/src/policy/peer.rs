//! Whom a caller has shown to be, by a certificate that was verified; and who may call at all.

use std::collections::HashSet;

/// The other end of a TLS connection. Metadata never makes one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    names: Vec<String>,
}

impl Peer {
    /// A caller of these names, the one that tells most first; without any it is nobody in particular.
    #[must_use]
    pub fn new(names: Vec<String>) -> Self {
        Self { names }
    }

    /// The first name; empty for nobody in particular.
    #[must_use]
    pub fn id(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// Every name.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

/// Who may call: exact names, and patterns in which `*` stands for any part between two `/`, or, at the end, for all that
/// follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    exact: HashSet<Box<str>>,
    patterns: Vec<Box<str>>,
}

impl Allow {
    /// The patterns as the settings write them.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let mut allow = Self::default();
        for pattern in patterns {
            if pattern.contains('*') {
                allow.patterns.push(pattern.into());
            } else {
                allow.exact.insert(pattern.into());
            }
        }
        allow
    }

    /// Whether any name of the caller's is among them; nobody never is.
    #[must_use]
    pub fn admits(&self, peer: Option<&Peer>) -> bool {
        let admits = |name: &String| {
            self.exact.contains(name.as_str()) || self.patterns.iter().any(|pattern| matches(pattern, name))
        };
        peer.is_some_and(|peer| peer.names().iter().any(admits))
    }

    /// What a caller that may not call is told.
    #[must_use]
    pub fn refusal(peer: Option<&Peer>) -> String {
        match peer.map_or("", Peer::id) {
            "" => "this gateway wants to know its callers: a client certificate with a name is needed".to_owned(),
            id => format!("{id} is not among those that may call this gateway"),
        }
    }
}

/// Parts are what stands between two `/`; `*` within a part never reaches beyond it, but at the very end of the pattern.
fn matches(pattern: &str, name: &str) -> bool {
    let (mut parts, mut found) = (pattern.split('/').peekable(), name.split('/'));
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        let Some(text) = found.next() else { return false };
        if last && let Some(start) = part.strip_suffix('*').filter(|start| !start.contains('*')) {
            // What follows may be of several parts, but not of none.
            return text.starts_with(start) && (text.len() > start.len() || found.next().is_some());
        }
        if !part_matches(part, text) {
            return false;
        }
    }
    found.next().is_none()
}

/// One part, in which at most one `*` stands for one or more characters.
fn part_matches(part: &str, text: &str) -> bool {
    match part.split_once('*') {
        None => part == text,
        Some((start, end)) => text.len() > start.len() + end.len() && text.starts_with(start) && text.ends_with(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_stands_for_a_part_or_for_all_that_follows() {
        for (pattern, name, wanted) in [
            ("spiffe://acme/ns/prod/*", "spiffe://acme/ns/prod/sa/web", true),
            ("spiffe://acme/ns/prod/*", "spiffe://acme/ns/prod/web", true),
            ("spiffe://acme/ns/prod/*", "spiffe://acme/ns/prod/", false),
            ("spiffe://acme/ns/prod/*", "spiffe://acme/ns/prod", false),
            ("spiffe://acme/ns/prod/*", "spiffe://acme/ns/production/web", false),
            ("spiffe://acme/ns/prod*", "spiffe://acme/ns/production/web", true),
            ("spiffe://acme/ns/*/sa/web", "spiffe://acme/ns/prod/sa/web", true),
            ("spiffe://acme/ns/*/sa/web", "spiffe://acme/ns/prod/x/sa/web", false),
            ("spiffe://acme/ns/*/sa/web", "spiffe://acme/ns//sa/web", false),
            ("spiffe://*/ns/prod/sa/web", "spiffe://evil/ns/prod/sa/web", true),
            ("*.acme.org", "api.acme.org", true),
            ("*.acme.org", "a.b.acme.org", true),
            ("*.acme.org", ".acme.org", false),
            ("*.acme.org", "api.acme.org.evil.org", false),
            ("*.acme.org", "evil.org/.acme.org", false),
            ("web-*", "web-1", true),
            ("*", "anyone", true),
            ("*", "", false),
        ] {
            assert_eq!(matches(pattern, name), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn nobody_is_never_admitted() {
        let allow = Allow::new(["*"]);
        assert!(!allow.admits(None));
        assert!(!allow.admits(Some(&Peer::default())));
        assert!(allow.admits(Some(&Peer::new(vec!["x".into()]))));
    }

    proptest! {
        #[test]
        fn a_name_matches_itself_and_what_it_begins_with(name in "[a-z/.]{1,20}", more in "[a-z/]{1,10}") {
            prop_assert!(Allow::new([name.as_str()]).admits(Some(&Peer::new(vec![name.clone()]))));
            let longer = format!("{name}{more}");
            prop_assert!(matches(&format!("{name}*"), &longer), "{}* {}", name, longer);
            let shorter = matches(&format!("{longer}*"), &name);
            prop_assert!(!shorter);
        }
    }
}
