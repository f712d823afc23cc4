# SPDX-License-Identifier: BSD-3-Clause
"""Shapes of real models with another cell than the plain LSTM; `zoo` lists them with its own."""

from __future__ import annotations

from .shapes import Shape

# T and B are the source's own where it fixes them; "T chosen" or "B chosen" marks the others.
GRU: tuple[Shape, ...] = (
    Shape(
        "rnnoise-stream",
        "RNNoise, one 10 ms frame a call",
        "xiph/rnnoise torch/rnnoise/rnnoise.py, train_rnnoise.py: 384 x 3",
        *(1, 1, 384, 384),
        layers=3,
        stream=True,
        cell="gru",
    ),
    Shape(
        "rnnoise-clip",
        "RNNoise, 10 s clip",
        "xiph/rnnoise torch/rnnoise/rnnoise.py, train_rnnoise.py: 384 x 3; T chosen",
        *(1000, 1, 384, 384),
        layers=3,
        cell="gru",
    ),
    Shape(
        "deepfilternet-stream",
        "DeepFilterNet 3, decoder of filters, one 10 ms frame a call",
        "Rikorose/DeepFilterNet df/deepfilternet3.py: df_hidden_dim 256, df_num_layers 3",
        *(1, 1, 256, 256),
        layers=3,
        stream=True,
        cell="gru",
    ),
    Shape(
        "deepfilternet-clip",
        "DeepFilterNet 3, decoder of filters, 3 s clips",
        "Rikorose/DeepFilterNet df/deepfilternet3.py: df_hidden_dim 256, df_num_layers 3; B chosen",
        *(300, 8, 256, 256),
        layers=3,
        cell="gru",
    ),
    Shape(
        "gtcrn-inter",
        "GTCRN speech enhancement, along time, 1 s",
        "Xiaobin-Rong/gtcrn gtcrn.py: DPGRNN(16, 33, 16), half of the channels a GRU, 63 frames",
        *(63, 33, 8, 8),
        cell="gru",
    ),
    Shape(
        "gtcrn-intra",
        "GTCRN speech enhancement, along frequency, 1 s",
        "Xiaobin-Rong/gtcrn gtcrn.py: DPGRNN(16, 33, 16), half of the channels a GRU, 63 frames",
        *(33, 63, 8, 4),
        bidirectional=True,
        cell="gru",
    ),
    Shape(
        "webrtc-vad",
        "WebRTC voice activity detection, one 10 ms frame a call",
        "webrtc third_party/rnnoise/src/rnn_vad_weights.h: 24 -> 24 (its reset comes before the "
        "product)",
        *(1, 1, 24, 24),
        stream=True,
        cell="gru",
    ),
    Shape(
        "wavernn-896",
        "WaveRNN vocoder, one sample a call",
        "arXiv:1802.08435: 896 units; I = coarse and fine part of the last sample, coarse of this",
        *(1, 1, 3, 896),
        stream=True,
        cell="gru",
    ),
    Shape(
        "wavernn-512",
        "WaveRNN vocoder in PyTorch, first GRU, one sample a call",
        "fatchord/WaveRNN hparams.py: voc_rnn_dims 512",
        *(1, 1, 512, 512),
        stream=True,
        cell="gru",
    ),
    Shape(
        "lpcnet-gru-a",
        "LPCNet vocoder, GRU A, one sample a call",
        "xiph/LPCNet training_tf2/lpcnet.py: 384 units; I = three embeddings and the frame, 128 "
        "each",
        *(1, 1, 512, 384),
        stream=True,
        cell="gru",
    ),
    Shape(
        "deepspeech2",
        "Deep Speech 2, one of its equal layers, server inference",
        "baidu-research/DeepBench code/kernels/rnn_problems.h: 2560, batch 1, 187 steps",
        *(187, 1, 2560, 2560),
        cell="gru",
    ),
    Shape(
        "tacotron-cbhg",
        "Tacotron text encoder",
        "keithito/tacotron models/modules.py: GRUCell(128) both ways on 128 channels; T, B chosen",
        *(150, 1, 128, 128),
        bidirectional=True,
        cell="gru",
    ),
    Shape(
        "dcase-crnn",
        "DCASE sound event detection, 10 s clips",
        "DCASE-REPO/DESED_task dcase2021_task4_baseline/confs/sed.yaml: BGRU 128 x 2, batch 24",
        *(156, 24, 128, 128),
        layers=2,
        bidirectional=True,
        cell="gru",
    ),
    Shape(
        "lstnet",
        "LSTNet time series, one week of hours",
        "laiguokun/LSTNet main.py: 100 -> 100, window 168, kernel 6, batch 128",
        *(163, 128, 100, 100),
        cell="gru",
    ),
    Shape(
        "ett-gru",
        "time-series baseline on electricity transformers",
        "zhouhaoyi/Informer2020 main_informer.py: 7 features, 96 steps; cell, H and B chosen",
        *(96, 64, 7, 64),
        cell="gru",
    ),
    Shape(
        "seq2seq-encoder",
        "translation tutorial of PyTorch, encoder",
        "pytorch/tutorials seq2seq_translation_tutorial.py: hidden 128, MAX_LENGTH 10, batch 32",
        *(10, 32, 128, 128),
        cell="gru",
    ),
)

