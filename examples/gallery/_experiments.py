# SPDX-License-Identifier: BSD-3-Clause
"""What the pages of the tasks with one target at the end share: trials, picture and words."""

import matplotlib.pyplot as plt
import numpy as np
from _common import COLOURS, DASHES, Page, progress
from _online import Course, solve, solve_together


def run(page: Page, task, together, nets, count: int, most: int) -> dict[str, list[Course]]:
    """`count` courses of each net, by name.

    `together` has what makes nets of 1997 from seeds, side by side; `nets` what makes one from a
    seed, and its batch.
    """
    tested = page.pick(test=50, quick=512, full=2560)
    seeds = [1000 * page.seed + number for number in range(count)]
    found: dict[str, list[Course]] = {}
    for name, make_all in together.items():
        steps = progress(range(most), most, name)
        found[name] = solve_together(make_all(seeds), task, page.seed, steps, tested=tested)
    jobs = [(name, seed) for name in nets for seed in seeds]
    for name, seed in progress(jobs, len(jobs), "trials"):
        make, batch = nets[name]
        course = solve(make(seed), task, seed, most, batch=batch, tested=tested)
        found.setdefault(name, []).append(course)
    return found


def draw(page: Page, found: dict[str, list[Course]], task, title: str, paper: float | None) -> None:
    """The mean error of every trial over the sequences seen, on log axes."""
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    for k, (name, courses) in enumerate(found.items()):
        for number, course in enumerate(courses):
            at = 500 * np.arange(1, len(course.errors) + 1)
            label = name if number == 0 else None
            axes.plot(at, course.errors, color=COLOURS[k], linestyle=DASHES[k], label=label)
            if course.solved:
                axes.plot(at[-1], course.errors[-1], "o", color=COLOURS[k])
    if np.isfinite(task.mean):
        axes.axhline(task.mean, color="#777777", linewidth=0.8)
        axes.annotate("mean error asked for", (1, task.mean), xycoords=("axes fraction", "data"),
                      ha="right", va="bottom", color="#555555", fontsize=8)  # fmt: skip
    if paper is not None:
        axes.axvline(paper, color="#777777", linewidth=0.8, linestyle=":")
        axes.annotate("mean of 1997", (paper, 1), xycoords=("data", "axes fraction"), rotation=90,
                      ha="right", va="top", color="#555555", fontsize=8)  # fmt: skip
    axes.set(yscale="log", xlabel="sequences seen", ylabel="mean absolute error", title=title)
    figure.legend(fontsize=8, title="dot: solved", loc="outside lower center", ncols=3)
    page.show(figure)


def summary(courses: list[Course], most: int) -> str:
    """How many were solved, after how many sequences, and what they got wrong."""
    solved = [course for course in courses if course.solved]
    last = np.mean([course.error for course in courses])
    if not solved:
        return f"0 of {len(courses)} solved within {most:,}; mean test error {last:.3f}"
    counts = [course.sequences for course in solved]
    wrong, tested = sum(c.wrong for c in solved), sum(c.tested for c in solved)
    return (
        f"{len(solved)} of {len(courses)} solved, after {np.mean(counts):,.0f} sequences "
        f"in the mean ({min(counts):,} to {max(counts):,}); {wrong} of {tested:,} test ones wrong"
    )
