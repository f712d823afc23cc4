# SPDX-License-Identifier: BSD-3-Clause
"""
Gradients over time
===================

How much does the last output depend on what came 1 to 200 steps before? The gradient shrinks or
grows by a factor each step: in a plain RNN it vanishes or explodes (Hochreiter 1991; Bengio, Simard
and Frasconi 1994). The LSTM's cell passes it on by the forget gate alone, and undiminished where
that is 1, the constant error carousel of Hochreiter and Schmidhuber (1997). Gradients that explode
are cut to a largest norm (Pascanu, Mikolov and Bengio 2013).

Published: no numbers, a claim. An RNN's gradient falls or grows exponentially, an LSTM's need not.
"""

import _common
import matplotlib.pyplot as plt
import numpy as np

import fastlstm
from fastlstm import nn

page = _common.Page(__doc__)
LAGS, HIDDEN, INPUTS = 200, 24, 2
updates = page.pick(test=20, quick=600, full=3000)
distance = page.pick(test=20, quick=50, full=100)  # of what the task asks to remember

# %%
# Five layers
# -----------
# float64: over 200 steps gradients fall below what float32 can hold. ``forget_bias=4`` opens the
# forget gate at the start (Gers et al. 2000), ``forget_gate=False`` is the cell of 1997.


def layers():
    """New ones, by name."""
    sizes = {"input_size": INPUTS, "hidden_size": HIDDEN, "dtype": "float64", "seed": page.seed}
    return {
        "RNN": fastlstm.RNN(**sizes),
        "GRU": fastlstm.GRU(**sizes),
        "LSTM": fastlstm.LSTM(**sizes),
        "LSTM, forget bias 4": fastlstm.LSTM(**sizes, options={"forget_bias": 4.0}),
        "LSTM of 1997, no forget gate": fastlstm.LSTM(**sizes, options={"forget_gate": False}),
    }


def by_lag(layer):
    """Norm of the gradient of a sum of the last h for x that many steps before; lag 0 is 1."""
    rng = np.random.default_rng(page.seed)
    x = 0.3 * rng.standard_normal((LAGS + 1, 8, INPUTS))
    y, _, tape = layer.train().forward(x)
    dy = np.zeros_like(y)
    dy[-1] = rng.standard_normal(dy.shape[1:])
    norms = np.linalg.norm(layer.backward(tape, dy).x, axis=-1).mean(axis=1)[::-1]
    return norms / norms[0]


before = {name: by_lag(layer) for name, layer in layers().items()}

# %%
# Trained to remember
# -------------------
# The first step shows a 1 or a -1, noise follows, and the last output must say which it was. A
# plain RNN that has learned to hold a bit has latched: its state is at an attractor, where
# gradients vanish faster still (Bengio, Simard and Frasconi 1994).


def batch(rng, size=32):
    """Inputs (T, B, 2) and labels (B,)."""
    x = 0.3 * rng.standard_normal((distance + 1, size, INPUTS))
    labels = rng.integers(0, 2, size)
    x[:, :, 1] = 0
    x[0, :, 1] = 2 * labels - 1
    return x, labels


def trained(layer):
    """Share of right answers after the training, in per cent."""
    rng = np.random.default_rng(page.seed)
    model = nn.SequenceModel(layer, nn.Linear(HIDDEN, 2, dtype="float64", seed=page.seed)).train()
    adam = fastlstm.optim.Adam(model, lr=5e-3)
    for _ in range(updates):
        x, labels = batch(rng)
        logits, tape = model.forward(x)
        _, dlogits = nn.cross_entropy(logits, labels)
        grads = model.backward(tape, dlogits)
        fastlstm.optim.clip_grad_norm(grads.params, 1.0)
        adam.step(grads)
    x, labels = batch(rng, 500)
    return float(100 * np.mean(model(x).argmax(axis=-1) == labels))


made = layers()
accuracy = {
    name: trained(layer) for name, layer in _common.progress(made.items(), len(made), "training")
}
after = {name: by_lag(layer) for name, layer in made.items()}

# %%
# Clipping
# --------
# An RNN whose recurrent weights are 1.6 times larger explodes. The same steps with the norm cut to
# 1.


def exploding(clip):
    """Norm of the gradient before it is cut, and loss, of every update."""
    rng = np.random.default_rng(page.seed)
    rnn = fastlstm.RNN(INPUTS, HIDDEN, dtype="float64", seed=page.seed).train()
    w = rnn.parameters()["weight_hh_l0"]
    w *= 1.6 / np.abs(np.linalg.eigvals(w)).max()
    model = nn.SequenceModel(rnn, nn.Linear(HIDDEN, 2, dtype="float64", seed=page.seed)).train()
    sgd = fastlstm.optim.SGD(model, lr=0.03)
    norms, losses = [], []
    for _ in range(page.pick(test=15, quick=150, full=500)):
        x, labels = batch(rng)
        logits, tape = model.forward(x)
        loss, dlogits = nn.cross_entropy(logits, labels)
        grads = model.backward(tape, dlogits)
        norms.append(fastlstm.optim.clip_grad_norm(grads.params, clip))
        losses.append(loss)
        sgd.step(grads)
    return np.array(norms, float), np.array(losses)


clipping = {"not clipped": exploding(np.inf), "norm cut to 1": exploding(1.0)}

# %%
# The picture
# -----------

figure, (left, right, low, lower) = plt.subplots(1, 4, figsize=(17, 5.6), layout="constrained")
for axes, found, title in (
    (left, before, "Before training"),
    (right, after, f"Trained to remember over {distance} steps"),
):
    for k, (name, norms) in enumerate(found.items()):
        axes.plot(norms, color=_common.COLOURS[k], linestyle=_common.DASHES[k], label=name)
    axes.set(yscale="log", ylim=(1e-30, 1e3), xlabel="lag in steps", title=title)
    axes.set_ylabel("norm of the gradient, lag 0 is 1")
labels = [f"{name}: {accuracy[name]:.0f} % right" for name in after]
below = {"fontsize": 8, "loc": "upper center", "bbox_to_anchor": (0.5, -0.13)}
left.legend(**below)
right.legend(right.get_lines(), labels, **below)
for k, (name, (norms, losses)) in enumerate(clipping.items()):
    style = {"color": _common.COLOURS[k], "linestyle": _common.DASHES[k], "label": name}
    low.plot(norms, **style)
    lower.plot(losses, **style)
low.set(yscale="log", xlabel="update", ylabel="norm of the gradient", title="RNN that explodes")
lower.set(yscale="log", xlabel="update", ylabel="loss in nats", title="Its loss")
low.legend(fontsize=8)
page.show(figure)
page.report(
    (f"gradient at lag {LAGS} before training, {name}", "none", f"{norms[-1]:.1e}")
    for name, norms in before.items()
)
