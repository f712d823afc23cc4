# SPDX-License-Identifier: BSD-3-Clause
"""``python -m fastlstm bench``: this package against other LSTM engines on the same machine.

``--help`` lists what can be measured; the documentation's pages on performance tell how and show
results. Engines that are not installed are left out. From Python, the shapes that are measured:

>>> from fastlstm.bench import zoo
>>> shape = zoo.find(["silero-vad-minute"])[0]
>>> shape.T, shape.B, shape.I, shape.H
(1875, 1, 128, 128)

Who does what: ``shapes`` one LSTM call, inference or training step (sizes, weights, input);
``zoo`` and ``training_zoo`` real models, targets, odd sizes; ``protocol`` what is asked of an
engine; ``peers`` the engines, each of which imports its library only when it is asked to;
``training`` a training step of each engine that can train, and its memory; ``agreement`` whether
two engines computed the same; ``worker`` a child process that holds one engine; ``runner`` the
parent that takes turns between them; ``limits`` what the machine could do at best; ``report``
tables and JSON; ``files`` both tasks in one file; ``records`` results read back; ``chart`` what is
shown of them; ``page`` as HTML; ``style`` how it looks; ``picture`` as PNG; ``drawing`` the
command's options for these.
"""
