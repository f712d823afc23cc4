# SPDX-License-Identifier: BSD-3-Clause
"""
Serving many streams
====================

One model, many clients, each with a state of its own: a client sends a step and waits for what the
model says of it. A server that takes all steps that are waiting as one batch does more in a second
than one that answers them in turn, and no client can tell the difference: an output has the same
bits whatever batch it was in. ONNX Runtime is served by the same loop.

Published: none; ``docs/benchmarks.md`` has times of single calls. Clients arrive by a Poisson
process on a clock that the page keeps itself: a batch takes the processor time that was measured
for it on one thread, so other programs of the machine do not count, and no client is really
waiting.
"""

import time

import _common
import matplotlib.pyplot as plt
import numpy as np

import fastlstm

page = _common.Page(__doc__)
INPUTS, HIDDEN = 40, page.pick(test=16, quick=128, full=256)
CLIENTS, MOST = 256, 64  # the largest batch
requests = page.pick(test=200, quick=6000, full=40_000)
lstm = fastlstm.LSTM(INPUTS, HIDDEN, seed=page.seed)

# %%
# Engines
# -------
# Each takes inputs (B, I) and states (B, H), and gives the new states; the states' h is the output.


def ours(x, h, c):
    """One step of every client of the batch."""
    _, (h, c) = lstm(x[None], (h[None], c[None]), num_threads=1)
    return h[0], c[0]


def onnx_runtime():
    """The same by ONNX Runtime; None without it."""
    try:
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return None
    params = lstm.state_dict()

    def gates(name):
        """From i, f, g, o to ONNX's i, o, f, c."""
        i, f, g, o = np.split(params[name], 4)
        return np.concatenate((i, o, f, g))

    weights = {
        "W": gates("weight_ih_l0")[None],
        "R": gates("weight_hh_l0")[None],
        "B": np.concatenate((gates("bias_ih_l0"), gates("bias_hh_l0")))[None],
    }
    node = helper.make_node(
        "LSTM", ["x", "W", "R", "B", "", "h", "c"], ["", "h_n", "c_n"], hidden_size=HIDDEN
    )

    def values(*names, width):
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, "B", width]) for n in names]

    graph = helper.make_graph(
        [node],
        "step",
        values("x", width=INPUTS) + values("h", "c", width=HIDDEN),
        values("h_n", "c_n", width=HIDDEN),
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, ["CPUExecutionProvider"]
    )

    def step(x, h, c):
        """One step of every client of the batch."""
        h, c = session.run(["h_n", "c_n"], {"x": x[None], "h": h[None], "c": c[None]})
        return h[0], c[0]

    return step


engines = {"fastlstm": ours}
if (other := onnx_runtime()) is not None:
    engines["ONNX Runtime"] = other

# %%
# The server
# ----------


def served(step, arrivals, clients, most):
    """Seconds from each request to its answer, where at most `most` make a batch; last outputs."""
    rng = np.random.default_rng(page.seed)
    inputs = rng.standard_normal((CLIENTS, INPUTS), dtype=np.float32)
    h, c = np.zeros((2, CLIENTS, HIDDEN), np.float32)
    waited, now, at = np.zeros(len(arrivals)), 0.0, 0
    while at < len(arrivals):
        now = max(now, arrivals[at])
        end = min(at + most, int(np.searchsorted(arrivals, now, side="right")))
        who = clients[at:end]
        if len(set(who)) < len(who):  # a client's second step waits for its first
            first = np.unique(who, return_index=True)[1]
            end = at + int(np.setdiff1d(np.arange(len(who)), first)[0])
            who = clients[at:end]
        began = time.thread_time()
        h[who], c[who] = step(inputs[who], h[who], c[who])
        now += time.thread_time() - began
        waited[at:end] = now - arrivals[at:end]
        at = end
    return waited, h


rng = np.random.default_rng(page.seed)
one = [np.zeros((1, n), np.float32) for n in (INPUTS, HIDDEN, HIDDEN)]
seconds = []
for _ in range(200):
    began = time.thread_time()
    ours(*one)
    seconds.append(time.thread_time() - began)
alone = float(np.median(seconds))  # of one step of one client
clients = rng.integers(0, CLIENTS, requests)
gaps = rng.exponential(1, requests)
loads = page.pick(
    test=(0.5, 2.0), quick=(0.2, 0.5, 0.8, 1.2, 2.0, 3.0), full=(0.2, 0.5, 0.8, 1.2, 2.0, 3.0, 4.0)
)
ways = {f"{name}, {'a batch of all that wait' if most > 1 else 'one by one'}": (step, most)
        for name, step in engines.items() for most in (1, MOST)}  # fmt: skip
waits = {way: [] for way in ways}
outputs = {}
jobs = [(load, way) for load in loads for way in ways]
for load, way in _common.progress(jobs, len(jobs), "serving"):
    waited, h = served(ways[way][0], np.cumsum(gaps) * alone / load, clients, ways[way][1])
    waits[way].append(waited)
    outputs.setdefault(way.split(",")[0], []).append(h)
same = all(np.array_equal(outputs["fastlstm"][0], h) for h in outputs["fastlstm"])
print(f"same bits in every batch: {same}")

# %%
# The picture
# -----------
# The load is in steps a second, and 1 is what answering in turn can do at most.

figure, panels = plt.subplots(1, 2, figsize=(12, 4.4), layout="constrained", sharey=True)
for axes, share in zip(panels, (50, 99), strict=True):
    for k, (way, found) in enumerate(waits.items()):
        percentiles = [1e6 * np.percentile(waited, share) for waited in found]
        rate = 1e-3 * np.array(loads) / alone
        style = {"color": _common.COLOURS[k], "linestyle": _common.DASHES[k], "label": way}
        axes.plot(rate, percentiles, marker="o", markersize=4, **style)
    axes.set(yscale="log", xlabel="thousand steps a second", title=f"{share} % wait less")
panels[0].set_ylabel("microseconds from request to answer")
panels[0].legend(fontsize=8)
page.show(figure)
rows = []
for way, found in waits.items():
    median, late = (1e6 * np.percentile(found[len(loads) // 2], share) for share in (50, 99))
    rate = loads[len(loads) // 2] / alone
    here = f"50 %: {median:,.0f} us, 99 %: {late:,.0f} us"
    rows.append((f"{rate:,.0f} steps a second, H {HIDDEN}, {way}", "none", here))
page.report(rows)
