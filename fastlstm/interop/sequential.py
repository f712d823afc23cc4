# SPDX-License-Identifier: BSD-3-Clause
"""A plain chain of layers run whole, in NumPy and fastlstm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastlstm import Mask, checks

from .description import Layer
from .errors import Unsupported
from .other import Other
from .steps import Chunks, Masked, Step, step

Array = NDArray[Any]
Part = Other | tuple[str, Sequence[Layer], Any]


class _Recurrent(Step):
    """A stack of recurrent layers, and what its file says around it."""

    def __init__(self, name: str, layers: Sequence[Layer], model: Any) -> None:
        super().__init__(name, lambda x: x)
        self._first, self._last, self._model = layers[0], layers[-1], model
        self._states = [layer.initial_state for layer in layers]
        if self._last.bidirectional and self._last.merge_mode is None:
            raise ValueError("it puts out its directions apart (merge_mode=None)")
        if self._last.bidirectional:
            self.streams = "it reads from the end as well"
        elif self._first.go_backwards:
            self.streams = "it reads from the end"
        elif not self._last.return_sequences:
            self.streams = "it puts out the last step alone"

    def _initial(self, batch: int) -> Any:
        """The state that the file gives, for so many sequences."""
        given = next((state for state in self._states if state is not None), None)
        if given is None:
            return None
        directions = len(self._first.weights)
        parts = []
        for at in range(len(given)):
            rows = []
            for state in self._states:
                width = given[at].shape[-1]
                shape = (directions, batch, width)
                zero = np.zeros((directions, 1, width), self._model.dtype)
                rows.append(np.broadcast_to(zero if state is None else state[at], shape))
            parts.append(np.ascontiguousarray(np.concatenate(rows)))
        return parts[0] if len(parts) == 1 else tuple(parts)

    def whole(self, x: Array, mask: Array | None) -> Masked:
        self._check(x)
        first, last = self._first, self._last
        x = x.astype(self._model.dtype, copy=False)
        read = mask
        if first.go_backwards:
            x, read = x[:, ::-1], None if mask is None else mask[:, ::-1]
        rows = (
            None if read is None else Mask(read, batch_first=True, zero_outputs=first.zero_outputs)
        )
        given = x if rows is None else rows.gather(x)
        given = given if first.batch_first else given.transpose(1, 0, 2)
        lengths = None if rows is None else rows.lengths
        state = self._initial(len(x))
        if not last.return_sequences:
            y, _ = self._model.last(given, state, lengths=lengths)
            if read is not None and first.zero_outputs and read.shape[1]:
                y = np.where(read[:, -1:], y, np.zeros((), y.dtype))
            return self._merged(y), None
        y, _ = self._model(given, state, lengths=lengths)
        y = y if first.batch_first else y.transpose(1, 0, 2)
        if rows is not None:
            y = rows.spread(y, bidirectional=last.bidirectional)
        if first.go_backwards and not first.reversed_outputs:
            y = y[:, ::-1]
        return self._merged(y), mask

    def _check(self, x: Array) -> None:
        """A ValueError with the shape that a chain takes, whatever that of the layer is."""
        width = self._model.input_size
        if x.ndim != 3 or x.shape[2] != width:
            raise ValueError(f"{self.name} takes (B, T, {width}), got shape {x.shape}")

    def _merged(self, y: Array) -> Array:
        mode = self._last.merge_mode
        if not self._last.bidirectional or mode == "concat":
            return y
        one, other = np.split(y, 2, axis=-1)
        if mode == "mul":
            return np.asarray(one * other)
        return np.asarray(one + other if mode == "sum" else (one + other) / 2)

    def stream(self, batch: int) -> Chunks:
        running = self._model.stream(batch)
        state = self._initial(batch)
        if state is not None:
            running.state = state

        def chunk(x: Array) -> Array:
            self._check(x)
            steps = x.astype(self._model.dtype, copy=False)
            if self._first.batch_first:
                return np.asarray(running(steps))
            return np.asarray(running(steps.transpose(1, 0, 2))).transpose(1, 0, 2)

        return chunk


class SequentialStream:
    """A chain whose sequences come in chunks; made by the `stream` of a `Sequential`.

    ``stream(x)`` takes the next steps of every sequence, as the chain takes whole ones, and returns
    what the chain puts out for them.

    Parameters
    ----------
    steps : sequence of Step
        What the chain hands over.
    batch : int
        Sequences.
    """

    def __init__(self, steps: Sequence[Step], batch: int) -> None:
        self.batch, self._steps = batch, steps
        self._runs = [own.stream(batch) for own in steps]

    def __repr__(self) -> str:
        names = " -> ".join(step.name for step in self._steps)
        return f"<SequentialStream of {names}, {self.batch} at once>"

    def __call__(self, x: ArrayLike) -> Array:
        """The outputs of the next steps.

        Parameters
        ----------
        x : array_like, (B, t, inputs)
            The chunk; (B, t) of indices where the chain begins with an embedding.

        Returns
        -------
        ndarray, (B, t, outputs)
            A new array.

        Raises
        ------
        TypeError, ValueError
            `x` is no array of numbers, of another batch or width.
        """
        y = first = _given(x, self._steps)
        if len(y) != self.batch:
            raise ValueError(f"x must be of {self.batch} sequences, got {len(y)}")
        for own, run in zip(self._steps, self._runs, strict=True):
            y = _skipped(y, first, own.adds) if own.adds else run(y)
            first = y if own.is_input else first
        return np.array(y)


class Sequential:
    """The chain of layers of a file, run whole in NumPy and fastlstm; by `Imported.sequential`.

    ``chain(x)`` takes a batch of sequences, (B, T, inputs), or (B, T) of indices where the chain
    begins with an embedding, and returns what the file's model gives in inference. What is between
    the recurrent layers runs in NumPy, so bits may depend on the batch.

    Parameters
    ----------
    file : str
        What errors name.
    parts : sequence
        In their order: an `Other`, or of a stack its name, layers and fastlstm object.

    Raises
    ------
    Unsupported
        A layer is not known; the message says which.
    """

    def __init__(
        self, file: str, parts: Sequence[Other | tuple[str, Sequence[Layer], Any]]
    ) -> None:
        self._file = file
        self._steps: list[Step] = []
        for part in parts:
            name = part.name if isinstance(part, Other) else part[0]
            try:
                made = step(part) if isinstance(part, Other) else _Recurrent(*part)
            except KeyError as missing:
                what = f"its weight or setting {missing} is missing"
                raise Unsupported(file, name, what) from missing
            except (TypeError, ValueError) as error:
                raise Unsupported(file, name, str(error)) from error
            self._steps.append(made)

    def __repr__(self) -> str:
        return f"<Sequential of {self._file}: {' -> '.join(step.name for step in self._steps)}>"

    def __call__(self, x: ArrayLike, *, lengths: ArrayLike | None = None) -> Array:
        """Run whole sequences.

        Parameters
        ----------
        x : array_like, (B, T, inputs) or (B, T)
            A batch of sequences.
        lengths : array_like of B integers, optional
            How many steps of each sequence count, as a right-padded mask of Keras; all if None.

        Returns
        -------
        ndarray
            What the model puts out: (B, T, outputs), or (B, outputs) of the last step.

        Raises
        ------
        TypeError, ValueError
            `x` is no array of numbers, or does not fit a layer; the message names it.

        Examples
        --------
        >>> import numpy as np
        >>> import torch
        >>> from fastlstm import interop
        >>> chain = interop.from_torch(torch.nn.GRU(3, 4, batch_first=True)).sequential()
        >>> chain(np.ones((2, 5, 3), np.float32), lengths=[5, 2]).shape
        (2, 5, 4)
        """
        y = first = _given(x, self._steps)
        mask = None
        if lengths is not None:
            steps = np.asarray(lengths)
            if steps.shape != (len(y),) or steps.dtype.kind not in "iu":
                raise ValueError(f"lengths must be {len(y)} integers, got {lengths!r}")
            if len(steps) and (steps.min() < 0 or steps.max() > y.shape[1]):
                raise ValueError(f"lengths must be from 0 to {y.shape[1]}, got {lengths!r}")
            mask = np.arange(y.shape[1]) < steps[:, None]
        for run in self._steps:
            if run.adds:
                y = _skipped(y, first, run.adds)
            else:
                y, mask = run.whole(y, mask)
            first = y if run.is_input else first
        return np.array(y)

    def stream(self, batch_size: int = 1) -> SequentialStream:
        """Run sequences chunk by chunk, with the state kept between calls.

        Parameters
        ----------
        batch_size : int, default 1
            How many sequences it runs at once.

        Returns
        -------
        SequentialStream
            At the beginning of its sequences.

        Raises
        ------
        Unsupported
            A layer needs whole sequences; the message says which.

        Examples
        --------
        >>> import numpy as np
        >>> import torch
        >>> from fastlstm import interop
        >>> chain = interop.from_torch(torch.nn.GRU(3, 4, batch_first=True)).sequential()
        >>> stream = chain.stream(batch_size=2)
        >>> stream(np.ones((2, 5, 3), np.float32)).shape  # five steps
        (2, 5, 4)
        >>> stream(np.ones((2, 1, 3), np.float32)).shape  # one more
        (2, 1, 4)
        """
        batch = checks.count("batch_size", batch_size, 1)
        for run in self._steps:
            if run.streams:
                raise Unsupported(self._file, run.name, f"it cannot be streamed: {run.streams}")
        return SequentialStream(self._steps, batch)


def _skipped(y: Array, first: Array, columns: int) -> Array:
    """With the first columns of the chain's input added."""
    if first.shape[:-1] != y.shape[:-1] or y.shape[-1] != columns or first.shape[-1] < columns:
        raise ValueError(
            f"the skip adds {columns} columns of the input, of shape {first.shape}, "
            f"to outputs of shape {y.shape}"
        )
    return np.asarray(y + first[..., :columns], y.dtype)


def _given(x: ArrayLike, steps: Sequence[Step]) -> Array:
    """The inputs, of floats or indices as they are, of other numbers in float32."""
    array: Array = np.asarray(x)
    if array.dtype.kind not in "fiu" or array.ndim < 2:
        raise TypeError(
            f"x must be numbers of shape (B, T, ...), got {array.dtype} of shape {array.shape}"
        )
    indices = any(step.takes_indices for step in steps)
    return array if array.dtype.kind == "f" or indices else array.astype(np.float32)
