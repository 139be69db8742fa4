//! What a call is chosen for before anybody is asked, each choice a salted hash: holdout and shadows.

use std::sync::Arc;

use super::call::{Call, Wish};
use super::choice::salted;
use super::compiled::NO_INDEX;
use super::notes::share;
use super::request::Request;
use super::segment::with_unit;
use super::words::Reason;

impl Call {
    /// Holdout and shadows, by the unit.
    pub(super) fn assign(&mut self, request: &Request) {
        let policy = Arc::clone(&self.policy);
        let route = policy.route_at(self.route);
        let id = self.id;
        with_unit(policy.unit.as_ref(), request, &id, |unit| {
            self.unit = salted(&policy.salt, unit);
            self.named = unit != id;
            self.note("unit", || match unit == id {
                true => "the call names no unit: each call is one of its own".to_owned(),
                false => format!("the unit is {:?}", String::from_utf8_lossy(unit)),
            });
            if let Some(holdout) = &route.holdout
                && holdout.choice.chosen(unit)
            {
                self.held_out = true;
                self.note("holdout", || {
                    format!("the unit is in the holdout ({}): it never meets the model", share(holdout.choice.share))
                });
                self.first = Some((Reason::Holdout, NO_INDEX));
                self.wish = Some(Wish::Answer(holdout.answer));
            }
            let chosen = (0u16..).zip(&route.mirror).filter(|(_, mirror)| mirror.choice.chosen(unit));
            self.mirrors = chosen.map(|(position, _)| position).collect();
        });
    }
}
