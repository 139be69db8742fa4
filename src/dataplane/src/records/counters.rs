//! Counts that a worker keeps for itself; they are summed only when someone asks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter { $($(#[$doc])* $name),* }

        /// The names that Python sees, by counter.
        const NAMES: &[&str] = &[$($text),*];
    };
}

counters! {
    /// Calls whose record found no room.
    RecordsFull = "dropped.records.full",
    /// Captures for review that found no room.
    CapturesFull = "dropped.capture.full",
    /// Captures of a request that was longer than what is kept.
    CapturesTooLong = "dropped.capture.too_long",
    /// Captures of a request that could not be redacted.
    CapturesUnreadable = "dropped.capture.unreadable",
    /// Copies not sent: the shadow has its fill of calls.
    MirrorInFlight = "dropped.mirror.in_flight",
    /// Copies not sent: their bytes would pass the cap.
    MirrorBytes = "dropped.mirror.bytes",
    /// Copies not sent: the request was longer than what is kept.
    MirrorReplay = "dropped.mirror.replay",
    /// Copies whose answer did not come in time.
    MirrorTimeout = "dropped.mirror.timeout",
    /// Copies not sent: what was to be taken out of them could not be found.
    MirrorUnreadable = "dropped.mirror.unreadable",
    /// Copies given up: their answers would pass the bytes that may be held.
    MirrorAnswer = "dropped.mirror.answer",
    /// Copies whose answer could not be read.
    MirrorInvalid = "dropped.mirror.invalid",
    /// Copies that failed otherwise.
    MirrorError = "dropped.mirror.error",
    /// Fallbacks not taken: the request was longer than what is kept.
    FallbackReplay = "dropped.fallback.replay",
    /// Calls whose late attempt got another one beside it.
    Hedged = "hedged.begun",
    /// Those of them that the second one answered first.
    HedgedFirst = "hedged.first",
    /// Late attempts left alone: as many were hedged as may be.
    HedgeBudget = "dropped.hedge.budget",
    /// Answers not given: those that callers have not read yet fill the memory kept for them.
    AnswersFull = "dropped.answer.full",
    /// Questions not put to a Python rule: as many as may wait were waiting.
    RulesFull = "dropped.python_rule.full",
    /// Python rules that did not answer in time.
    RulesLate = "dropped.python_rule.late",
    /// Python rules that raised, or said what is no answer.
    RulesFailed = "dropped.python_rule.failed",
    /// Calls not put before people: as many as may wait were waiting, or the request was too long.
    PeopleFull = "dropped.people.full",
    /// Calls that people did not answer in time.
    PeopleLate = "dropped.people.late",
    /// Calls that could not be put before people: the ledger did not take the task, or the gateway was stopping.
    PeopleFailed = "dropped.people.failed",
    /// Calls that a backend's in-flight limit turned away.
    OverloadBackend = "overload.backend",
    /// Connections turned away at the worker's limit.
    OverloadConnections = "overload.connections",
    /// Calls turned away at the worker's limit.
    OverloadCalls = "overload.calls",
    /// Connections that did not say in time, or rightly, that they speak HTTP/2.
    ConnectionHandshake = "dropped.connection.handshake",
    /// Connections closed for more pings than gRPC's rule allows.
    ConnectionPings = "dropped.connection.pings",
    /// Connections closed for a flood of frames that carry nothing.
    ConnectionControl = "dropped.connection.control_frames",
    /// Connections closed for giving up calls as fast as they make them.
    ConnectionResets = "dropped.connection.resets",
    /// Connections closed for what else breaks or floods the protocol.
    ConnectionProtocol = "dropped.connection.protocol",
    /// Connections whose peer has vanished.
    ConnectionSilent = "dropped.connection.silent",
    /// Connections whose peer takes nothing of what waits for it, or does not end what it began.
    ConnectionStalled = "dropped.connection.stalled",
    /// Connections to the TLS port that spoke no TLS.
    PlainText = "dropped.connection.plain_text",
    /// Connections that did not ask for HTTP/2 by ALPN.
    NoAlpn = "dropped.connection.no_alpn",
    /// Connections without a client certificate that holds.
    ClientCertificate = "dropped.connection.client_certificate",
    /// Connections whose handshake failed otherwise.
    Handshake = "dropped.connection.handshake",
    /// Connections whose handshake took too long.
    HandshakeTimeout = "dropped.connection.handshake_timeout",
    /// Calls of callers that are not among those that may call.
    NotAllowed = "dropped.call.not_allowed",
    /// Calls retried on another connection, as the first had not taken them up.
    RetriedUnprocessed = "retried.unprocessed",
    /// Calls made again after a failure, by their backend's `retry`.
    RetriedFailed = "retried.failed",
    /// Retries not made: the backend's budget was spent.
    RetryBudget = "dropped.retry.budget",
    /// Calls that the caller gave up.
    Cancelled = "cancelled",
}

/// One worker's counts.
#[derive(Debug)]
pub struct Counters([AtomicU64; NAMES.len()]);

impl Default for Counters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counters {
    /// One more.
    pub fn add(&self, counter: Counter) {
        self.0[counter as usize].fetch_add(1, Relaxed);
    }

    /// Names and counts.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        NAMES.iter().zip(&self.0).map(|(&name, count)| (name, count.load(Relaxed)))
    }
}
