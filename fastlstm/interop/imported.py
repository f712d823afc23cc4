# SPDX-License-Identifier: BSD-3-Clause
"""What an importer found in a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastlstm.weights import listed

from .description import Layer, stack
from .errors import Unsupported, printable
from .other import Other as Other


@dataclass(frozen=True, eq=False, repr=False)
class Imported:
    """The recurrent layers of a file, and what else it holds.

    Parameters
    ----------
    file : str
        Path of the file, or what stands for it.
    format : str
        "ONNX", "Keras", "PyTorch" ...
    producer, version : str
        What wrote it, and of which version the format is; "" where the file does not say.
    stacks : mapping of str to list of Layer
        Recurrent layers in the order of the graph, those that are one object in one list.
    others : list of Other
        What stands between and around them.
    order : list of str
        Names of `stacks` and `others` in the order of the graph.
    unsupported : mapping of str to str
        Recurrent layers that fastlstm does not have, and why.
    notes : list of str
        What was changed or is lost.
    branches : str
        Why the file is no plain chain of layers; "" if it is one.

    Attributes
    ----------
    layers : dict of str to LSTM, GRU or RNN
        The fastlstm objects by name, in the order of the graph.

    Examples
    --------
    >>> import fastlstm
    >>> from fastlstm import interop
    >>> lstm = fastlstm.LSTM(3, 4, num_layers=2, seed=0)
    >>> found = interop.from_torch({f"encoder.{k}": v for k, v in lstm.state_dict().items()})
    >>> found
    state dict: PyTorch state dict
      name     layer                                    parameters  in the file
      encoder  LSTM(3, 4, num_layers=2, dtype=float32)         304
    note: encoder: a state dict does not say batch_first: False is taken
    note: encoder: names with the prefix 'encoder.'
    >>> found.layers["encoder"]
    LSTM(3, 4, num_layers=2, dtype=float32)
    """

    file: str
    format: str
    producer: str = ""
    version: str = ""
    stacks: Mapping[str, Sequence[Layer]] = field(default_factory=dict)
    others: Sequence[Other] = ()
    order: Sequence[str] = ()
    unsupported: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    branches: str = ""
    layers: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        if self.unsupported and not self.stacks:
            place, why = next(iter(self.unsupported.items()))
            raise Unsupported(self.file, place, why)
        models = {name: stack(layers) for name, layers in self.stacks.items()}
        object.__setattr__(self, "layers", models)

    @property
    def model(self) -> Any:
        """The only recurrent model of the file.

        Returns
        -------
        LSTM, GRU or RNN
            The one of `layers`.

        Raises
        ------
        ValueError
            There are several.

        Examples
        --------
        >>> import fastlstm
        >>> from fastlstm import interop
        >>> interop.from_torch(fastlstm.GRU(3, 4, seed=0).state_dict()).model
        GRU(3, 4, dtype=float32)
        """
        if len(self.layers) != 1 or self.unsupported:
            names = ", ".join([*self.layers, *self.unsupported])
            raise ValueError(
                f"{self.file} has several recurrent layers: take one of layers: {names}"
            )
        return next(iter(self.layers.values()))

    def sequential(self) -> Any:
        """The whole chain as something that can be called, in NumPy and fastlstm.

        Returns
        -------
        Sequential
            ``chain(x)`` gives what the file's model gives; ``chain.stream()`` runs it in chunks.

        Raises
        ------
        Unsupported
            The file is no plain chain, or a layer of it is not known; the message says which.

        Examples
        --------
        >>> import numpy as np
        >>> from fastlstm import interop
        >>> json = {
        ...     "in_shape": [None, None, 1],
        ...     "layers": [
        ...         {
        ...             "type": "lstm",
        ...             "shape": [None, None, 2],
        ...             "weights": [np.ones((1, 8)).tolist(), np.ones((2, 8)).tolist(), [0.0] * 8],
        ...         },
        ...         {"type": "dense", "shape": [None, None, 1], "weights": [[[0.5], [0.5]], [0.0]]},
        ...     ],
        ... }
        >>> chain = interop.from_rtneural(json).sequential()
        >>> chain(np.ones((1, 3, 1), np.float32)).ravel().round(3)  # B, T, I
        array([0.37 , 0.727, 0.893], dtype=float32)
        """
        from .sequential import Sequential

        if self.branches:
            names = listed([*self.layers], 8)
            what = (
                f"it is no plain chain: {self.branches}; `layers` has its recurrent ones: {names}"
            )
            raise Unsupported(self.file, "", what)
        for name, why in self.unsupported.items():
            raise Unsupported(self.file, name, why)
        others = {other.name: other for other in self.others}
        parts = [
            others[name] if name in others else (name, self.stacks[name], self.layers[name])
            for name in self.order
        ]
        return Sequential(self.file, parts)

    def summary(self) -> dict[str, Any]:
        """What the table of `repr` shows, as plain Python values.

        Returns
        -------
        dict
            Ready for JSON.

        Examples
        --------
        >>> import fastlstm
        >>> from fastlstm import interop
        >>> found = interop.from_torch(fastlstm.GRU(3, 4, seed=0).state_dict())
        >>> row = found.summary()["layers"][0]
        >>> row["class"], row["hidden_size"], row["parameters"], row["bytes"]
        ('GRU', 4, 108, 432)
        """
        rows = []
        for name, layers in self.stacks.items():
            first = layers[0]
            model = self.layers[name]
            row: dict[str, Any] = {"name": name, "class": type(model).__name__, **_config(model)}
            row["parameters"] = sum(layer.parameters for layer in layers)
            row["bytes"] = row["parameters"] * first.dtype.itemsize
            row["file_says"] = changes(first, layers[-1]) + _calls(first)
            rows.append(row)
        return {
            "file": self.file,
            "format": self.format,
            "producer": self.producer,
            "version": self.version,
            "layers": rows,
            "others": [
                {
                    "name": other.name,
                    "kind": other.kind,
                    "parameters": sum(array.size for array in other.weights.values()),
                }
                for other in self.others
            ],
            "unsupported": dict(self.unsupported),
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        made = ", ".join(part for part in (self.producer, self.version) if part)
        lines = [f"{self.file}: {self.format}" + (f" ({made})" if made else "")]
        table = [("name", "layer", "parameters", "in the file")]
        for name, layers in self.stacks.items():
            count = sum(layer.parameters for layer in layers)
            said = ", ".join(changes(layers[0], layers[-1]) + _calls(layers[0]))
            table.append((name, repr(self.layers[name]), f"{count:,}", said))
        wide = [max(len(row[at]) for row in table) for at in range(4)]
        for row in table:
            cells = f"  {row[0]:<{wide[0]}}  {row[1]:<{wide[1]}}  {row[2]:>{wide[2]}}  {row[3]}"
            lines.append(cells.rstrip())
        kinds = Counter(other.kind for other in self.others)
        if kinds:
            lines.append("others: " + ", ".join(f"{n} {kind}" for kind, n in kinds.items()))
        lines += [f"unsupported: {name}: {why}" for name, why in self.unsupported.items()]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(map(printable, lines))


def changes(first: Layer, last: Layer) -> list[str]:
    """What a file does to inputs, states or outputs around a stack that the object does not."""
    found = []
    if first.go_backwards:
        order = "in that order" if first.reversed_outputs else "in the order of time"
        found.append(f"reads from the last step, outputs {order}")
    if not last.return_sequences:
        found.append("last step alone")
    if last.bidirectional and last.merge_mode != "concat":
        found.append(f"merge_mode={last.merge_mode!r}")
    if first.initial_state is not None:
        found.append("initial state")
    return found


def _calls(first: Layer) -> list[str]:
    """How a file's model calls a stack."""
    words = {
        "stateful": "keeps its state",
        "has_state": "is given a state",
        "has_lengths": "takes lengths",
    }
    return [text for flag, text in words.items() if getattr(first, flag)]


def _config(model: Any) -> dict[str, Any]:
    """The arguments of a model's or cell's constructor, ready for JSON."""
    names = ("input_size", "hidden_size", *model._defaults)
    values = {name: getattr(model, name) for name in names}
    if values.get("options") is not None:
        values["options"] = values["options"].config()
    return {**values, "dtype": model.dtype.name}
