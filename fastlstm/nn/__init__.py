# SPDX-License-Identifier: BSD-3-Clause
"""What a training loop without PyTorch needs around the recurrent layers, in NumPy.

Linear layers and embeddings, losses with their gradients, batches of sequences of any lengths,
schedules, early stopping and checkpoints. A classifier of sequences, trained for three epochs:

>>> import numpy as np
>>> import fastlstm
>>> from fastlstm import nn
>>> rng = np.random.default_rng(0)
>>> sequences = [rng.standard_normal((n, 8), dtype=np.float32) for n in (5, 9, 7, 6)]
>>> labels = [0, 1, 1, 0]
>>> lstm = fastlstm.LSTM(8, 64, batch_first=True, seed=0)
>>> model = nn.SequenceModel(lstm, nn.Linear(64, 2, seed=0)).train()
>>> adam = fastlstm.optim.Adam(model)
>>> for epoch in range(3):
...     for batch in nn.batches(sequences, labels, size=2, seed=(0, epoch)):
...         logits, tape = model.forward(batch.x, lengths=batch.lengths)
...         loss, dlogits = nn.cross_entropy(logits, batch.y)
...         adam.step(model.backward(tape, dlogits))
>>> model.eval()(sequences[0][None]).shape
(1, 2)

Layers have the conventions of fastlstm's models: a call is inference, ``forward`` gives a tape,
``backward`` takes it, and parameters are writable in training mode. A loss gives its value and its
gradient. Names and numbers are those of ``torch.nn`` where it has them. The guide's page on
training has the rest.

Products of `Linear` are NumPy's. Their bits may depend on the number of threads of NumPy's BLAS:
``threadpoolctl.threadpool_limits(1, "blas")``, or ``OPENBLAS_NUM_THREADS=1``, settles them.
"""

from .checkpoint import load_checkpoint, save_checkpoint
from .data import Batch, Windows, batches, valid_steps, windows
from .layers import Embedding, LayerGradients, Linear
from .losses import binary_cross_entropy_with_logits, cross_entropy, mse, quantile_loss
from .models import SequenceModel, SequenceTape
from .modules import Modules
from .schedules import Constant, Cosine, Exponential, Schedule, StepDecay, WarmUp
from .watching import EarlyStopping, ReduceOnPlateau

__all__ = [
    "Batch",
    "Constant",
    "Cosine",
    "EarlyStopping",
    "Embedding",
    "Exponential",
    "LayerGradients",
    "Linear",
    "Modules",
    "ReduceOnPlateau",
    "Schedule",
    "SequenceModel",
    "SequenceTape",
    "StepDecay",
    "WarmUp",
    "Windows",
    "batches",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "load_checkpoint",
    "mse",
    "quantile_loss",
    "save_checkpoint",
    "valid_steps",
    "windows",
]
