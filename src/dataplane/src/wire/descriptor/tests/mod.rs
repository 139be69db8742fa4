//! Facts about described messages.

mod answers;
mod descriptors;
mod differential;
mod making;
mod oracle;
mod requests;
mod tensors;
