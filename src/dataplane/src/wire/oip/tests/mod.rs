//! Round trips against an encoder of its own (`encode`), any bytes at all, and messages that protobuf itself encoded
//! (`cases`).

mod answer;
mod cases;
mod check;
mod encode;
mod head;
mod read;
mod rows;
