//! The tables of a batch, a vector per column.

/// A column on its way out.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// Codes and flags.
    U8(Vec<u8>),
    /// Indexes.
    U16(Vec<u16>),
    /// Counts, microseconds, indexes into the batch's strings.
    U32(Vec<u32>),
    /// Halves of ids, hashes.
    U64(Vec<u64>),
    /// Times.
    I64(Vec<i64>),
    /// Probabilities.
    F32(Vec<f32>),
    /// Scores.
    F64(Vec<f64>),
}

macro_rules! column_kind {
    ($($kind:ty => $variant:ident),*) => {
        $(impl From<Vec<$kind>> for Column {
            fn from(column: Vec<$kind>) -> Self {
                Self::$variant(column)
            }
        })*
    };
}
column_kind!(u8 => U8, u16 => U16, u32 => U32, u64 => U64, i64 => I64, f32 => F32, f64 => F64);

macro_rules! table {
    ($(#[$about:meta])* $row:ident => $table:ident { $($(#[$doc:meta])* $name:ident: $kind:ty),* $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $row { $($(#[$doc])* pub $name: $kind),* }

        /// The same, row after row, a vector per column.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $table { $($(#[$doc])* pub $name: Vec<$kind>),* }

        impl $table {
            /// Room for `rows` rows.
            #[must_use]
            pub fn with_capacity(rows: usize) -> Self {
                Self { $($name: Vec::with_capacity(rows)),* }
            }

            /// Adds a row.
            pub fn push(&mut self, row: &$row) {
                $(self.$name.push(row.$name);)*
            }

            /// The columns by their names, in the order of the agreement with Python.
            #[must_use]
            pub fn into_columns(self) -> Vec<(&'static str, Column)> {
                vec![$((stringify!($name), self.$name.into())),*]
            }
        }
    };
}

table! {
    /// One row of one call; what belongs to the call is repeated on each of its rows.
    Record => Records {
        /// Decision id, upper half.
        id_hi: u64,
        /// Decision id, lower half.
        id_lo: u64,
        /// Row of the batch; 0 marks the call.
        row: u32,
        /// Rows of the call.
        rows: u32,
        /// Arrival, microseconds since 1970.
        time_us: i64,
        /// From arrival to the answer's last byte handed over.
        duration_us: u32,
        /// The same without the time spent waiting on backends.
        overhead_us: f32,
        /// Version of the policy.
        policy: u32,
        /// Index of the route, 65535 none.
        route: u16,
        /// Index of the backend that answered, 65535 none.
        backend: u16,
        /// `gateway.types.Outcome`.
        outcome: u8,
        /// `gateway.types.Reason`.
        reason: u8,
        /// Index of the rule, 65535 none.
        rule: u16,
        /// Index into the strings.
        label: u32,
        /// 0, 1, 255 unknown.
        flagged: u8,
        /// Of `positive`; NaN none.
        score: f64,
        /// NaN none.
        confidence: f64,
        /// Index into the strings.
        segment: u32,
        /// Hash of the unit.
        unit: u64,
        /// `gateway.types.Stratum`, 255 none.
        stratum: u8,
        /// Probability of being chosen for review.
        review_pi: f32,
        /// Chosen for review.
        sampled: u8,
        /// Explored backend, 65535 none.
        arm: u16,
        /// Its probability.
        propensity: f32,
        /// gRPC code.
        status: u8,
        /// The request's message bytes.
        request_bytes: u32,
        /// The answer's message bytes.
        answer_bytes: u32,
        /// Trace id, upper half.
        trace_hi: u64,
        /// Trace id, lower half.
        trace_lo: u64,
        /// The call's span.
        span: u64,
        /// Its parent, 0 none.
        parent: u64,
        /// Export spans.
        traced: u8,
        /// Index into the strings.
        method: u32,
    }
}

table! {
    /// One attempt at one backend.
    Attempt => Attempts {
        /// Index of the call's row 0 in this batch's records.
        record: u32,
        /// Index of the backend.
        backend: u16,
        /// `gateway.types.Reason`.
        reason: u8,
        /// Microseconds since 1970.
        start_us: i64,
        /// How long it took.
        duration_us: u32,
        /// gRPC code.
        status: u8,
        /// The attempt's span.
        span: u64,
    }
}

table! {
    /// One row of a call beside what a shadow answered to it.
    Mirror => Mirrors {
        /// Microseconds since 1970, when the comparison was made.
        time_us: i64,
        /// Version of the policy.
        policy: u32,
        /// Index of the route.
        route: u16,
        /// The backend that answered the caller.
        backend: u16,
        /// The shadow.
        to: u16,
        /// 0 compared, 1 failed.
        result: u8,
        /// 1: it is not the shadow's answer that was compared, but that of the primary's twin.
        noise: u8,
        /// Index into the strings.
        segment: u32,
        /// 0, 1, 255 unknown.
        agree: u8,
        /// The shadow's score less the answer's; NaN none.
        difference: f64,
        /// Decision id, upper half.
        id_hi: u64,
        /// Decision id, lower half.
        id_lo: u64,
        /// Row of the batch.
        row: u32,
    }
}

table! {
    /// One row that a shadow contradicted, whose probability of review was raised by it: what was decided on it before is
    /// told anew, as its record has left already.
    Raise => Raises {
        /// Decision id, upper half.
        id_hi: u64,
        /// Decision id, lower half.
        id_lo: u64,
        /// Row of the batch.
        row: u32,
        /// Arrival of the call, microseconds since 1970.
        time_us: i64,
        /// Version of the policy.
        policy: u32,
        /// Index of the route.
        route: u16,
        /// Index of the backend that answered, 65535 none.
        backend: u16,
        /// `gateway.types.Outcome`.
        outcome: u8,
        /// `gateway.types.Reason`.
        reason: u8,
        /// Index of the rule, 65535 none.
        rule: u16,
        /// Index into the strings.
        label: u32,
        /// 0, 1, 255 unknown.
        flagged: u8,
        /// Of `positive`; NaN none.
        score: f64,
        /// NaN none.
        confidence: f64,
        /// Index into the strings.
        segment: u32,
        /// Hash of the unit.
        unit: u64,
        /// `gateway.types.Stratum`.
        stratum: u8,
        /// Probability of being chosen for review, now.
        review_pi: f32,
        /// The same in the record.
        review_pi_before: f32,
        /// Chosen for review, now.
        sampled: u8,
        /// The same in the record.
        sampled_before: u8,
        /// Explored backend, 65535 none.
        arm: u16,
        /// Its probability.
        propensity: f32,
    }
}
