//! What callers ask about a model or a server: a route looks like the model of its name.
//!
//! `ModelReady`, `ModelMetadata`, `ModelConfig` and their like go to the route's first model server under the name it has
//! there, and come back under the name that was asked for. `ModelStreamInfer` passes through in the same way, its route
//! chosen by the first message. Where no model server stands behind a name, the gateway answers itself.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, HeaderValue, header};

use super::caller::{Caller, Gone, grpc_head};
use super::compression::{plain, too_long};
use super::exchange::{Alarm, Fault, watched};
use super::message::frames;
use super::metadata::Seen;
use super::plain::Plain;
use super::status::{DEADLINE_EXCEEDED, GRPC_STATUS, INVALID_ARGUMENT, OK, Status, UNIMPLEMENTED, code_value};
use super::upload::Upload;
use crate::policy::{BackendIx, Limits, Policy, RouteIx};
use crate::records::NONE_U16;
use crate::wire::frame::{self, HEAD_BYTES};
use crate::wire::oip::{self, Head, ModelName, method};
use crate::wire::proto::put_bytes;

/// Methods of the service whose request names a model in field 1, beyond those that the protocol's first version has.
const NAMED: [&str; 5] = ["ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "ModelStreamInfer"];
/// `ModelConfigResponse.config`, and `name` in it.
const CONFIG: u32 = 1;
/// `ModelStreamInferResponse.infer_response`.
const INFER_RESPONSE: u32 = 2;
/// Field 1 of `ServerLiveResponse` and `ServerReadyResponse`; of `ServerMetadataResponse` it is the name.
const FIRST: u32 = 1;
/// `ServerMetadataResponse.version`.
const SECOND: u32 = 2;

/// The method's name within the Open Inference Protocol's service.
#[must_use]
pub fn oip_method(path: &str) -> Option<&str> {
    path.strip_prefix('/')?.strip_prefix(oip::SERVICE)?.strip_prefix('/')
}

/// Whether requests of this method name a model.
#[must_use]
pub fn names_model(method: &str) -> bool {
    NAMED.contains(&method)
}

/// Whether this method asks about the server.
#[must_use]
pub fn asks_server(method: &str) -> bool {
    matches!(method, "ServerLive" | "ServerReady" | "ServerMetadata")
}

/// Whether a call only asks how a server or a model is: limits are not for those.
#[must_use]
pub fn is_health(path: &str) -> bool {
    matches!(oip_method(path), Some("ServerLive" | "ServerReady" | "ModelReady"))
}

/// What is appended to each answer so that it speaks of the model by the name that was asked for.
#[must_use]
pub fn renamed(method: &str, name: &str) -> Vec<u8> {
    let (mut inner, mut out) = (Vec::new(), Vec::new());
    oip::append_model(name, None, &mut inner);
    match method {
        "ModelMetadata" => return inner,
        // An embedded message that comes twice is merged.
        "ModelConfig" => put_bytes(CONFIG, &inner, &mut out),
        "ModelStreamInfer" => put_bytes(INFER_RESPONSE, &inner, &mut out),
        _ => {}
    }
    out
}

impl Plain<'_> {
    /// Serves a call whose request names a model.
    pub async fn about_model(&self, caller: &mut Caller, body: RecvStream, method: &str) -> Result<(), Gone> {
        let limits = self.plan.policy().limits();
        let mut upload = Upload::new(body, limits.replay_bytes);
        let (first, whole) = match self.first(caller, &mut upload, limits).await {
            Ok(first) => first,
            Err(None) => return Err(Gone),
            Err(Some(status)) => return self.refuse(caller, &upload, &status),
        };
        let malformed = |words: String| Status::new(INVALID_ARGUMENT, words);
        let policy = self.plan.policy();
        if method == "ModelStreamInfer" {
            let head = match Head::scan(&first, whole, limits.request_head_bytes) {
                Ok(head) => head,
                Err(fault) => return self.refuse(caller, &upload, &malformed(fault.to_string())),
            };
            return match self.route_of(head.model) {
                Some(route) => Box::pin(self.stream_infer(caller, upload, route, &head)).await,
                None => self.unknown_model(caller, upload, head.model).await,
            };
        }
        let ModelName { name, version } = match ModelName::scan(&first) {
            Ok(named) => named,
            Err(fault) => return self.refuse(caller, &upload, &malformed(fault.to_string())),
        };
        upload.keep(limits.buffer_bytes + HEAD_BYTES);
        let Some(route) = self.route_of(name) else {
            return self.unknown_model(caller, upload, name).await;
        };
        let Some(backend) = policy.route_at(route).first_model(policy) else {
            return self.static_model(caller, &upload, route, method, name);
        };
        let (snapshot, now) = (&self.plan.snapshot, Instant::now());
        if method == "ModelReady" && !snapshot.can(backend, now) {
            // It is left alone or cannot be reached: the route is as ready as those behind it.
            let ready = snapshot.route_can(policy.route_at(route), now);
            return self.own_answer(caller, route, if ready { oip::READY.to_vec() } else { Vec::new() });
        }
        let model = policy.backend(backend).as_model();
        let up =
            model.map(|model| oip::address(model, name, version, false)).filter(|up| !up.is_empty()).map(Bytes::from);
        let down = up.as_ref().map(|_| renamed(method, name)).filter(|down| !down.is_empty()).map(Bytes::from);
        self.to(caller, upload, route, backend, up, down).await
    }

    fn route_of(&self, model: &str) -> Option<RouteIx> {
        let (policy, seen) = (self.plan.policy(), Seen(&self.outbound.headers));
        policy
            .route(self.outbound.uri.path(), Some(model), &seen)
            .or_else(|| policy.route(method::MODEL_INFER, Some(model), &seen))
    }

    /// The first message, or the head of a long one, and whether it is all of it; `None` when nobody waits any more.
    async fn first(
        &self,
        caller: &mut Caller,
        upload: &mut Upload,
        limits: &Limits,
    ) -> Result<(Bytes, bool), Option<Status>> {
        let bad = |words: String| Some(Status::new(INVALID_ARGUMENT, words));
        let mut alarm = Alarm::new(self.until);
        let mut wanted = HEAD_BYTES + limits.request_head_bytes;
        loop {
            match watched(caller, &mut alarm, |_, cx| upload.poll_first(cx, wanted)).await {
                Ok(Ok(())) => {}
                Err(Fault::Deadline) => {
                    return Err(Some(Status::new(DEADLINE_EXCEEDED, "the request did not come in time")));
                }
                Ok(Err(Gone)) | Err(_) => return Err(None),
            }
            let held = upload.joined();
            let head = frame::read_head(&held, u32::MAX).map_err(|fault| bad(fault.to_string()))?;
            let head = head.ok_or_else(|| bad("the call has no message".into()))?;
            let end = HEAD_BYTES + head.len as usize;
            let whole = held.len() >= end;
            let body = held.slice(HEAD_BYTES..end.min(held.len()));
            if !head.compressed {
                return Ok((body, whole));
            }
            if whole {
                let plain = plain(&self.outbound.headers, &body, limits.replay_bytes).map_err(Some)?;
                return Ok((plain, true));
            }
            // What is compressed can only be read whole.
            if wanted > limits.replay_bytes || upload.is_ended() {
                return Err(Some(too_long(limits.replay_bytes)));
            }
            wanted = HEAD_BYTES + limits.replay_bytes;
        }
    }

    /// A route of static answers alone is a model that is always ready.
    fn static_model(
        &self,
        caller: &mut Caller,
        upload: &Upload,
        route: RouteIx,
        method: &str,
        name: &str,
    ) -> Result<(), Gone> {
        let mut plain = Vec::new();
        match (method, &self.plan.policy().route_at(route).prediction) {
            ("ModelReady", _) => plain.extend_from_slice(oip::READY),
            ("ModelMetadata", Some(spec)) => oip::static_metadata(name, spec, &mut plain),
            _ => {
                let words = format!("the route {name} has no model server that could answer {method}");
                return self.refuse(caller, upload, &Status::new(UNIMPLEMENTED, words));
            }
        }
        self.own_answer(caller, route, plain)
    }

    /// Serves a call about the server: a model server answers it where there is one, else the gateway.
    pub async fn about_server(&self, caller: &mut Caller, body: RecvStream, method: &str) -> Result<(), Gone> {
        // Who cannot be asked does not speak for a gateway that may answer all the same.
        let speaks =
            |backend: &BackendIx| method == "ServerMetadata" || self.plan.snapshot.can(*backend, Instant::now());
        if let Some(backend) = spokesman(self.plan.policy()).filter(speaks) {
            let limits = self.plan.policy().limits();
            let upload = Upload::new(body, limits.buffer_bytes);
            return self.to(caller, upload, NONE_U16, backend, None, None).await;
        }
        let mut plain = Vec::new();
        match method {
            "ServerMetadata" => {
                put_bytes(FIRST, env!("CARGO_PKG_NAME").as_bytes(), &mut plain);
                put_bytes(SECOND, env!("CARGO_PKG_VERSION").as_bytes(), &mut plain);
            }
            _ if self.worker.shared.serving.load(Relaxed) => plain.extend_from_slice(oip::READY),
            // `false` is what an empty message says.
            _ => {}
        }
        self.own_answer(caller, NONE_U16, plain)
    }

    fn own_answer(&self, caller: &mut Caller, route: RouteIx, plain: Vec<u8>) -> Result<(), Gone> {
        let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        caller.open(grpc_head(HeaderMap::from_iter([kind])), false)?;
        for frame in frames(&plain.into(), &[]) {
            caller.data(frame, false)?;
        }
        caller.trailers(HeaderMap::from_iter([(GRPC_STATUS, code_value(OK))]))?;
        self.journal().write_plain(self.worker, &self.plan, route, None, OK);
        Ok(())
    }
}

/// Who speaks for the server: the default backend, else the first route's first model server.
fn spokesman(policy: &Policy) -> Option<BackendIx> {
    policy.default_backend().or_else(|| policy.routes().first()?.first_model(policy))
}
