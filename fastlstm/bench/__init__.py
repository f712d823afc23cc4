# SPDX-License-Identifier: BSD-3-Clause
"""``python -m fastlstm bench``: this package against other LSTM engines on the same machine.

shapes   one LSTM call: sizes, weights, input
zoo      real models, targets, odd sizes
peers    the engines behind one protocol; each imports its library only when it is asked to
worker   a child process that holds one engine; runner  the parent that takes turns between them
limits   what the machine could do at best; report  tables and JSON
"""
