# SPDX-License-Identifier: BSD-3-Clause
"""One recurrent layer as all formats see it: what stands between a format and a fastlstm object."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastlstm import GRU, LSTM, RNN, GRUCell, LSTMCell, LSTMOptions, RNNCell, checks
from fastlstm.spec import Spec

Array = NDArray[Any]
Model = LSTM | GRU | RNN | LSTMCell | GRUCell | RNNCell
LAYERS: dict[str, type[LSTM] | type[GRU] | type[RNN]] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
CELLS: dict[str, type[LSTMCell] | type[GRUCell] | type[RNNCell]] = {
    "lstm": LSTMCell,
    "gru": GRUCell,
    "rnn": RNNCell,
}
_SIZES = {"lstm": "lstm", "gru": "gru", "rnn": "rnn_tanh"}  # names of cells, for their sizes


@dataclass(frozen=True, eq=False, repr=False)
class Layer:
    """One recurrent layer of one or two directions.

    The first fields say what fastlstm runs, the others what a format says around it: how an
    importer met the layer, and what an exporter may write.

    Parameters
    ----------
    kind : {"lstm", "gru", "rnn"}
        What layer it is.
    name : str
        Its name in the file.
    input_size, hidden_size : int
        I and H.
    weights : sequence of mappings of str to ndarray
        One mapping for each direction: torch's names without an ending (``weight_ih``,
        ``weight_hh``, ``bias_ih``, ``bias_hh``, ``weight_hr``, peepholes ...), gates in torch's
        order. All of one dtype, float32 or float64.
    proj_size : int, default 0
        P of a projection; 0: there is none.
    options : LSTMOptions, optional
        What makes an LSTM another one than the plain one.
    nonlinearity : {"tanh", "relu"}
        Of an RNN.
    reset_after : bool, default True
        Whether a GRU's reset gate comes after the product, as in torch.
    cell : bool, default False
        Whether it is one step, of a cell.
    batch_first : bool, default False
        Whether the file has the batch before the time.
    go_backwards : bool, default False
        Whether the one direction reads from the last step to the first.
    reversed_outputs : bool, default False
        Whether outputs of `go_backwards` come in the order in which they are made (Keras), the
        last step's first; else in that of the inputs (ONNX).
    return_sequences : bool, default True
        Whether all steps are put out, or the last one alone.
    merge_mode : {"concat", "sum", "mul", "ave", None}
        What becomes of the outputs of two directions; None: two outputs.
    stateful : bool, default False
        Whether the file's layer keeps its state from call to call.
    initial_state : tuple of ndarray, optional
        (h_0,) or (h_0, c_0) that the file holds, (D, B, H) each; B is 1 where all rows have one.
    has_state : bool, default False
        Whether the file's model computes or takes an initial state, call by call.
    has_lengths : bool, default False
        Whether the file gives the layer lengths or a mask.
    zero_outputs : bool, default False
        Whether outputs of masked steps are 0 (Keras's ``zero_output_for_mask``), else those of the
        step before.
    dropout : float, default 0.0
        Of the outputs, in training, as a stack of layers has it.

    Raises
    ------
    ValueError
        Weights are missing or do not fit; the message names one.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import interop
    >>> weights = {"weight_ih": np.zeros((16, 3)), "weight_hh": np.zeros((16, 4))}
    >>> layer = interop.Layer("lstm", "encoder", 3, 4, [weights])
    >>> layer
    <Layer 'encoder': lstm, 3 to 4, float64>
    >>> layer.model()
    LSTM(3, 4, bias=False, dtype=float64)
    """

    kind: str
    name: str
    input_size: int
    hidden_size: int
    weights: Sequence[Mapping[str, Array]]
    proj_size: int = 0
    options: LSTMOptions | None = None
    nonlinearity: str = "tanh"
    reset_after: bool = True
    cell: bool = False
    batch_first: bool = False
    go_backwards: bool = False
    reversed_outputs: bool = False
    return_sequences: bool = True
    merge_mode: str | None = "concat"
    stateful: bool = False
    initial_state: tuple[Array, ...] | None = None
    has_state: bool = False
    has_lengths: bool = False
    zero_outputs: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in LAYERS:
            raise ValueError(f"kind must be one of {', '.join(LAYERS)}, got {self.kind!r}")
        if len(self.weights) not in (1, 2):
            raise ValueError(f"there must be one direction or two, got {len(self.weights)}")
        if self.go_backwards and len(self.weights) == 2:
            raise ValueError("go_backwards is for one direction, got two")
        if self.cell and len(self.weights) == 2:
            raise ValueError("a cell has one direction, got two")
        expected = self._spec().shapes
        for direction, weights in enumerate(self.weights):
            end = ("_l0", "_l0_reverse")[direction]
            names = [name.removesuffix(end) for name in expected if name.endswith(end)]
            odd = {*names} ^ {*weights}
            if odd:
                raise ValueError(f"weights must be {', '.join(names)}, got {', '.join(weights)}")
            for name in names:
                shape = expected[name + end]
                if weights[name].shape != shape:
                    raise ValueError(f"{name} must have shape {shape}, got {weights[name].shape}")
                if weights[name].dtype != self.dtype:
                    raise ValueError(
                        f"{name} has dtype {weights[name].dtype} and weight_ih {self.dtype}: "
                        "they must have one"
                    )
        if self.dtype not in (np.float32, np.float64):
            raise ValueError(f"weights must be float32 or float64, got {self.dtype}")

    def __repr__(self) -> str:
        directions = ", two directions" if self.bidirectional else ""
        sizes = f"{self.input_size} to {self.proj_size or self.hidden_size}"
        return f"<Layer {self.name!r}: {self.kind}, {sizes}{directions}, {self.dtype}>"

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the weights."""
        return self.weights[0]["weight_ih"].dtype

    @property
    def bias(self) -> bool:
        """Whether there are biases."""
        return "bias_ih" in self.weights[0]

    @property
    def bidirectional(self) -> bool:
        """Whether there are two directions."""
        return len(self.weights) == 2

    @property
    def parameters(self) -> int:
        """How many numbers the weights hold."""
        return sum(array.size for weights in self.weights for array in weights.values())

    def _spec(self) -> Spec:
        first = self.weights[0]
        if "weight_ih" not in first:
            raise ValueError(f"weight_ih is missing, got {', '.join(first) or 'no weights'}")
        options = None if self.options is None else self.options.equations()
        return Spec(
            _SIZES[self.kind],
            self.input_size,
            self.hidden_size,
            directions=len(self.weights),
            bias=self.bias,
            dtype=self.dtype,
            proj_size=self.proj_size,
            options=options,
        )

    def model(self) -> Model:
        """The fastlstm object that runs it.

        Returns
        -------
        LSTM, GRU or RNN, or one of their cells
            A new one, of one layer.
        """
        return stack([self])

    def with_bias(self) -> Layer:
        """The same layer with biases: zeros where it has none.

        Returns
        -------
        Layer
            Itself where it has some.
        """
        if self.bias:
            return self
        rows = len(self.weights[0]["weight_ih"])
        zeros = {name: np.zeros(rows, self.dtype) for name in ("bias_ih", "bias_hh")}
        weights = [{**mapping, **zeros} for mapping in self.weights]
        return dataclasses.replace(self, weights=weights)


# Fields that the layers of a stack have in common.
_ALIKE = (
    "kind", "hidden_size", "proj_size", "options", "nonlinearity", "reset_after", "batch_first",
    "has_lengths", "has_state", "stateful", "dtype", "bidirectional",
)  # fmt: skip


def apart(below: Layer, above: Layer) -> str:
    """Why two layers, one on the other, make no stack of one object; "" where they do."""
    for field in _ALIKE:
        mine, other = getattr(below, field), getattr(above, field)
        if mine != other:
            return f"{field} is {mine} below and {other} above"
    if below.cell or above.cell:
        return "one is a cell"
    if below.go_backwards or above.go_backwards:
        return "one reads from the last step"
    if below.bidirectional and below.merge_mode != "concat":
        return f"directions are merged by {below.merge_mode!r}"
    if not below.return_sequences:
        return "the lower one puts out its last step alone"
    outputs = (below.proj_size or below.hidden_size) * len(below.weights)
    if above.input_size != outputs:
        return f"the lower one has {outputs} outputs, the upper one {above.input_size} inputs"
    return ""


def stack(layers: Iterable[Layer]) -> Model:
    """One fastlstm object of layers that lie on each other.

    Parameters
    ----------
    layers : iterable of Layer
        From the lowest one to the highest, with nothing between them. Where some have biases and
        others none, those get zeros.

    Returns
    -------
    LSTM, GRU or RNN, or one of their cells
        A new one. Of a layer that goes backwards it runs the equations: its caller reverses x.

    Raises
    ------
    ValueError
        They make no stack; the message says why.

    Examples
    --------
    >>> import fastlstm
    >>> from fastlstm import interop
    >>> below, above = fastlstm.GRU(3, 4, seed=0), fastlstm.GRU(4, 4, seed=1)
    >>> interop.stack(interop.describe(below) + interop.describe(above))
    GRU(3, 4, num_layers=2, dtype=float32)
    """
    chosen = list(layers)
    if not chosen:
        raise ValueError("layers must hold one layer at least, got none")
    for below, above in itertools.pairwise(chosen):
        if why := apart(below, above):
            raise ValueError(f"{below.name} and {above.name} are no stack: {why}")
    if any(layer.bias for layer in chosen):
        chosen = [layer.with_bias() for layer in chosen]
    first = chosen[0]
    own: dict[str, Any] = {}
    if first.kind == "rnn":
        own = {"nonlinearity": first.nonlinearity}
    if not first.reset_after:
        own = {"reset_after": False}
    if first.options is not None:
        own = {"options": first.options}
    own |= {"bias": first.bias, "dtype": first.dtype, "seed": 0}
    if first.cell:
        cell = CELLS[first.kind](first.input_size, first.hidden_size, **own)
        cell.load_state_dict(first.weights[0])
        return cell
    if first.kind == "lstm":
        own["proj_size"] = first.proj_size
    model = LAYERS[first.kind](
        first.input_size,
        first.hidden_size,
        len(chosen),
        batch_first=first.batch_first,
        dropout=first.dropout if len(chosen) > 1 else 0.0,
        bidirectional=first.bidirectional,
        **own,
    )
    arrays: dict[str, Array] = {}
    for at, layer in enumerate(chosen):
        for direction, weights in enumerate(layer.weights):
            end = f"_l{at}" + ("", "_reverse")[direction]
            arrays |= {name + end: values for name, values in weights.items()}
    model.load_state_dict(arrays)
    return model


def describe(model: Model, name: str = "") -> list[Layer]:
    """The layers of a fastlstm object: the way back from `stack`.

    Parameters
    ----------
    model : LSTM, GRU, RNN or one of their cells
        What to describe.
    name : str, optional
        Of the layers, with their number behind it where there are several; else the kind's.

    Returns
    -------
    list of Layer
        From the lowest one to the highest; their weights are the model's own arrays, read-only or
        copies.

    Raises
    ------
    TypeError
        Something else than a model of fastlstm.

    Examples
    --------
    >>> import fastlstm
    >>> from fastlstm import interop
    >>> interop.describe(fastlstm.LSTM(3, 4, num_layers=2), "encoder")
    [<Layer 'encoder_0': lstm, 3 to 4, float32>, <Layer 'encoder_1': lstm, 4 to 4, float32>]
    """
    kinds = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn"}
    kind = getattr(model, "_kind", "")
    if kind.removesuffix("Cell") not in kinds or isinstance(model, type):
        raise TypeError(
            "model must be an LSTM, GRU or RNN of fastlstm or one of their cells, "
            f"got {checks.kind(model)}"
        )
    cell = kind.endswith("Cell")
    ends = [""] if cell else model._spec.suffixes
    arrays = model.state_dict()
    bare = [
        {key.removesuffix(end): value for key, value in arrays.items() if key.endswith(end)}
        for end in ends
    ]
    directions = 1 if cell else model._spec.directions
    count = len(bare) // directions
    found = []
    for at in range(count):
        weights = bare[at * directions : (at + 1) * directions]
        own = name or kinds[kind.removesuffix("Cell")]
        found.append(
            Layer(
                kinds[kind.removesuffix("Cell")],
                f"{own}_{at}" if count > 1 else own,
                weights[0]["weight_ih"].shape[1],
                model.hidden_size,
                weights,
                getattr(model, "proj_size", 0),
                getattr(model, "options", None),
                getattr(model, "nonlinearity", "tanh"),
                getattr(model, "reset_after", True),
                cell,
                batch_first=getattr(model, "batch_first", False),
                dropout=getattr(model, "dropout", 0.0),
            )
        )
    return found
