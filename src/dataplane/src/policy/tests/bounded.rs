//! Whatever the policy: a call ends in a bounded number of steps, and nobody is asked twice.

use proptest::prelude::*;

use super::memory::Known;
use super::*;

const BACKENDS: usize = 6;

/// Models `m0` to `m3`, static answers `s0` and `s1`.
fn name(backend: usize) -> String {
    if backend < 4 { format!("m{backend}") } else { format!("s{}", backend - 4) }
}

fn all_backends() -> Value {
    let model = |at| {
        json!({"name": name(at), "kind": "grpc", "endpoints": ["127.0.0.1:8001"], "model": null, "version": null,
               "timeout_ms": null, "max_in_flight": 256, "connect_timeout_ms": 300})
    };
    let fixed =
        |at| json!({"name": name(at), "kind": "static", "label": "ham", "score": 0.0, "scores": null, "value": null});
    (0..BACKENDS).map(|at| if at < 4 { model(at) } else { fixed(at) }).collect()
}

/// Rules that refer to each other in any way; those that the compiler refuses are left out by `policy`.
fn rule() -> impl Strategy<Value = Value> {
    let when = prop_oneof![
        Just("true".to_owned()),
        Just("prediction.score > 0.5".to_owned()),
        (0..4usize).prop_map(|at| format!("backend == \"m{at}\"")),
        Just("request.rows == 1".to_owned()),
        Just("session.calls > 2".to_owned()),
        Just("request.params.absent == 1".to_owned()),
    ];
    let then = prop_oneof![
        4 => (0..BACKENDS).prop_map(|at| json!({"kind": "to", "backend": name(at)})),
        1 => (4..BACKENDS).prop_map(|at| json!({"kind": "answer", "backend": name(at)})),
        2 => Just(json!({"kind": "next"})),
        1 => Just(json!({"kind": "review"})),
        1 => Just(json!({"kind": "reject", "status": "ABORTED", "message": "no"})),
    ];
    (prop_oneof![Just("request"), Just("prediction")], when, then)
        .prop_map(|(on, when, then)| json!({"on": on, "when": when, "then": then}))
}

fn policy() -> impl Strategy<Value = Arc<Policy>> {
    let chain = prop::sample::subsequence((0..4usize).collect::<Vec<_>>(), 1..=4).prop_shuffle();
    let guard = prop::option::of(0..BACKENDS);
    (chain, prop::option::of(4..BACKENDS), prop::collection::vec(rule(), 0..6), guard, any::<(bool, bool)>()).prop_map(
        |(mut chain, last, mut rules, guard, (kill_switch, holdout))| {
            chain.extend(last);
            rules.retain(|rule| rule["on"] == "prediction" || !rule["when"].as_str().unwrap().contains("prediction"));
            rules.retain(|rule| rule["on"] == "prediction" || !rule["when"].as_str().unwrap().contains("backend"));
            for (at, rule) in rules.iter_mut().enumerate() {
                rule["name"] = json!(format!("r{at}"));
            }
            let then = guard.filter(|then| chain[0] != *then);
            let chain: Vec<String> = chain.into_iter().map(name).collect();
            let mut document = document_with(&[
                ("/backends", all_backends()),
                ("/routes/0/chain", json!(chain)),
                ("/routes/0/rules", json!(rules)),
                ("/routes/0/kill_switch", json!(kill_switch)),
                ("/limits/units", json!(100)),
            ]);
            let route = &mut document["routes"][0];
            route["session"] = json!({"idle_s": 60, "remember": []});
            route["stats"] = json!({"within_s": 60});
            route["loop_guard"] = then.map_or(json!(null), |then| memory::guard(&name(then)));
            if holdout {
                route["holdout"] = json!({"share": 0.5, "answer": "s0"});
            }
            Arc::new(Policy::compile(&document.to_string()).unwrap_or_else(|faults| panic!("{faults:?}")))
        },
    )
}

/// What a model does when it is asked.
fn answer() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![Just(None), Just(Some(0.05)), Just(Some(0.6)), Just(Some(0.95)), Just(Some(f64::NAN))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_call_ends_and_nobody_is_asked_twice(
        policy in policy(),
        answers in prop::collection::vec(answer(), 4),
        user in "[a-f]",
        met in 0u32..6,
    ) {
        let metadata = vec![("x-user-id", user.as_str())];
        let known = Known {
            met: Met { fallbacks: met, negatives: 0 },
            session: Session { calls: met, ..Session::default() },
            ..Known::default()
        };
        let plain: Pairs = Vec::new();
        let request = Request { metadata: &metadata, memory: Some(&known), ..request(&plain, 1) };
        let mut call = Call::begin(Arc::clone(&policy), 0, &request, [1; 16]);
        let mut asked = Vec::new();
        loop {
            prop_assert!(asked.len() <= BACKENDS, "asked {:?}", asked);
            match call.next() {
                Step::Attempt(backend) => {
                    prop_assert!(!asked.contains(&backend), "{} is asked twice: {:?}", backend, asked);
                    asked.push(backend);
                    match answers[usize::from(backend)] {
                        None => call.miss(Reason::BackendError, status::UNAVAILABLE),
                        Some(score) => {
                            call.judge(&request, Ok(&scores(&[score])));
                        }
                    }
                }
                _ => break,
            }
        }
        let end = call.next();
        prop_assert_eq!(call.next(), end, "a call that has ended stays so");
        let decision = call.finish();
        let mut seen: Vec<BackendIx> = decision.attempts.iter().map(|attempt| attempt.backend).collect();
        seen.sort_unstable();
        seen.dedup();
        prop_assert_eq!(seen.len(), decision.attempts.len(), "each stands there once");
        if policy.route_at(0).kill_switch {
            prop_assert!(asked.is_empty(), "the kill switch spares every model");
        }
    }
}
