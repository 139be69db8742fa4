"""Settings that tests start from."""

TEN_LINES = """\
backends:
  spam-v3: {grpc: "127.0.0.1:8001", model: spam}
  ham: {answer: {label: ham, score: 0.0}}
routes:
  spam:                                    # matches the model of that name
    chain: [spam-v3, ham]
    prediction: {scores: probabilities, classes: [ham, spam], positive: spam}
    confidence: {floor: 0.8}
"""

EVERYTHING = """\
settings: 1
listen: {inference: "127.0.0.1:8080", admin: "127.0.0.1:9090"}
workers: auto
identity: {unit: "metadata:x-user-id", segments: {device: "metadata:x-device", account: "param:account"}}
secrets: {salt: "${GATEWAY_SALT:-0123456789abcdef}", receipt_keys: ["a key that is long enough"]}
state_dir: ./state
ledger: sqlite
lists: {trusted: ["a@example.org"]}
default_backend: spam-v3
limits: {max_rows: 512}
receipts: {max_age_h: 24}
backends:
  spam-v3: {grpc: ["127.0.0.1:8001", "127.0.0.1:8002"], model: spam, version: 3, timeout_ms: 80, max_in_flight: 256}
  spam-v4: {grpc: "dns:spam-v4:8001", model: spam, version: "4", connect_timeout_ms: 50}
  spam-lite: {grpc: "unix:/run/lite.sock", model: spam_lite}
  spam-twin: {grpc: "spam-twin:8001", model: spam}
  ham: {answer: {label: ham, score: 0.0}}
routes:
  spam:
    match: {model: spam, metadata: {x-tenant: acme}}
    chain: [spam-v3, spam-lite, ham]
    deadline_ms: 250
    on_miss: call
    prediction:
      scores: probabilities
      classes: [ham, spam]
      positive: spam
      threshold: 0.5
    check: {range: [0, 1], sum: 1.0}
    confidence: {measure: max_probability, floor: 0.80, per_label: {spam: 0.90}, per_segment: {"device=phone": 0.95}}
    rules:
      - {name: allow-list, on: request, when: 'metadata["x-sender"] in lists.trusted', then: {answer: ham}}
      - name: too-many-rows
        when: 'request.rows > 64'
        then: {reject: INVALID_ARGUMENT, message: "at most 64 rows"}
      - {name: new-account, on: prediction, when: 'prediction.label == "spam" && segment.account == "new"', then: next}
      - {on: prediction, when: 'prediction.score > 0.9', then: review}
      - {name: lite, on: prediction, when: 'prediction.margin < 0.1', then: {to: spam-lite}}
    holdout: {share: 0.02, answer: ham}
    explore: {arms: {spam-v3: 0.9, spam-v4: 0.1}, sticky: unit}
    mirror: [{to: spam-lite, share: 0.10, noise: spam-twin, redact: [inputs.email], strip: [authorization]}]
    review:
      {queue: moderation, per_hour: 60, capture: [inputs], redact: [inputs.email], segments: {"device=phone": 2.0}}
    objective: {prioritise: precision, precision: 0.95, recall: 0.60}
    costs: {false_positive: 5.0, false_negative: 1.0, review: 0.4}
    gates:
      - {name: precision-holds, metric: precision, at_least: 0.93, window_h: 168, min_labels: 50, then: roll_back}
      - {name: phones, metric: recall, at_least: 0.5, segment: device=phone, then: {roll_back: spam-lite}}
      - {name: alarms, metric: false_positive_rate, at_most: 0.05, segment: device, on_no_data: fail, then: raise_floor}
    drift: {reference_h: 336, fields: [score, segments], arl_days: 7300}
    kill_switch: false
telemetry: {otlp: "http://127.0.0.1:4317", trace_share: 0.01}
"""
