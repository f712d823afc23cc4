# SPDX-License-Identifier: BSD-3-Clause
"""What a training loop without PyTorch needs around the recurrent layers, in NumPy.

    model = nn.SequenceModel(fastlstm.LSTM(8, 64, batch_first=True), nn.Linear(64, 10)).train()
    adam = fastlstm.optim.Adam(model)
    for batch in nn.batches(sequences, labels, size=32, seed=0):
        logits, tape = model.forward(batch.x, lengths=batch.lengths)
        loss, dlogits = nn.cross_entropy(logits, batch.y)
        adam.step(model.backward(tape, dlogits))

Layers have the conventions of fastlstm's models: ``forward`` gives a tape, ``backward`` takes it,
and parameters are writable in training mode. A loss gives its value and its gradient. Names and
numbers are those of torch.nn where it has them.

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
