//! A call's life: attempts within one deadline, fallback, answer.
