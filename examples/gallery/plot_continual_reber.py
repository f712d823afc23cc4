# SPDX-License-Identifier: BSD-3-Clause
"""
Continual Reber grammar
=======================

Strings of the embedded Reber grammar in an endless stream, and nobody says where one begins: a net
has to forget by itself. F. Gers, J. Schmidhuber and F. Cummins, "Learning to forget: continual
prediction with LSTM", Neural Computation 12, 2000. Four blocks of two cells, inputs go to the
outputs directly as well; perfect is who predicts a million symbols without an error, here as many
as a test stream has.

Published: of 100 nets with forget gates 18 % are perfect, 62 % with a learning rate that falls;
without them 74 % are where somebody resets the states at each string, and nets fail where nobody
does.
"""

import _common
import matplotlib.pyplot as plt
import numpy as np
from _reber import embedded, one_hot, right

import fastlstm
from fastlstm import nn

page = _common.Page(__doc__)
STREAMS, STEPS, CELLS = 8, 40, 8  # streams side by side, symbols of an update
updates = page.pick(test=30, quick=6000, full=30_000)
trials = page.trials or page.pick(test=1, quick=2, full=10)
length = page.pick(test=200, quick=20_000, full=1_000_000)  # symbols of a test stream

# %%
# Streams
# -------
# Joined from a bank of strings that the grammar made.

rng = np.random.default_rng(page.seed)
bank = [(one_hot(s), one_hot(legal)) for s, legal in (embedded(rng) for _ in range(2000))]


class Stream:
    """One that never ends."""

    def __init__(self, rng):
        self._rng, self._x, self._legal = rng, [], []

    def take(self, symbols):
        """The next ones, what came after each, and what was legal there; (T, 7) each."""
        x, legal, have = self._x, self._legal, sum(map(len, self._x))
        while have <= symbols:
            string, after = bank[int(self._rng.integers(len(bank)))]
            x.append(string)
            legal += [after, one_hot("B")]  # after the last symbol the next string begins
            have += len(string)
        x, legal = np.concatenate(x), np.concatenate(legal)
        self._x, self._legal = [x[symbols:]], [legal[symbols:]]
        return x[:symbols], x[1 : symbols + 1], legal[:symbols]


def side_by_side(streams, symbols):
    """The next ones of all streams, (T, B, 7) each."""
    taken = zip(*(stream.take(symbols) for stream in streams), strict=True)
    return [np.stack(arrays, axis=1) for arrays in taken]


# %%
# Training
# --------
# The state goes on from update to update; as in the paper, a stream ends with its first error, and
# a new one begins with a state of zeros. Input and output gates start closed by 0.5 to 2, forget
# gates open by as much. Adam here, with a rate that falls to zero.


def trained(forget, seed):
    """A model and the largest |c| at each of its updates."""
    options = None if forget else {"forget_gate": False}
    lstm = fastlstm.LSTM(7, CELLS, options=options, seed=seed)
    model = nn.SequenceModel(lstm, nn.Linear(CELLS + 7, 7, seed=seed), outputs="every").train()
    opened = np.repeat([0.5, 1.0, 1.5, 2.0], CELLS // 4)
    lstm.parameters()["bias_ih_l0"].reshape(4, CELLS)[[0, 1, 3]] = -opened, opened, -opened
    adam, rate = fastlstm.optim.Adam(model), nn.Cosine(0.01, updates)
    rng = np.random.default_rng([seed, 1])
    streams, tape, largest = [Stream(rng) for _ in range(STREAMS)], None, []
    state = tuple(np.zeros((1, STREAMS, CELLS), np.float32) for _ in range(2))
    for k in range(updates):
        x, following, legal = side_by_side(streams, STEPS)
        logits, tape = model.forward(x, state, beside=x, tape=tape, num_threads=1)
        _, dlogits = nn.cross_entropy(logits, following.argmax(axis=-1))
        grads = model.backward(tape, dlogits, num_threads=1)
        fastlstm.optim.clip_grad_norm(grads.params, 1.0)
        adam.lr = rate(k)
        adam.step(grads)
        state = tuple(values.copy() for values in tape.state)
        largest.append(np.abs(state[1]).max())
        for b in np.flatnonzero(~right(logits, legal).all(axis=0)):
            streams[b] = Stream(rng)
            for values in state:
                values[:, b] = 0
    return model.eval(), largest


def until_wrong(model, seed):
    """Symbols of ten streams before the first error, `length` if there is none."""
    rng, state, found = np.random.default_rng([seed, 2]), None, np.full(10, length)
    streams, step = [Stream(rng) for _ in range(10)], min(length, 5000)
    for at in range(0, length, step):
        x, _, legal = side_by_side(streams, step)
        y, state = model.recurrent(x, state, num_threads=1)
        good = right(model.head(np.concatenate((y, x), axis=-1)), legal)
        wrong = np.where(good.all(axis=0), length, at + good.argmin(axis=0))
        found = np.minimum(found, wrong)
        if (found < length).all():
            break
    return found


kinds = {"forget gates": True, "no forget gates": False}
jobs = [(name, trial) for name in kinds for trial in range(trials)]
states, symbols = {}, {name: [] for name in kinds}
for name, trial in _common.progress(jobs, len(jobs), "nets"):
    model, largest = trained(kinds[name], 100 * page.seed + trial)
    states.setdefault(name, largest)
    symbols[name].append(until_wrong(model, trial))

# %%
# The picture
# -----------

figure, (left, middle) = plt.subplots(1, 2, figsize=(11.5, 4.3), layout="constrained")
for k, name in enumerate(kinds):
    style = {"color": _common.COLOURS[k], "linestyle": _common.DASHES[k], "label": name}
    left.plot(STEPS * np.arange(1, updates + 1), states[name], linewidth=1, **style)
    ends = np.concatenate(symbols[name])
    wrong = np.sort(ends[ends < length])
    left_over = 100 * (1 - np.arange(len(wrong) + 1) / len(ends))
    middle.step([1, *wrong, length], [100, *left_over], where="pre", **style)
left.set(yscale="log", xlabel="symbols of each stream", ylabel="largest |c|", title="Cells' states")
middle.set(xscale="log", xlabel="symbols of a test stream", ylabel="streams without an error in %")
middle.set(title="How far predictions are right", ylim=(-3, 103))
left.legend(fontsize=8)
page.show(figure)


def words(found):
    """Nets without an error in ten streams, and how far the others came."""
    perfect = sum((net == length).all() for net in found)
    median = np.median(np.concatenate(found))
    return f"{perfect} of {len(found)} nets perfect; median stream {median:,.0f} of {length:,}"


published = {"forget gates": "18 %, 62 % with a falling rate", "no forget gates": "fails"}
page.report((name, published[name], words(found)) for name, found in symbols.items())
