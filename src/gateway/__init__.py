"""A gRPC gateway in front of models that can be wrong.

The rooms, from the words up (imports point one way, downwards to upwards here):

    errors, types     the words of the design as code
    config            a settings file -> checked settings
    quality           arrays -> numbers that can be believed
    ledger            what is kept: labels, reviews, tallies, policies
    runtime           settings + what was learnt -> policy; runs the data plane and drains its records
    telemetry         records -> spans, metrics, Prometheus text
    services          feedback and review over gRPC
    cli               the commands

`_dataplane` is the Rust part: it decides and forwards every call, without Python on the way.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
