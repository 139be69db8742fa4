//! Calls of a method that a route reads by a descriptor: the route is found, and the request read as far as it says.

use std::sync::Arc;

use h2::RecvStream;
use http::HeaderMap;

use super::asked::Asked;
use super::caller::{Caller, Gone};
use super::metadata::Seen;
use super::plain::Plain;
use super::status::{INVALID_ARGUMENT, Status, UNIMPLEMENTED};
use super::upload::Upload;
use crate::policy::RouteIx;
use crate::records::NONE_U16;
use crate::wire::descriptor::{Head, model_of};

impl Plain<'_> {
    /// Serves such a call.
    pub async fn described(&self, caller: &mut Caller, body: RecvStream) -> Result<(), Gone> {
        let policy = Arc::clone(self.plan.policy());
        let limits = policy.limits();
        let path = self.outbound.uri.path();
        let Some(method) = policy.described(path) else {
            return self.untouched(caller, body).await;
        };
        let read = |route: &RouteIx| policy.route_at(*route).described.is_some();
        let mut upload = Upload::new(body, limits.replay_bytes);
        if method.model.is_none() {
            let route = policy.route(path, None, &Seen(&self.outbound.headers));
            if !route.as_ref().is_some_and(read) {
                return self.unread(caller, upload, route).await;
            }
        }
        let message = match self.receive(caller, &mut upload, limits, method.counts_rows).await {
            Ok(message) => message,
            Err(None) => return Err(Gone),
            Err(Some(status)) => return self.refuse(caller, &upload, &status),
        };
        let whole = message.whole || message.compressed;
        let model = match model_of(method, &message.plain, whole, limits.request_head_bytes) {
            Ok(model) => model,
            Err(malformed) => return self.malformed(caller, &upload, &malformed),
        };
        let seen = Seen(&self.outbound.headers);
        let named = (!model.is_empty()).then(|| policy.route(path, Some(model), &seen)).flatten();
        // A route for the model's name alone is one of the Open Inference Protocol, whose messages are others.
        let route = named.filter(read).or_else(|| policy.route(path, None, &seen));
        let described = route.and_then(|route| Some((route, policy.route_at(route).described.as_deref()?)));
        let Some((route, described)) = described else {
            return self.unread(caller, upload, route).await;
        };
        let head = match Head::scan(described, &message.plain, whole, limits.request_head_bytes) {
            Ok(head) => head,
            Err(malformed) => return self.malformed(caller, &upload, &malformed),
        };
        let asked = Asked::Described(head);
        self.decide(caller, upload, &message, &asked, route).await
    }

    fn malformed(&self, caller: &mut Caller, upload: &Upload, malformed: &crate::wire::Malformed) -> Result<(), Gone> {
        let path = self.outbound.uri.path();
        self.refuse(caller, upload, &Status::new(INVALID_ARGUMENT, format!("no request of {path}: {malformed}")))
    }

    /// A call of the method that is of no route which reads it.
    async fn unread(&self, caller: &mut Caller, upload: Upload, route: Option<RouteIx>) -> Result<(), Gone> {
        match (route, self.plan.policy().default_backend()) {
            (Some(route), _) => Box::pin(self.routed_upload(caller, upload, route)).await,
            (None, Some(backend)) => Box::pin(self.to(caller, upload, NONE_U16, backend, None, None)).await,
            (None, None) => {
                let words = format!("no route for {} and no default_backend", self.outbound.uri.path());
                let journal = self.journal();
                caller.fail(&Status::new(UNIMPLEMENTED, words), HeaderMap::new())?;
                journal.write_plain(self.worker, &self.plan, NONE_U16, None, UNIMPLEMENTED);
                Ok(())
            }
        }
    }
}
