# SPDX-License-Identifier: BSD-3-Clause
"""The demo's picture: times of both engines, how both models were trained, sample digits."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from digits import ROWS, DigitsResult
from digits_training import WAYS, DigitTraining
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter
from text import TextResult
from timing import ENGINES, Timing, readable

COLOURS = {"PyTorch": "#b8b4ac", "fastlstm": "#0f6e84"}
INK, FAINT, ALARM = "#26292c", "#73787d", "#c0392b"
SAMPLES = 10


def draw(digits: DigitsResult, text: TextResult, path: str) -> None:
    """Writes the picture as a PNG to `path`."""
    style = {
        "font.size": 10,
        "axes.titlesize": 12,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 12,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": FAINT,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "text.color": INK,
    }
    with plt.rc_context(style):
        figure = plt.figure(figsize=(13, 12), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.15, h_pad=0.15)
        top, bottom = figure.subfigures(2, 1, height_ratios=(4.4, 1))
        grid = top.add_gridspec(3, 2, width_ratios=(1.3, 1))
        _times(top.add_subplot(grid[:, 0]), [*digits.timings, *text.timings])
        _digit_training(top.add_subplot(grid[0, 1]), digits.training)
        _text_training(top.add_subplot(grid[1, 1]), text)
        _rows(top.add_subplot(grid[2, 1]), digits)
        _samples(bottom.subplots(1, SAMPLES), digits)
        bottom.suptitle(
            f"Test scans and what both engines read (same predictions: "
            f"{'yes' if digits.same else 'NO'})",
            x=0.012,
            ha="left",
            fontsize=12,
            fontweight="bold",
        )
        figure.savefig(path, dpi=130)
        plt.close(figure)


def _times(axes: Axes, timings: list[Timing]) -> None:
    where = np.arange(len(timings))
    for offset, engine in zip((-0.2, 0.2), ENGINES, strict=True):
        seconds = [timing.seconds[engine] for timing in timings]
        bars = axes.barh(where + offset, seconds, 0.36, color=COLOURS[engine], label=engine)
        axes.bar_label(bars, [readable(s) for s in seconds], padding=4, color=FAINT, fontsize=9)
    shortest = min(min(timing.seconds.values()) for timing in timings)
    longest = max(max(timing.seconds.values()) for timing in timings)
    axes.set_xscale("log")
    axes.set_xlim(shortest / 3, longest * 30)
    for y, timing in zip(where, timings, strict=True):
        axes.text(longest * 28, y, f"{timing.ratio:.1f} x", ha="right", va="center", weight="bold")
    axes.set_yticks(where, [timing.task.replace(", ", ",\n") for timing in timings], color=INK)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(FuncFormatter(lambda s, _: f"{s * 1e3:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("milliseconds, log axis")
    axes.set_title("Time per call or update, and how many times faster")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2)


def _digit_training(axes: Axes, training: DigitTraining) -> None:
    widths = dict(zip(WAYS, (5, 2.5, 0.9), strict=True))  # each lies on top of the one before
    colours = dict(zip(WAYS, (COLOURS["PyTorch"], "#e0a030", COLOURS["fastlstm"]), strict=True))
    for way in WAYS:
        losses, seconds = training.course.losses[way], training.course.total(way)
        axes.plot(
            np.arange(1, len(losses) + 1),
            losses,
            color=colours[way],
            linewidth=widths[way],
            label=f"{way}: {seconds:.2f} s, {training.accuracy[way]:.1%} right",
        )
    axes.set_yscale("log")
    axes.set_ylim(top=60)  # room for the legend
    axes.legend(frameon=False, loc="upper right", fontsize=9)
    axes.set_xlabel("training update, same weights and batches")
    axes.set_title("Digit classifier: loss")


def _text_training(axes: Axes, text: TextResult) -> None:
    theirs, ours = (text.training.losses[engine] for engine in ENGINES)
    updates = np.arange(1, len(ours) + 1)
    width = max(1, len(updates) // 60)
    smooth = np.convolve(ours, np.ones(width) / width, mode="valid")
    axes.plot(updates[: len(theirs)], theirs, color=COLOURS["PyTorch"], linewidth=4)
    axes.plot(updates, ours, color=COLOURS["fastlstm"], linewidth=0.6, alpha=0.6)
    axes.plot(updates[width - 1 :], smooth, color=INK, linewidth=1.5)
    bits = text.bits["fastlstm"]
    axes.axhline(bits, color=COLOURS["fastlstm"], linewidth=1.2, linestyle="--")
    axes.annotate(
        f"held out, both engines: {bits:.3f}",
        (updates[-1], bits),
        xytext=(0, -16),
        textcoords="offset points",
        ha="right",
        color=COLOURS["fastlstm"],
        weight="bold",
    )
    axes.set_ylim(0, max(ours) * 1.05)
    axes.set_xlabel("training update, accelerated; grey: plain PyTorch")
    axes.set_title("Character model: bits per character")


def _rows(axes: Axes, digits: DigitsResult) -> None:
    accuracy = digits.accuracy(digits.row_predictions)
    rows = np.arange(1, ROWS + 1)
    axes.plot(rows, accuracy["PyTorch"], color=COLOURS["PyTorch"], linewidth=7, label="PyTorch")
    axes.plot(
        rows, accuracy["fastlstm"], "o-", color=COLOURS["fastlstm"], markersize=4, label="fastlstm"
    )
    axes.legend(frameon=False, loc="lower right")
    axes.set_ylim(0, 1.05)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("rows of the scan streamed so far")
    axes.set_title("Digits named rightly, row by row")


def _samples(panels: list[Axes], digits: DigitsResult) -> None:
    # The misread scans first: they show that the engines agree on mistakes, too.
    wrong = digits.predictions["PyTorch"] != digits.labels
    unlike = digits.predictions["PyTorch"] != digits.predictions["fastlstm"]
    chosen = np.argsort(~unlike * 2 + ~wrong, kind="stable")[:4]
    others = np.setdiff1d(np.arange(len(digits.labels)), chosen)
    for panel, index in zip(panels, [*chosen, *others], strict=False):
        panel.imshow(digits.scans[index], cmap="gray_r", vmin=0, vmax=1)
        panel.set_xticks([])
        panel.set_yticks([])
        panel.spines[:].set_visible(True)
        panel.spines[:].set_color("#d8d8d8")
        label = digits.labels[index]
        theirs, ours = (digits.predictions[engine][index] for engine in ENGINES)
        colour = INK if theirs == ours == label else ALARM
        panel.set_xlabel(f"is {label}\nPyTorch: {theirs}\nfastlstm: {ours}", color=colour)
