# SPDX-License-Identifier: BSD-3-Clause
"""``python -m fastlstm bench``: this package against other LSTM engines on the same machine.

shapes     one LSTM call, inference or training step: sizes, weights, input
zoo        real models, targets, odd sizes; training_zoo  the same for training
protocol   what is asked of an engine
peers      the engines; each imports its library only when it is asked to
training   a training step of each engine that can train, and its memory
agreement  whether two engines computed the same
worker     a child process that holds one engine; runner  the parent that takes turns between them
limits     what the machine could do at best; report  tables and JSON; files  both tasks in one file
records    results read back; chart  what is shown of them; page  as HTML, style  how it looks;
           picture  as PNG; drawing  options of the command for these
"""
