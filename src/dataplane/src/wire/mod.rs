//! Bytes as others wrote them: gRPC frames, protobuf scanning, the Open Inference Protocol, receipts.
