//! Salted choices: sticky, nested, and as large as their share.

use proptest::prelude::*;

use super::calls::mirror;
use super::*;

const SALT: &[u8] = b"salt";

fn held(share: f64) -> Vec<(&'static str, Value)> {
    vec![("/routes/0/holdout", json!({"share": share, "answer": "ham"})), ("/routes/0/mirror", mirror(1.0))]
}

proptest! {
    #[test]
    fn a_smaller_share_is_inside_a_larger_one(key in ".{0,40}", small in 0.0..1.0f64, more in 0.0..1.0f64) {
        let large = small + (1.0 - small) * more;
        let choice = |share| Choice::new(SALT, "holdout", "spam", share);
        if choice(small).chosen(key.as_bytes()) {
            prop_assert!(choice(large).chosen(key.as_bytes()));
        }
    }

    #[test]
    fn a_unit_in_the_holdout_never_meets_a_model(unit in "[a-z0-9]{1,20}", spam in 0.0..1.0f64, rule in 0..3usize) {
        let action = [
            json!({"kind": "next"}),
            json!({"kind": "to", "backend": "spam-v4"}),
            json!({"kind": "answer", "backend": "ham"}),
        ][rule].clone();
        let mut changes = held(0.5);
        changes.push(("/routes/0/rules", json!([{"name": "all", "on": "request", "when": "true", "then": action}])));
        let policy = policy_with(&changes);
        let metadata = vec![("gateway-unit", unit.as_str())];
        let request = Request { metadata: &metadata, ..request_of("spam") };
        let chosen = policy.route_at(0).holdout.as_ref().is_some_and(|one| one.choice.chosen(unit.as_bytes()));
        let answers = [V3, LITE, V4].map(|backend| (backend, Ok(scores(&[spam]))));
        let decision = walk(&policy, &request, [3; 16], if chosen { &[] } else { &answers });
        prop_assert_eq!(decision.outcome == Outcome::Holdout, chosen);
        if chosen {
            prop_assert!(decision.mirrors.is_empty());
            prop_assert_eq!(decision.reason, Reason::Holdout);
            prop_assert!(decision.attempts.iter().all(|attempt| attempt.backend == HAM && !attempt.made));
        }
    }
}

pub(super) fn request_of(model: &str) -> Request<'_> {
    static NONE: Pairs = Vec::new();
    Request { model, ..request(&NONE, 1) }
}

#[test]
fn five_percent_of_the_holdout_are_inside_ten() {
    let (five, ten) = (Choice::new(SALT, "holdout", "spam", 0.05), Choice::new(SALT, "holdout", "spam", 0.10));
    let units = (0..20_000).map(|unit: u32| format!("user-{unit}"));
    for unit in units.filter(|unit| five.chosen(unit.as_bytes())) {
        assert!(ten.chosen(unit.as_bytes()), "{unit}");
    }
}

#[test]
fn as_many_are_chosen_as_the_share_says() {
    for share in [0.02, 0.1, 0.5, 0.9] {
        let choice = Choice::new(SALT, "mirror:spam-v4", "spam", share);
        let count = 40_000u32;
        let chosen = (0..count).filter(|unit| choice.chosen(format!("user-{unit}").as_bytes())).count();
        // Five standard deviations of a binomial: a good hash is outside once in two million.
        let (mean, deviation) = (f64::from(count) * share, (f64::from(count) * share * (1.0 - share)).sqrt());
        let off = (f64::from(u32::try_from(chosen).unwrap()) - mean).abs();
        assert!(off < 5.0 * deviation, "{chosen} of {count} for {share}");
    }
}

#[test]
fn nothing_and_everything_hold_exactly() {
    for key in 0..1000u32 {
        assert!(!Choice::new(SALT, "p", "r", 0.0).chosen(&key.to_le_bytes()));
        assert!(Choice::new(SALT, "p", "r", 1.0).chosen(&key.to_le_bytes()));
    }
}

#[test]
fn purposes_routes_and_salts_choose_independently() {
    let both = |left: &Choice, right: &Choice| {
        (0..20_000u32).filter(|key| left.chosen(&key.to_le_bytes()) && right.chosen(&key.to_le_bytes())).count()
    };
    let one = Choice::new(SALT, "holdout", "spam", 0.5);
    for other in [
        Choice::new(SALT, "mirror:x", "spam", 0.5),
        Choice::new(SALT, "holdout", "ham", 0.5),
        Choice::new(b"other", "holdout", "spam", 0.5),
    ] {
        let count = both(&one, &other);
        assert!((4_600..5_400).contains(&count), "{count} of 20,000 in both, wanted a quarter");
    }
}

#[test]
fn a_long_key_is_hashed_like_a_short_one() {
    let key = vec![b'x'; 5000];
    let (small, large) = (Choice::new(SALT, "p", "r", 0.3), Choice::new(SALT, "p", "r", 0.6));
    assert!(!small.chosen(&key) || large.chosen(&key));
}

#[test]
fn the_unit_is_taken_from_the_first_place_that_has_one() {
    let policy = policy_with(&[]);
    let unit = |metadata: Pairs, id: &str| {
        let request = Request { id, ..request(&metadata, 1) };
        Call::begin(Arc::clone(&policy), 0, &request, [9; 16]).unit()
    };
    let ann = unit(vec![("gateway-unit", "ann"), ("x-user-id", "bob")], "req");
    assert_eq!(ann, unit(vec![("x-user-id", "ann")], "req"));
    assert_eq!(ann, unit(vec![], "ann"));
    assert_ne!(ann, unit(vec![("x-user-id", "bob")], "ann"));
    assert_eq!(unit(vec![], ""), unit(vec![("gateway-unit", "")], ""));
}

#[test]
fn a_shadow_gets_its_share_of_units() {
    let policy = policy_with(&[("/routes/0/mirror", mirror(1.0))]);
    let metadata: Pairs = vec![];
    let request = request(&metadata, 1);
    let call = Call::begin(Arc::clone(&policy), 0, &request, [9; 16]);
    assert_eq!(call.mirrors(), [0]);
    let decision = walk(&policy, &request, [9; 16], &[(V3, Ok(scores(&[0.9])))]);
    assert_eq!(decision.mirrors.as_slice(), [0]);
}
