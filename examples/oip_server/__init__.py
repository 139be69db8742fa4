"""A small Open Inference Protocol server: scikit-learn models over gRPC, for the demo and for trying things out.

In: model files (`models.save`) named on the command line. Out: `inference.GRPCInferenceService` on one port:
`ModelInfer`, `ModelStreamInfer`, `ModelReady`, `ModelMetadata`, `ServerLive`, `ServerReady`, `ServerMetadata`.
It never batches, never schedules and keeps no state: it is what a gateway is put in front of, not a rival of one.

With `--faults` it also misbehaves when told to (`faults.py`), which a server for real use would not.

    models.py    a scikit-learn classifier as a file, with what a caller must know about it
    tensors.py   OIP tensors <-> numpy, typed and raw
    faults.py    how it may misbehave, and how it is told to
    service.py   the RPCs
    process.py   the server as a process of its own: start, kill, start again on the same port
"""

from __future__ import annotations

from .faults import Faults
from .models import ServedModel
from .process import ServerProcess, warm_up

__all__ = ["Faults", "ServedModel", "ServerProcess", "warm_up"]
