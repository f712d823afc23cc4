# SPDX-License-Identifier: BSD-3-Clause
"""What all pages of the gallery share: options, pictures, progress, a table of results."""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

T = TypeVar("T")

# The palette of Okabe and Ito, which colour-blind readers can tell apart; lines differ in dashes
# too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))


class Page:
    """The options of a page, and where its picture and its numbers go.

    Attributes
    ----------
    size : str
        "test" (a second or two), "quick" (under a minute) or "full" (the paper's own sizes).
    seed : int
        Of first weights and data.
    trials : int or None
        How many the user asked for.
    data : Path or None
        Folder or file that the user named.
    flags, numbers : dict
        The page's own options, by name.
    """

    def __init__(
        self,
        doc: str,
        data: str | None = None,
        flags: Mapping[str, str] | None = None,
        numbers: Mapping[str, str] | None = None,
    ) -> None:
        parser = argparse.ArgumentParser(
            description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        sizes = parser.add_mutually_exclusive_group()
        sizes.add_argument("--full", action="store_true", help="the paper's own sizes")
        sizes.add_argument("--test", action="store_true", help="a second or two: does it run?")
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--trials", type=int, help="how many, where there are some")
        parser.add_argument("--pictures", type=Path, help="folder for picture and results")
        if data is not None:
            parser.add_argument("--data", type=Path, help=data)
        for name, what in (flags or {}).items():
            parser.add_argument(f"--{name}", action="store_true", help=what)
        for name, what in (numbers or {}).items():
            parser.add_argument(f"--{name}", type=int, help=what)
        given, _ = parser.parse_known_args()  # sphinx-gallery has options of its own
        self.flags = {name: bool(getattr(given, name)) for name in flags or {}}
        self.numbers: dict[str, int | None] = {name: getattr(given, name) for name in numbers or {}}
        self.name = "_".join([Path(sys.argv[0]).stem, *(k for k, on in self.flags.items() if on)])
        self.size = "full" if given.full else "test" if given.test else "quick"
        self.seed: int = given.seed
        self.data: Path | None = getattr(given, "data", None)
        self.trials: int | None = given.trials
        self._pictures: Path | None = given.pictures
        plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

    def pick(self, *, test: T, quick: T, full: T) -> T:
        """What belongs to the size that was asked for."""
        return {"test": test, "quick": quick, "full": full}[self.size]

    def show(self, figure: Figure) -> None:
        """Write the picture into the folder that was named; else open a window, if there is one."""
        if self._pictures is None:
            if plt.get_backend().lower() != "agg":
                plt.show()
            return
        self._pictures.mkdir(parents=True, exist_ok=True)
        figure.savefig(self._pictures / f"{self.name}.png", dpi=110)

    def report(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Print what was measured, what was published and what it is here; keep it as a table."""
        rows = list(rows)
        for what, published, here in rows:
            print(f"{what}: {here} (published: {published})")
        if self._pictures is not None:
            self._pictures.mkdir(parents=True, exist_ok=True)
            lines = [f"| `{self.name}` | {what} | {pub} | {here} |\n" for what, pub, here in rows]
            (self._pictures / f"{self.name}.md").write_text("".join(lines), encoding="utf-8")


def progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """The items; says on standard error how far it is, once a second after the first two.

    On that of the process: what sys.stderr gets, sphinx-gallery shows on the page.
    """
    began = said = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - began > 2 and now - said > 1:
            left = (now - began) * (total - done) / max(1, done)
            print(
                f"\r{what}: {done / total:4.0%}, {left:.0f} s left at most ",
                end="",
                file=sys.__stderr__,
            )
            said = now
        yield item
    if said != began:
        print(f"\r{what}: done in {time.monotonic() - began:.0f} s         ", file=sys.__stderr__)