# torch.nn has none of these.
GRU_RESET_BEFORE: tuple[Shape, ...] = (
    Shape(
        "rnnoise-2018-stream",
        "RNNoise of 2018, its largest GRU, one 10 ms frame a call",
        "xiph/rnnoise training/rnn_train.py: 24 + 48 + 42 -> 96 (with a relu, here a tanh)",
        *(1, 1, 114, 96),
        stream=True,
        cell="gru_reset_before",
    ),
    Shape(
        "rnnoise-2018-windows",
        "RNNoise of 2018, its largest GRU, a batch of windows that it was trained on",
        "xiph/rnnoise training/rnn_train.py: 24 + 48 + 42 -> 96, 2,000 frames, batch 32",
        *(2000, 32, 114, 96),
        cell="gru_reset_before",
    ),
    Shape(
        "onnx-gru",
        "a GRU as ONNX has it unless told otherwise",
        "none: sizes of our targets",
        *(100, 32, 256, 256),
        cell="gru_reset_before",
    ),
)

RNN: tuple[Shape, ...] = (
    Shape(
        "min-char-rnn",
        "character model in 100 lines",
        "karpathy's gist min-char-rnn.py: hidden 100, sequence 25; 65 one-hot characters",
        *(25, 1, 65, 100),
        cell="rnn_tanh",
    ),
    Shape(
        "irnn-mnist",
        "IRNN, MNIST pixel by pixel",
        "arXiv:1504.00941: 100 rectified units, 784 steps, batch 16",
        *(784, 16, 1, 100),
        cell="rnn_relu",
    ),
    Shape(
        "deepbench-vanilla",
        "DeepBench, plain cell",
        "baidu-research/DeepBench code/kernels/rnn_problems.h",
        *(50, 16, 1760, 1760),
        cell="rnn_tanh",
    ),
    Shape(
        "deepbench-device",
        "DeepBench device inference, plain cell",
        "baidu-research/DeepBench code/kernels/rnn_problems.h",
        *(96, 1, 64, 64),
        cell="rnn_tanh",
    ),
    Shape(
        "word-language-rnn",
        "word language model of PyTorch's examples, RNN_TANH",
        "pytorch/examples word_language_model/main.py: 200 -> 200 x 2, bptt 35, batch 20",
        *(35, 20, 200, 200),
        layers=2,
        cell="rnn_tanh",
    ),
)

PROJECTED: tuple[Shape, ...] = (
    Shape(
        "rnnt-mobile-encoder",
        "streaming RNN-T for mobile devices, one of its equal layers, one frame a call",
        "arXiv:1811.06621: encoder of 2,048 units a layer with projections to 640",
        *(1, 1, 640, 2048),
        stream=True,
        proj=640,
    ),
    Shape(
        "ge2e-speaker",
        "GE2E text-independent speaker verification, 1.6 s",
        "arXiv:1710.10467: 40 features, 3 layers of 768 units with projections to 256; B chosen",
        *(160, 10, 40, 768),
        layers=3,
        proj=256,
    ),
    Shape(
        "elmo",
        "ELMo, one direction of its language model",
        "arXiv:1802.05365: 2 layers of 4,096 units with projections to 512; T and B chosen",
        *(30, 8, 512, 4096),
        layers=2,
        proj=512,
    ),
)

OPTIONS: tuple[Shape, ...] = (
    Shape(
        "asr-peepholes",
        "speech recognition with large vocabularies, one of its equal layers",
        "arXiv:1402.1128: 800 cells projected to 512, peepholes; a clip of c, T and B chosen",
        *(100, 4, 512, 800),
        proj=512,
        options={"peepholes": True, "cell_clip": 50.0},
    ),
    Shape(
        "tflite-asr-stream",
        "streaming RNN-T on phones by TensorFlow Lite, one of its equal layers, one frame a call",
        "arXiv:1811.06621: 2,048 units projected to 640, layer norm; coupled gates as in "
        "arXiv:1909.12408",
        *(1, 1, 640, 2048),
        stream=True,
        proj=640,
        options={"coupled": True, "layer_norm": "sums"},
    ),
    Shape(
        "gboard",
        "next word in Gboard, one word a call",
        "arXiv:1811.03604: 670 units with coupled gates on embeddings of 96",
        *(1, 1, 96, 670),
        stream=True,
        options={"coupled": True},
    ),
    Shape(
        "gboard-sentences",
        "next word in Gboard, sentences",
        "arXiv:1811.03604: 670 units with coupled gates on embeddings of 96; T and B chosen",
        *(20, 50, 96, 670),
        options={"coupled": True},
    ),
    Shape(
        "keras2-imdb",
        "Keras sentiment example as of Keras 2.2, whose gates were hard sigmoids",
        "keras-team/keras examples/imdb_lstm.py: 128 -> 128, maxlen 80, batch 32",
        *(80, 32, 128, 128),
        options={"gate_activation": "hard_sigmoid"},
    ),
    Shape(
        "sketch-rnn",
        "Sketch-RNN decoder with layer norm, a batch of drawings",
        "magenta/magenta models/sketch_rnn/model.py: z 128 + 5 -> 512, layer_norm, 250, batch 100",
        *(250, 100, 133, 512),
        options={"layer_norm": "separate"},
    ),
    Shape(
        "tacotron2-decoder",
        "Tacotron 2 decoder with zoneout, its second layer, one frame a call",
        "arXiv:1712.05884: 1,024 units, zoneout 0.1",
        *(1, 1, 1024, 1024),
        stream=True,
        options={"zoneout_c": 0.1, "zoneout_h": 0.1},
    ),
    Shape(
        "onnx-peepholes",
        "peepholes and a clip of gates, which ONNX has too",
        "none: sizes of our targets",
        *(100, 32, 256, 256),
        options={"peepholes": True, "gate_clip": 5.0},
    ),
    Shape(
        "all-options",
        "peepholes, clips and layer norm together",
        "none: sizes of our targets",
        *(100, 32, 256, 256),
        options={"peepholes": True, "gate_clip": 5.0, "cell_clip": 5.0, "layer_norm": "sums"},
    ),
)
