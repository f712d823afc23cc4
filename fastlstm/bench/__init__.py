# SPDX-License-Identifier: BSD-3-Clause
"""``python -m fastlstm bench``: this package against other LSTM engines on the same machine.

``--help`` lists what can be measured; the documentation's pages on performance tell how, and show
results. Engines that are not installed are left out. From Python, the shapes that are measured:

>>> from fastlstm.bench import zoo
>>> shape = zoo.find(["silero-vad-minute"])[0]
>>> shape.T, shape.B, shape.I, shape.H
(1875, 1, 128, 128)

Which module does what stands in docs/design/rooms.md.
"""
