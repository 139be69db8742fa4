"""The demo: a real model behind the gateway, seen through a bad half minute.

A classifier tells eights from other handwritten digits (scikit-learn's `digits`). It meets noisy images, answers NaN
for a while, goes silent, and is killed and started again. Every input is sent twice: through the gateway, and to the
model alone. A scripted reviewer labels the review sample and some users complain. Then the gateway's own numbers are
printed beside the truth, which the demo knows because it drew the images.

    data.py      images, models, and the calls that will be made
    world.py     model servers and the gateway, as processes
    callers.py   grpcio and tritonclient (sync and aio), through the gateway and past it
    traffic.py   the phases: what goes wrong when, at what rate
    people.py    the reviewer, and users who hand receipts back
    tally.py     what callers saw, with and without the net
    show.py      the tables
"""
