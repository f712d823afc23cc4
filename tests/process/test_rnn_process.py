# SPDX-License-Identifier: BSD-3-Clause
"""An RNN in a process that is interrupted, forks, or hands models on."""

from __future__ import annotations

import pytest

from support import processes


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupted_stream_stands_where_it_stood(threads: int) -> None:
    """Its state is h alone, which several threads write at different times."""
    out = processes.check(
        f"""
        import os, signal, threading
        import numpy as np, fastlstm
        fastlstm.set_num_threads({threads})
        rnn = fastlstm.RNN(512, 256, seed=0)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
        few = np.random.default_rng(0).standard_normal((20, 64, 512)).astype(np.float32)
        expected = rnn(few)[0]
        stream = rnn.stream(64)
        stream(few[:10])
        before = stream.state
        x = np.broadcast_to(few[:1], (60_000, 64, 512))
        timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        try:
            stream(x)
            print("not interrupted")
        except KeyboardInterrupt:
            print("interrupted")
        assert np.array_equal(stream.state, before)
        assert np.array_equal(stream(few[10:]), expected[10:])
        """,
        timeout=60,
    )
    assert out.split() == ["interrupted"]


def test_a_forked_child() -> None:
    out = processes.check(
        """
        import os, pickle
        import numpy as np, fastlstm
        rnn = fastlstm.RNN(8, 300, nonlinearity="relu", seed=0)
        x = np.random.default_rng(0).standard_normal((20, 16, 8)).astype(np.float32)
        y, h_n, tape = rnn.forward(x)
        grads = rnn.backward(tape, y).params["weight_hh_l0"]
        pid = os.fork()
        if pid == 0:
            again = pickle.loads(pickle.dumps(rnn))
            same = np.array_equal(again(x)[0], y)
            same &= np.array_equal(rnn.backward(tape, y).params["weight_hh_l0"], grads)
            print(same, flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        """
    )
    assert out.split() == ["True"]
