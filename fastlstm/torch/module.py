# SPDX-License-Identifier: BSD-3-Clause
"""PyTorch's recurrent modules whose arithmetic runs in the core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..options import LSTMOptions
from . import variants
from .layers import Layer, Step

_OF_MODE = {"RNN_TANH": "rnn_tanh", "RNN_RELU": "rnn_relu"}
_OF_NONLINEARITY = {"tanh": "rnn_tanh", "relu": "rnn_relu"}


class LSTM(variants.Variant, Layer, torch.nn.LSTM):  # type: ignore[misc]
    """A ``torch.nn.LSTM``, parameters, state dict and arguments included, that runs in the core.

    Taken over: float32 and float64 on the CPU, every combination of layers, directions, bias,
    batch_first, dropout and proj_size, PackedSequence, unbatched input, first derivatives,
    ``torch.compile`` and ``torch.export``. What the core lacks (other devices and dtypes,
    TorchScript, torch.func, forward-mode derivatives) runs in PyTorch's own forward, with one
    warning that says why. So does a call under ``torch.autocast`` on a CPU for which PyTorch has
    kernels of that dtype; on others the core computes it in float32. `torch.jit.script` puts
    torch's own modules into the scripted model and into the one it is given. `torch.fx` keeps the
    module as it keeps torch's own. A second derivative raises NotImplementedError.

    The seed of dropout comes from torch's default CPU generator: `torch.manual_seed` reproduces a
    run, though not the masks that PyTorch's own forward would draw. Threads are those of
    `fastlstm.set_num_threads`, not torch's. ``copy`` copies it as it is, pickle and ``torch.save``
    write a ``torch.nn.LSTM``.

    Parameters
    ----------
    *args
        As of ``torch.nn.LSTM``.
    options : fastlstm.LSTMOptions, or mapping of its arguments, optional
        What makes it another LSTM than the plain one, with the parameters that `fastlstm.LSTM` has
        then. PyTorch has no such layer: what the core lacks is a NotImplementedError, `restore` and
        TorchScript refuse it, and files that hold it whole load where fastlstm is installed. Noise
        acts in training mode, its seed from torch's default CPU generator too.
    **kwargs
        As of ``torch.nn.LSTM``.

    Raises
    ------
    NotImplementedError
        A call of a module with options that the core does not take.
    RuntimeError, ValueError
        What PyTorch raises for wrong arguments, and beyond it for some that PyTorch's own forward
        would read past: weights of a wrong size, storages that were made shorter than their
        tensors, states of a wrong size beside a PackedSequence.

    Examples
    --------
    >>> import torch
    >>> import fastlstm.torch
    >>> lstm = fastlstm.torch.LSTM(3, 4, num_layers=2, batch_first=True)
    >>> y, (h_n, c_n) = lstm(torch.zeros(2, 7, 3))
    >>> y.shape, h_n.shape, isinstance(lstm, torch.nn.LSTM)
    (torch.Size([2, 7, 4]), torch.Size([2, 2, 4]), True)
    >>> y.sum().backward()
    >>> lstm.weight_ih_l0.grad.shape
    torch.Size([16, 3])
    """

    _torch_class = torch.nn.LSTM
    _fastlstm_kind = "LSTM"
    _fastlstm_cell = "lstm"
    _fastlstm_has_c = True


class LSTMCell(variants.Variant, Step, torch.nn.LSTMCell):  # type: ignore[misc]
    """A ``torch.nn.LSTMCell`` that runs in the core; falls back as `LSTM` does.

    A row has the same bits alone and in a batch, with and without gradients. For that, one row
    without gradients takes 1.1 to 1.4 times as long as in PyTorch (16 to 1024 units, Zen 5): each
    step looks whether the weights are still those that were packed.

    Parameters
    ----------
    input_size, hidden_size, bias, device, dtype
        As of ``torch.nn.LSTMCell``.
    options : fastlstm.LSTMOptions, or mapping of its arguments, optional
        As for `LSTM`. Noise has masks of its own in each call, so those that hold for a whole
        sequence elsewhere hold for a step.

    Examples
    --------
    >>> import torch
    >>> import fastlstm.torch
    >>> cell = fastlstm.torch.LSTMCell(3, 4)
    >>> h, c = cell(torch.zeros(2, 3))
    >>> h, c = cell(torch.zeros(2, 3), (h, c))
    >>> h.shape
    torch.Size([2, 4])
    """

    _torch_class = torch.nn.LSTMCell
    _fastlstm_kind = "LSTMCell"
    _fastlstm_cell = "lstm"
    _fastlstm_has_c = True

    def __init__(  # spelled out: `torch.nn.utils.skip_init` looks for `device` in the signature
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        options: LSTMOptions | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype, options=options)


class RNN(Layer, torch.nn.RNN):  # type: ignore[misc]
    """A ``torch.nn.RNN``, tanh or relu, that runs in the core; all as of `LSTM`.

    Under ``torch.autocast`` the core computes every call in float32.

    Parameters
    ----------
    *args, **kwargs
        As of ``torch.nn.RNN``.

    Examples
    --------
    >>> import torch
    >>> import fastlstm.torch
    >>> rnn = fastlstm.torch.RNN(3, 4, nonlinearity="relu")
    >>> y, h_n = rnn(torch.zeros(7, 2, 3))
    >>> y.shape, h_n.shape
    (torch.Size([7, 2, 4]), torch.Size([1, 2, 4]))
    """

    _torch_class = torch.nn.RNN
    _fastlstm_kind = "RNN"

    @property
    def _fastlstm_cell(self) -> str:  # type: ignore[override]
        return _OF_MODE.get(self.mode, "")


class RNNCell(Step, torch.nn.RNNCell):  # type: ignore[misc]
    """A ``torch.nn.RNNCell``, tanh or relu, that runs in the core; falls back as `LSTM` does.

    Parameters
    ----------
    input_size, hidden_size, bias, nonlinearity, device, dtype
        As of ``torch.nn.RNNCell``.

    Examples
    --------
    >>> import torch
    >>> import fastlstm.torch
    >>> fastlstm.torch.RNNCell(3, 4)(torch.zeros(2, 3)).shape
    torch.Size([2, 4])
    """

    _torch_class = torch.nn.RNNCell
    _fastlstm_kind = "RNNCell"

    @property
    def _fastlstm_cell(self) -> str:  # type: ignore[override]
        return _OF_NONLINEARITY.get(self.nonlinearity, "")


class GRU(Layer, torch.nn.GRU):  # type: ignore[misc]
    """A ``torch.nn.GRU`` that runs in the core; all as of `LSTM`.

    Under ``torch.autocast`` the core computes every call in float32. One step of one sequence
    without gradients takes 1.4 to 1.6 times as long as in PyTorch where weights are large (384 to
    896 units, Zen 5), since each call looks whether they are still those that were packed; frozen
    by `accelerate` it takes 0.6 to 0.8 times as long.

    Parameters
    ----------
    *args, **kwargs
        As of ``torch.nn.GRU``.

    Examples
    --------
    >>> import torch
    >>> import fastlstm.torch
    >>> gru = fastlstm.torch.GRU(3, 4, bidirectional=True)
    >>> y, h_n = gru(torch.zeros(7, 2, 3))
    >>> y.shape, h_n.shape
    (torch.Size([7, 2, 8]), torch.Size([2, 2, 4]))
    """

    _torch_class = torch.nn.GRU
    _fastlstm_kind = "GRU"
    _fastlstm_cell = "gru"


class GRUCell(Step, torch.nn.GRUCell):  # type: ignore[misc]
    """A ``torch.nn.GRUCell`` that runs in the core; falls back as `LSTM` does.

    Parameters
    ----------
    input_size, hidden_size, bias, device, dtype
        As of ``torch.nn.GRUCell``.

    Examples
    --------
    >>> import torch
    >>> import fastlstm.torch
    >>> fastlstm.torch.GRUCell(3, 4)(torch.zeros(2, 3)).shape
    torch.Size([2, 4])
    """

    _torch_class = torch.nn.GRUCell
    _fastlstm_kind = "GRUCell"
    _fastlstm_cell = "gru"


CLASSES = (LSTM, LSTMCell, RNN, RNNCell, GRU, GRUCell)
