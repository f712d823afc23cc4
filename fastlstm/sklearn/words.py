# SPDX-License-Identifier: BSD-3-Clause
"""What the docstrings of all estimators say of their parameters and attributes."""

from __future__ import annotations

from typing import Any

PARAMETERS = """    cell : {"lstm", "gru", "rnn"}
        The recurrent layer.
    hidden_size, num_layers : int, default 64 and 1
        Its units and layers.
    bidirectional : bool, default False
        Whether it reads from both ends.
    dropout : float, default 0
        Between layers, and before the head.
    proj_size : int, default 0
        With a number P > 0, an LSTM's output is projected to P values.
    learning_rate : float, default 1e-3
        Of Adam: the highest one of the schedule.
    schedule : {"constant", "cosine", "one_cycle", "plateau"} or callable, default "constant"
        "cosine" falls to zero until the last epoch, "one_cycle" rises for a tenth of the updates
        first, "plateau" halves where the loss that is watched gets no better for half of
        `n_iter_no_change` epochs. A callable gives the rate of each update, as `nn.Cosine` does.
    weight_decay : float, default 0
        Of AdamW.
    clip_norm : float or None, default 1
        Largest joint norm of the gradients.
    batch_size : int, default 32
        Sequences of an update.
    max_iter : int, default 100
        Epochs.
    early_stopping : bool, default False
        Whether to keep a part of the sequences for validation, to stop where its loss gets no
        better, and to return to the weights of its best loss.
    validation_fraction : float, default 0.1
        How large that part is.
    n_iter_no_change : int, default 10
        Epochs in a row without a better loss that end training.
    tol : float, default 0
        By how much a loss has to be lower to be better.
    warm_start : bool, default False
        Whether `fit` goes on from the weights that there are.
    random_state : int, RandomState or None, default None
        Of first weights, order, dropout and validation split.
    dtype : {"float32", "float64"}
        Of the arithmetic.
    num_threads : int or None, default None
        Threads of the recurrent layer; results do not depend on it.
    verbose : bool, default False
        Whether to show a progress bar, if tqdm is installed."""

ATTRIBUTES = """    model_ : nn.SequenceModel
        The recurrent layer, ``model_.recurrent``, and ``model_.head``.
    optimizer_ : optim.Adam
        Its state, which `partial_fit` and a warm start go on with.
    loss_curve_, validation_loss_curve_ : list of float
        Mean losses of every epoch.
    n_iter_, n_features_in_ : int
        Epochs so far; I."""


def documented(cls: Any) -> Any:
    """The class, its docstring with the parameters and attributes that all estimators have."""
    text = cls.__doc__.replace("    <parameters>", PARAMETERS)
    cls.__doc__ = text.replace("    <attributes>", ATTRIBUTES)
    return cls
