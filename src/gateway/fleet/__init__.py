"""The sidecar's half of a fleet: records go up to control and are kept until it has them, policies come down.

In: batches from the data plane, policies from control. Out: the same batches, once each, in order, at control; the
policy in force, kept on disk. Never: touches a call, or imports what thinks (settings, ledger, statistics): a sidecar
stands beside every model server and is small.

    forms, encoding   a batch as a message, and back, with nothing taken on trust
    outbox, spool     what control has not acknowledged yet: in memory, then on disk, bounded
    uplink, controls  the conversations with control, and where it is
    conversations     how they begin again
    people            calls that wait for people, brought to control
    kept              the policy on disk
    proxy             callers' feedback and reviewers' work, handed on to control
"""

from gateway.fleet.controls import Controls, Trust
from gateway.fleet.encoding import Malformed, decode, encode, parse
from gateway.fleet.kept import KeptPolicy, digest
from gateway.fleet.outbox import Limits, Outbox
from gateway.fleet.people import PeopleLine
from gateway.fleet.proxy import Proxy
from gateway.fleet.spool import Spool
from gateway.fleet.uplink import Uplink

__all__ = [
    "Controls",
    "KeptPolicy",
    "Limits",
    "Malformed",
    "Outbox",
    "PeopleLine",
    "Proxy",
    "Spool",
    "Trust",
    "Uplink",
    "decode",
    "digest",
    "encode",
    "parse",
]
