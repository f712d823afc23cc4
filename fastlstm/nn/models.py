# SPDX-License-Identifier: BSD-3-Clause
"""A recurrent layer with a head."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from .. import checks
from ..checks import Array, SupportsArray
from ..gru import GRU
from ..lstm import LSTM
from ..rnn import RNN
from ..training import Tape
from .data import valid_steps
from .layers import LayerGradients, Linear
from .modules import Modules

Recurrent = LSTM | GRU | RNN


class SequenceTape:
    """What `forward` of a `SequenceModel` keeps for its `backward`; its memory may serve again.

    Attributes
    ----------
    state
        The recurrent layer's final state, which the next stretch of a long sequence starts from.

    Examples
    --------
    >>> import numpy as np, fastlstm
    >>> from fastlstm import nn
    >>> model = nn.SequenceModel(fastlstm.GRU(2, 8, seed=0), nn.Linear(8, 3, seed=0), "every")
    >>> y, tape = model.forward(np.zeros((4, 1, 2), np.float32))
    >>> y, tape = model.forward(np.ones((4, 1, 2), np.float32), tape.state, tape=tape)
    >>> tape.state.shape
    (1, 1, 8)
    """

    def __init__(self) -> None:
        self.state: Any = None
        self._inner = Tape()
        self._features: Array | None = None  # what the head has read
        self._kept: Array | None = None  # factors of dropout
        self._shares: Array | None = None  # what each step weighs in a mean

    def __repr__(self) -> str:
        return f"<SequenceTape of {self._inner.nbytes} bytes>"


class SequenceModel(Modules):
    """A recurrent layer and a head that reads its last output, their mean, or each of them.

    The last output is h of the last layer after a sequence's last step; of two directions, that of
    the second one after the first step is joined to it.

    Parameters
    ----------
    recurrent : LSTM, GRU or RNN
        Its parameters are called "recurrent.weight_ih_l0" and so on.
    head : Linear
        Of as many inputs as the recurrent layer has outputs; more, if there are values `beside`.
    outputs : {"last", "mean", "every"}
        What the head reads. Of a sequence without a step the mean is zero.
    dropout : float, default 0
        Probability that an input of the head is zero, in training mode.

    Raises
    ------
    TypeError, ValueError
        A wrong argument.

    Examples
    --------
    >>> import numpy as np, fastlstm
    >>> from fastlstm import nn
    >>> gru = fastlstm.GRU(2, 8, batch_first=True, bidirectional=True, seed=0)
    >>> model = nn.SequenceModel(gru, nn.Linear(16, 3, seed=0))
    >>> model(np.zeros((4, 7, 2), np.float32), lengths=[7, 1, 3, 7]).shape
    (4, 3)
    """

    def __init__(
        self,
        recurrent: Recurrent,
        head: Linear,
        outputs: Literal["last", "mean", "every"] = "last",
        dropout: float = 0.0,
    ) -> None:
        if not isinstance(recurrent, Recurrent):
            raise TypeError(
                f"recurrent must be an LSTM, GRU or RNN, got {type(recurrent).__name__}"
            )
        if not isinstance(head, Linear):
            raise TypeError(f"head must be a Linear, got {type(head).__name__}")
        super().__init__(recurrent=recurrent, head=head)
        if outputs not in ("last", "mean", "every"):
            raise ValueError(f'outputs must be "last", "mean" or "every", got {outputs!r}')
        self.outputs = outputs
        self.dropout = checks.number("dropout", dropout, below=1.0)
        width = recurrent._directions * recurrent._spec.outputs
        if head.in_features < width or head.dtype != recurrent.dtype:
            raise ValueError(
                f"head must have {width} inputs at least and dtype {recurrent.dtype}, got {head!r}"
            )

    def __repr__(self) -> str:
        parts = f"{self.recurrent!r}, {self.head!r}, outputs={self.outputs!r}"
        dropout = f", dropout={self.dropout}" if self.dropout else ""
        return f"{type(self).__name__}({parts}{dropout})"

    def _read(self, features: Array, beside: SupportsArray | None) -> Array:
        if beside is None:
            return features
        more = checks.array(
            "beside", checks.given("beside", beside, self.head.dtype), self.head.dtype
        )
        if more.shape[:-1] != features.shape[:-1]:
            raise ValueError(
                f"beside must have shape {features.shape[:-1]} and one more axis, got {more.shape}"
            )
        return np.concatenate((features, more), axis=-1)

    def __call__(
        self,
        x: SupportsArray,
        state: Any = None,
        *,
        lengths: ArrayLike | None = None,
        beside: SupportsArray | None = None,
        num_threads: int | None = None,
    ) -> Array:
        """Run inference; nothing is kept.

        Parameters
        ----------
        x, state, lengths
            As for a call of the recurrent layer.
        beside : array of shape (B, E), or (B, T, E) with every output, optional
            More inputs of the head, in the layout of its others.
        num_threads : int, optional
            As for a call of the recurrent layer.

        Returns
        -------
        ndarray of shape (B, O), or (B, T, O) with every output
            What the head gives, in the layout of `x`.

        Raises
        ------
        TypeError, ValueError, MemoryError
            As a call of the recurrent layer does.

        Examples
        --------
        >>> import numpy as np, fastlstm
        >>> from fastlstm import nn
        >>> model = nn.SequenceModel(fastlstm.GRU(2, 8, seed=0), nn.Linear(9, 3, seed=0), "mean")
        >>> x, age = np.ones((7, 4, 2), np.float32), np.ones((4, 1), np.float32)
        >>> model(x, lengths=[7, 1, 3, 0], beside=age).shape
        (4, 3)
        """
        features = self.features(x, state, lengths=lengths, num_threads=num_threads)
        y: Array = self.head(self._read(features, beside))
        return y

    def features(
        self,
        x: SupportsArray,
        state: Any = None,
        *,
        lengths: ArrayLike | None = None,
        num_threads: int | None = None,
    ) -> Array:
        """What the head reads of the recurrent layer; nothing is kept.

        Parameters
        ----------
        x, state, lengths, num_threads
            As for a call.

        Returns
        -------
        ndarray of shape (B, D*H), or (B, T, D*H) with every output
            In the layout of `x`.

        Raises
        ------
        TypeError, ValueError, MemoryError
            As a call does.

        Examples
        --------
        >>> import numpy as np, fastlstm
        >>> from fastlstm import nn
        >>> model = nn.SequenceModel(fastlstm.GRU(2, 8, seed=0), nn.Linear(8, 3, seed=0))
        >>> model.features(np.ones((7, 4, 2), np.float32)).shape
        (4, 8)
        """
        run = self.recurrent.last if self.outputs == "last" else self.recurrent
        y: Array
        y, _ = run(x, state, lengths=lengths, num_threads=num_threads)
        return self._mean(y, self._step_shares(y, lengths)) if self.outputs == "mean" else y

    def _step_shares(self, y: Array, lengths: ArrayLike | None) -> Array:
        """(B, T, 1) or (T, B, 1): 1 / length at the steps of a sequence, 0 after them."""
        axis = self._time_axis(y)
        if lengths is None:
            shape = (*y.shape[:-1], 1)
            return np.full(shape, 1 / max(y.shape[axis], 1), y.dtype)
        own = np.asarray(lengths)
        valid = valid_steps(own, y.shape[axis], batch_first=axis == 1)
        count = np.maximum(own, 1).reshape((-1, 1) if axis == 1 else (1, -1))
        shares: Array = (valid / count).astype(y.dtype)[..., None]
        return shares

    def _time_axis(self, y: Array) -> int:
        return 1 if y.ndim == 3 and self.recurrent.batch_first else 0

    def _mean(self, y: Array, shares: Array) -> Array:
        """The sum over steps in their order, so that padding changes no bit of it."""
        axis = self._time_axis(y)
        weighted = np.moveaxis(y * shares, axis, 0)
        if y.shape[-1] > 1 and len(weighted):
            total: Array = weighted.sum(axis=0)  # the last axis is the inner one: step after step
            return total
        total = np.zeros(weighted.shape[1:], y.dtype)
        for step in weighted:
            total += step
        return total

    def forward(
        self,
        x: SupportsArray,
        state: Any = None,
        *,
        lengths: ArrayLike | None = None,
        beside: SupportsArray | None = None,
        tape: SequenceTape | None = None,
        seed: int | None = None,
        num_threads: int | None = None,
    ) -> tuple[Array, SequenceTape]:
        """Run forward and keep what `backward` needs.

        Parameters
        ----------
        x, state, lengths, beside
            As for a call.
        tape : SequenceTape, optional
            One whose memory to use again; what it held is lost.
        seed : int, optional
            Of the dropout masks; None draws one.
        num_threads : int, optional
            As for a call.

        Returns
        -------
        y : ndarray
            As from a call.
        tape : SequenceTape
            For `backward`.

        Raises
        ------
        TypeError, ValueError, MemoryError
            As a call does.

        Examples
        --------
        >>> import numpy as np, fastlstm
        >>> from fastlstm import nn
        >>> lstm = fastlstm.LSTM(2, 8, batch_first=True, seed=0)
        >>> model = nn.SequenceModel(lstm, nn.Linear(8, 3, seed=0)).train()
        >>> adam = fastlstm.optim.Adam(model, lr=0.1)
        >>> x, labels = np.ones((4, 7, 2), np.float32), [0, 1, 1, 1]
        >>> losses = []
        >>> for _ in range(20):
        ...     logits, tape = model.forward(x)
        ...     loss, dlogits = nn.cross_entropy(logits, labels)
        ...     adam.step(model.backward(tape, dlogits))
        ...     losses.append(loss)
        >>> losses[-1] < losses[0]
        True
        """
        tape = SequenceTape() if tape is None else tape
        dropout = self.dropout if self.training else 0.0
        if seed is None and dropout:
            seed = self.recurrent._draw_seed()
        tape._shares = tape._kept = None
        y, tape.state, _ = self.recurrent.forward(
            x, state, lengths=lengths, tape=tape._inner, seed=seed, num_threads=num_threads
        )
        if self.outputs == "last":
            h_n = tape.state[0] if self.recurrent._has_c else tape.state
            y = np.concatenate(list(h_n[-self.recurrent._directions :]), axis=-1)
        elif self.outputs == "mean":
            tape._shares = self._step_shares(y, lengths)
            y = self._mean(y, tape._shares)
        features = self._read(y, beside)
        if dropout:
            drawn = np.random.default_rng([seed or 0, 1]).random(features.shape, np.float32)
            factors = np.where(drawn < dropout, 0.0, 1 / (1 - dropout))
            tape._kept = factors.astype(features.dtype)
            features = features * tape._kept
        y, tape._features = self.head.forward(features)
        return y, tape

    def backward(
        self,
        tape: SequenceTape,
        dy: SupportsArray,
        *,
        input_grad: bool = False,
        num_threads: int | None = None,
    ) -> LayerGradients:
        """Gradients of a loss from that of the head's outputs.

        Parameters
        ----------
        tape : SequenceTape
            From `forward`.
        dy : array of the shape of y
            Gradient of y.
        input_grad : bool, default False
            Whether to compute the gradient of x.
        num_threads : int, optional
            As for a call; results do not depend on it.

        Returns
        -------
        LayerGradients
            Of x, and of all parameters by the names of `parameters`.

        Raises
        ------
        TypeError, ValueError
            A wrong argument, or a tape that holds nothing.
        """
        if tape._features is None:
            raise ValueError("tape holds no forward pass")
        head = self.head.backward(tape._features, dy)
        dread = head.x if tape._kept is None else head.x * tape._kept
        recurrent = self.recurrent
        width = recurrent._directions * recurrent._spec.outputs
        dread = dread[..., :width]
        given: dict[str, Any] = {"input_grad": input_grad, "num_threads": num_threads}
        if tape._shares is not None:
            dread = np.expand_dims(dread, self._time_axis(tape._shares)) * tape._shares
        if self.outputs != "last":
            grads = recurrent.backward(tape._inner, dread, **given)
        else:
            h_n = tape.state[0] if recurrent._has_c else tape.state
            dh_n = np.zeros_like(h_n)
            dh_n[-recurrent._directions :] = np.split(dread, recurrent._directions, axis=-1)
            slope: Any = (dh_n, None) if recurrent._has_c else dh_n
            grads = recurrent.backward(tape._inner, dstate=slope, **given)
        params = self.joined(recurrent=grads.params, head=head.params)
        return LayerGradients(grads.x, params)
