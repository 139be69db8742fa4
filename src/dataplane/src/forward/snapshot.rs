//! A policy with what belongs to it but outlives it: counts, circuits, certificates, units.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::certificates;
use super::guard::{Guard, is_same};
use super::transport::tls::ClientTls;
use super::upstream::Spec;
use crate::error::Fault;
use crate::mirror;
use crate::policy::{Backend, BackendIx, Policy, Route};
use crate::units::Units;
use crate::wire::receipt::Signer;

/// A policy with what belongs to it but outlives it: calls under way are counted on.
pub struct Snapshot {
    /// The policy.
    pub policy: Arc<Policy>,
    /// Signs receipts with this policy's first key; `None` without keys.
    pub signer: Option<Signer>,
    /// What stands before each backend, of all workers.
    pub guards: Vec<Arc<Guard>>,
    /// The beginning of its time.
    epoch: Instant,
    /// What connections to the backends are encrypted by, by backend; `None` for plain text.
    pub tls: Vec<Option<Arc<ClientTls>>>,
    /// Caps of the routes' shadows, by route and position.
    pub shadows: Vec<Vec<Arc<mirror::Gauge>>>,
    /// What is remembered of units and routes.
    pub units: Units,
}

impl Snapshot {
    /// Prepares a policy; counts of backends and shadows of the same name go on.
    ///
    /// # Errors
    /// Certificates that cannot be used, by their place in the policy document.
    pub fn new(policy: Arc<Policy>, before: Option<&Snapshot>) -> Result<Self, Vec<Fault>> {
        let tls = certificates::of_backends(&policy, before)?;
        let epoch = before.map_or_else(Instant::now, |before| before.epoch);
        let known: HashMap<&str, (&Backend, &Arc<Guard>)> = before
            .map(|before| {
                let pairs = before.policy.backends().iter().zip(&before.guards);
                pairs.map(|(backend, guard)| (&*backend.name, (backend, guard))).collect()
            })
            .unwrap_or_default();
        let guard = |backend: &Backend| {
            let before = known.get(&*backend.name);
            let Some(model) = backend.as_model() else {
                return Arc::new(Guard::idle(epoch));
            };
            match before {
                Some((before, guard)) if before.as_model().is_some_and(|before| is_same(before, model)) => {
                    Arc::clone(guard)
                }
                // Calls under way are counted on, whatever else begins anew.
                Some((_, guard)) => Arc::new(Guard::new(model, Arc::clone(&guard.in_flight), epoch)),
                None => Arc::new(Guard::new(model, Arc::default(), epoch)),
            }
        };
        let guards = policy.backends().iter().map(guard).collect();
        let gauge = |route: &str, to: &str| {
            let before = before?;
            let at = before.policy.routes().iter().position(|known| &*known.name == route)?;
            let mirrors = &before.policy.routes()[at].mirror;
            let position = mirrors.iter().position(|known| &*before.policy.backend(known.to).name == to)?;
            Some(Arc::clone(&before.shadows[at][position]))
        };
        let shadows = policy.routes().iter().map(|route| {
            let of = |mirror: &crate::policy::Mirror| {
                gauge(&route.name, &policy.backend(mirror.to).name).unwrap_or_default()
            };
            route.mirror.iter().map(of).collect()
        });
        let shadows = shadows.collect();
        let keys = policy.receipt_keys();
        let signer = (!keys.is_empty()).then(|| Signer::new(keys));
        let units = Units::new(&policy, before.map(|before| &before.units));
        Ok(Self { policy, signer, guards, epoch, tls, shadows, units })
    }
}

impl Snapshot {
    /// The beginning of the data plane's time.
    #[must_use]
    pub fn epoch(&self) -> Instant {
        self.epoch
    }

    /// Whether a backend could take a call now, as far as is known. What is no model server always can.
    #[must_use]
    pub fn can(&self, backend: BackendIx, now: Instant) -> bool {
        self.guards.get(usize::from(backend)).is_some_and(|guard| guard.can(now))
    }

    /// Whether a route could answer a call now: a static answer always could, where it has a form, and a model server where
    /// its circuit would let a call through and it can be reached.
    #[must_use]
    pub fn route_can(&self, route: &Route, now: Instant) -> bool {
        route.chain.iter().any(|&backend| match self.policy.backend(backend).is_model() {
            true => !route.kill_switch && self.can(backend, now),
            false => route.prediction.is_some(),
        })
    }

    /// The same by the names that health is asked by: those of routes, and of the models they match.
    pub fn health(&self, now: Instant) -> BTreeMap<&str, bool> {
        let mut health = BTreeMap::new();
        for route in self.policy.routes() {
            let can = self.route_can(route, now);
            for name in [Some(&*route.name), route.model.as_deref()].into_iter().flatten() {
                *health.entry(name).or_insert(false) |= can;
            }
        }
        health
    }

    /// What connections to each backend go by; `None` for what is no model server.
    pub(super) fn specs(&self) -> impl Iterator<Item = Option<Spec>> {
        self.policy.backends().iter().zip(&self.tls).map(|(backend, tls)| {
            let model = backend.as_model()?;
            Some(Spec {
                endpoints: model.endpoints.clone(),
                dns: self.policy.dns().clone(),
                connect_timeout: model.connect_timeout,
                warm: model.warm,
                tls: tls.clone(),
            })
        })
    }
}
