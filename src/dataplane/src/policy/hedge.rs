//! When a late attempt gets company: `hedge` of a route.

use std::time::Duration;

use super::compile::milliseconds;
use super::document::Node;

/// When an attempt is late, so that the next model is asked beside it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum After {
    Fixed(Duration),
    /// This quantile of the backend's own times.
    Quantile(f64),
}

/// How a route hedges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hedge {
    pub after: After,
    /// Of the route's calls, at most.
    pub share: f64,
}

/// Reads it out of the document.
pub(super) fn hedge(node: &Node) -> Option<Hedge> {
    if node.is_null() || !node.object(&["after_ms", "quantile", "share"]) {
        return None;
    }
    let quantile = node.field("quantile");
    let after = match (milliseconds(&node.field("after_ms")), quantile.number()) {
        (Some(after), None) => After::Fixed(after),
        (None, Some(share)) if share > 0.0 && share < 1.0 => After::Quantile(share),
        (None, Some(_)) => {
            quantile.fault("wanted a number between 0 and 1");
            return None;
        }
        _ => {
            node.fault("wanted one of `after_ms` and `quantile`");
            return None;
        }
    };
    Some(Hedge { after, share: node.field("share").need_share() })
}
