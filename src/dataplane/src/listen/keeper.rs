//! Sees to it that a connection's peer is there, beside the connection and not on its calls' way.
//!
//! A peer that has vanished without a word (a machine without power, a lost route) leaves a connection on which nothing
//! comes; only a ping tells it from one that is quiet.

use std::rc::Rc;
use std::time::Duration;

use crate::forward::transport::limits::Listening;
use crate::forward::transport::{Close, Conduct, Cork, Socket};

/// Looks after a connection until it says that it is to be closed.
pub async fn run(conduct: Rc<Conduct>, cork: Cork<Socket>, limits: Listening) {
    let why = loop {
        let (before, block) = (cork.progress(), cork.open_block());
        tokio::time::sleep(Duration::from_millis(limits.keepalive_ms)).await;
        let now = cork.progress();
        if conduct.is_choked() && now.written == before.written {
            break Close::Stalled;
        }
        if block.is_some() && cork.open_block() == block {
            break Close::Unfinished;
        }
        if now.read == before.read {
            cork.ping();
            conduct.wake();
            tokio::time::sleep(Duration::from_millis(limits.keepalive_timeout_ms)).await;
            if cork.progress().read == now.read {
                break Close::Silent;
            }
        }
    };
    conduct.close(why);
}
