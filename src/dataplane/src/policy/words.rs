//! The closed lists that callers, records and dashboards know: outcomes and reasons, by the numbers Python shares.

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// Answered by the first backend of the route's chain.
    Model = 0,
    /// Answered by a later model backend, or by one that a rule rerouted to.
    Fallback = 1,
    /// Answered by a static answer.
    Static = 2,
    Human = 3,
    Holdout = 4,
    Rejected = 5,
    Error = 6,
}

/// Why a call ended so, or why an attempt was not the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    Ok = 0,
    LowConfidence = 1,
    /// Which rule stands beside it; shown as `rule:<name>`.
    Rule = 2,
    InvalidOutput = 3,
    BackendError = 4,
    Deadline = 5,
    Overload = 6,
    CircuitOpen = 7,
    KillSwitch = 8,
    LoopGuard = 9,
    Holdout = 10,
    Explore = 11,
}

/// Names of `Outcome`, by number.
pub const OUTCOMES: [&str; 7] = ["model", "fallback", "static", "human", "holdout", "rejected", "error"];

/// Names of `Reason`, by number.
pub const REASONS: [&str; 12] = [
    "ok",
    "low_confidence",
    "rule",
    "invalid_output",
    "backend_error",
    "deadline",
    "overload",
    "circuit_open",
    "kill_switch",
    "loop_guard",
    "holdout",
    "explore",
];

impl Outcome {
    /// The word as trailers and records show it.
    pub fn text(self) -> &'static str {
        OUTCOMES[self as usize]
    }
}

impl Reason {
    /// The word without the rule's name.
    pub fn text(self) -> &'static str {
        REASONS[self as usize]
    }
}

/// gRPC status codes, as far as decisions need their names.
pub mod status {
    pub const OK: u8 = 0;
    pub const CANCELLED: u8 = 1;
    pub const UNKNOWN: u8 = 2;
    pub const DEADLINE_EXCEEDED: u8 = 4;
    pub const NOT_FOUND: u8 = 5;
    pub const PERMISSION_DENIED: u8 = 7;
    pub const RESOURCE_EXHAUSTED: u8 = 8;
    pub const FAILED_PRECONDITION: u8 = 9;
    pub const ABORTED: u8 = 10;
    pub const UNIMPLEMENTED: u8 = 12;
    pub const INTERNAL: u8 = 13;
    pub const UNAVAILABLE: u8 = 14;
    pub const DATA_LOSS: u8 = 15;

    /// Names of all statuses, by number.
    pub const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];

    /// The number of a status by its name.
    pub fn by_name(name: &str) -> Option<u8> {
        let found = NAMES.iter().position(|known| *known == name)?;
        u8::try_from(found).ok()
    }

    /// The name of a status; `UNKNOWN` for a number that gRPC does not have.
    pub fn name(code: u8) -> &'static str {
        NAMES.get(usize::from(code)).copied().unwrap_or(NAMES[2])
    }

    /// Whether a backend's status lets the chain go on. The others speak of the caller's own request, which no other
    /// backend would like better: they are passed on as they are.
    pub fn is_miss(code: u8) -> bool {
        matches!(
            code,
            CANCELLED
                | UNKNOWN
                | DEADLINE_EXCEEDED
                | NOT_FOUND
                | RESOURCE_EXHAUSTED
                | ABORTED
                | UNIMPLEMENTED
                | INTERNAL
                | UNAVAILABLE
                | DATA_LOSS
        ) || code > 16
    }
}
