# SPDX-License-Identifier: BSD-3-Clause
"""Objects in the hands of somebody careless: the process lives, whatever becomes of the call.

Sizes that no longer fit the packed weights would have the C core write past its arrays, which
only shows in a process that goes on allocating: each try has one of its own. (Under sanitize.sh
an access outside of an array kills it at once.)
"""

from __future__ import annotations

import pytest

from support import processes

pytestmark = pytest.mark.sanitize_each_isa

# Whatever a caller does to an object, the process lives. Each line may raise what it likes.
MISUSE = {
    "smaller hidden_size": "lstm.hidden_size = 1\n    use()",
    "larger hidden_size": "lstm.hidden_size = 5000\n    use()",
    "smaller input_size": "lstm.input_size = 1\n    lstm(x[..., :1])",
    "larger input_size": "lstm.input_size = 4000\n    lstm(np.ones((50, 2, 4000), np.float32))",
    "fewer layers": "lstm.num_layers = 1\n    use()",
    "more layers": "lstm.num_layers = 50\n    use()",
    "other direction": "lstm.bidirectional = True\n    use()",
    "directions": "lstm._directions = 1\n    lstm.bidirectional = False\n    use()",
    "dtype": "lstm.dtype = np.dtype('float64')\n    lstm(x.astype(float))",
    "dtype of a cell": "cell.dtype = np.dtype('float64')\n    cell(x[0].astype(float))",
    "hidden_size of a cell": "cell.hidden_size = 1\n    cell(x[0])",
    "a stream made by hand": "fastlstm.Stream(None, 1, 1, x, x)",
    "a stream of nothing": "fastlstm.Stream()",
    "a stream never made": "fastlstm.Stream.__new__(fastlstm.Stream)(x)",
    "a stream never made, reset": "fastlstm.Stream.__new__(fastlstm.Stream).reset()",
    "a stream made twice": """
    small = np.zeros((1, 1, 1), np.float32)
    stream.__init__(stream.engine, 2, 1, small, small)
    for _ in range(100): stream(x[0])""",
    "a stream's state reshaped": "stream.h.shape = (-1,)\n    print(stream.state)\n    stream(x)",
    "lengths changed by another thread once they were checked": """
    lengths, checked = np.array([50, 3]), fastlstm.runtime.call_threads
    def late(*options):
        lengths[...] = 10**9
        return checked(*options)
    fastlstm.runtime.call_threads = late
    lstm(x, lengths=lengths)""",
    "a model never made": "fastlstm.LSTM.__new__(fastlstm.LSTM)(x)",
    "a weight made writable": "lstm.weight_hh_l0.flags.writeable = True\n    use()",
    "a parameter cut short": """
    large = fastlstm.LSTM(4, 1500, seed=0)
    large.state_dict()["weight_hh_l0"].resize((4,))
    large(x)""",
    "a parameter in training cut short": """
    lstm.train().parameters()["weight_hh_l0"].resize((4,), refcheck=False)
    lstm.forward(x)""",
    "a stream's state cut short": """
    wide = fastlstm.LSTM(4, 64, seed=0).stream(64)
    try: wide.h.resize((1,), refcheck=False)
    except ValueError: pass
    for _ in range(100): wide(np.ones((64, 4), np.float32))""",
    "an output that lies about itself": """
    class Liar(np.ndarray):
        def transpose(self, *axes): return np.zeros((1, 1, 1), np.float32)
        def __getitem__(self, at): return np.zeros((1, 1, 1), np.float32)
    first = fastlstm.LSTM(4, 640, batch_first=True, seed=0)
    out = np.empty((50, 2, 640), np.float32).view(Liar)
    assert first(np.ones((50, 2, 4), np.float32), out=out)[0] is out""",
    "a lost parameter": "lstm._params.arrays.clear()\n    lstm._changed()\n    use()",
}


@pytest.mark.parametrize("what", MISUSE)
def test_misuse_kills_nobody(what: str) -> None:
    done = processes.run(
        f"""
import warnings
import numpy as np, fastlstm
warnings.simplefilter("ignore")
x = np.ones((50, 2, 4), np.float32)
def use():
    for _ in range(20): print(lstm(x, lengths=[50, 3])[0].sum())
def make(bidirectional):
    lstm = fastlstm.LSTM(4, 64, 3, bidirectional=bidirectional, seed=0)
    lstm(x)
    return lstm
lstm = make({what == "directions"})
cell = fastlstm.LSTMCell(4, 64, seed=0)
cell(x[0])
stream = make(False).stream(2)
stream(x)
try:
    {MISUSE[what]}
except Exception as error:
    print(type(error), error)
again = make(True)
for _ in range(20): again(x, return_cells=True)
blocks = [np.ones(n, np.float32) for n in range(1, 3000)]
del blocks
""",
    )
    assert done.code == 0, str(done)
