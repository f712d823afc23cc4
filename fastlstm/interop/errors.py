# SPDX-License-Identifier: BSD-3-Clause
"""What is wrong with a file, and where; libraries that are not installed."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any


class FormatError(ValueError):
    """A file, or a model of another library, that cannot be taken over.

    Parameters
    ----------
    file : str
        Path of the file, or what stands for it ("model").
    place : str
        Where in it; "" for the file as a whole.
    what : str
        What is wrong and what is allowed.

    Examples
    --------
    >>> from fastlstm import interop
    >>> try:
    ...     interop.from_torch({"head.weight": [[0.0]]})
    ... except interop.FormatError as error:
    ...     print(error)
    state dict: it has no recurrent layer, no name such as weight_ih_l0: it has 'head.weight'
    """

    def __init__(self, file: str, place: str, what: str) -> None:
        parts = [
            part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part)
            for part in (file, place, what)
        ]  # of a damaged file's names, bytes
        super().__init__(*parts)
        self.file, self.place, self.what = parts

    def __str__(self) -> str:
        parts = [printable(self.file), printable(self.place), self.what]
        parts[2] = "\n".join(printable(line) for line in self.what.split("\n"))
        return ": ".join(part for part in parts if part)


class Unsupported(FormatError):
    """A file that is whole, with a layer that fastlstm does not have.

    Parameters
    ----------
    file, place, what : str
        As of `FormatError`.

    Examples
    --------
    >>> import fastlstm
    >>> from fastlstm import interop
    >>> try:
    ...     interop.to_torch(fastlstm.LSTM(3, 4, options={"peepholes": True}))
    ... except interop.Unsupported as error:
    ...     print(error.what)
    PyTorch has no LSTM with LSTMOptions(peepholes=True)
    """


def printable(text: str) -> str:
    """A line whose characters a terminal only shows: names in files may hold any others."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


@contextlib.contextmanager
def reading(file: str, place: str = "", *, opened: bool = False) -> Iterator[None]:
    """Whatever goes wrong inside is the file's fault: a FormatError with this file and place.

    What already is one passes as it is, and so do errors that no file makes: memory, missing
    libraries and errors of the system, but for those of a library that was given bytes (`opened`).
    """
    try:
        yield
    except (FormatError, MemoryError, ImportError):
        raise
    except OSError as error:
        if not opened:
            raise
        raise FormatError(file, place, str(error)) from error
    except RecursionError as error:
        raise FormatError(file, place, "its parts are nested too deeply") from error
    except Exception as error:
        text = str(error).strip().split("\n")[0] or type(error).__name__
        raise FormatError(file, place, text) from error


def library(name: str, extra: str, task: str) -> Any:
    """The module of this name, which the extra brings; an ImportError says how to install it.

    `task` ends the sentence "... is needed to": "read ONNX files".
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f'{name.split(".")[0]} is needed to {task}: pip install "fastlstm[{extra}]"',
            name=error.name,
        ) from error
