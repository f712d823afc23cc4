# SPDX-License-Identifier: BSD-3-Clause
"""The shapes that the benchmark runs: sizes of real models, the targets, and unseen odd ones.

ZOO      one entry per published model; ``source`` says where its sizes are documented.
TARGETS  shapes with a required speed ratio; the project answers for these.
SWEEP    sizes nobody tuned for: a fast path that only exists for the zoo shows up here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from . import cell_zoo
from .shapes import Shape


@dataclass(frozen=True)
class Target:
    """A required ratio: what ``against`` takes / what ours takes must reach ``ratio``.

    against   an engine's name, or "best" for the fastest peer
    threads   thread count of both engines
    measure   "time"; "memory": the peak of a training step; "adapter": what ``against`` may take
              (`ADAPTER_FACTOR` times ours or `ADAPTER_SECONDS` more, whichever is longer) / what it
              takes
    """

    shape: Shape
    against: str
    ratio: float
    threads: int = 1
    measure: str = "time"


ADAPTER_FACTOR, ADAPTER_SECONDS = 1.05, 20e-6


# T and B are the source's own where it fixes them; "T chosen" or "B chosen" marks the others.
ZOO: tuple[Shape, ...] = (
    Shape(
        "silero-vad-stream",
        "Silero VAD 5, one 32 ms chunk a call",
        "snakers4/silero-vad tuning/utils.py: LSTMCell(128, 128)",
        *(1, 1, 128, 128),
        stream=True,
    ),
    Shape(
        "silero-vad-minute",
        "Silero VAD 5, one minute of speech",
        "snakers4/silero-vad tuning/utils.py: 512 samples a step at 16 kHz",
        *(1875, 1, 128, 128),
    ),
    Shape(
        "amp-neuralpi",
        "NeuralPi guitar amplifier",
        "GuitarML/NeuralPi: RTNeural LSTM 1 -> 20; T chosen (one audio block)",
        *(2048, 1, 1, 20),
    ),
    Shape(
        "amp-proteus",
        "Proteus guitar amplifier",
        "GuitarML/Proteus README.md: hidden size 40; T chosen",
        *(2048, 1, 1, 40),
    ),
    Shape(
        "amp-lstm96",
        "LSTM-96 amplifier of Wright et al.",
        "doi:10.3390/app10030766; T chosen",
        *(2048, 1, 1, 96),
    ),
    Shape(
        "pyannote-segmentation",
        "pyannote speaker segmentation, 10 s windows",
        "pyannote/pyannote-audio models/segmentation/PyanNet.py: 60 -> 128 x 2; B chosen",
        *(589, 8, 60, 128),
        layers=2,
        bidirectional=True,
    ),
    Shape(
        "open-unmix",
        "Open-Unmix music separation, 6 s",
        "sigsep/open-unmix-pytorch openunmix/model.py: 512 -> 256 x 3; B chosen",
        *(255, 1, 512, 256),
        layers=3,
        bidirectional=True,
    ),
    Shape(
        "dtln-stream",
        "DTLN noise suppression, one 8 ms block a call",
        "breizhn/DTLN DTLN_model.py: 257 -> 128 x 2",
        *(1, 1, 257, 128),
        layers=2,
        stream=True,
    ),
    Shape(
        "dtln-clip",
        "DTLN noise suppression, 15 s clip",
        "breizhn/DTLN DTLN_model.py: 257 -> 128 x 2; B chosen",
        *(1872, 1, 257, 128),
        layers=2,
    ),
    Shape(
        "fullsubnet-subband",
        "FullSubNet sub-band model, 257 bands, 1 s",
        "haoxiangsnr/FullSubNet train.toml: 15 neighbours a side, hidden 384 x 2; T chosen",
        *(63, 257, 32, 384),
        layers=2,
    ),
    Shape(
        "denoiser-stream",
        "Facebook denoiser dns48, one frame a call",
        "facebookresearch/denoiser denoiser/demucs.py: 48 channels, depth 5 -> 768 x 2",
        *(1, 1, 768, 768),
        layers=2,
        stream=True,
    ),
    Shape(
        "onsets-frames",
        "Onsets and Frames piano transcription",
        "jongwook/onsets-and-frames transcriber.py, constants.py: 768 -> 384; B chosen",
        *(640, 1, 768, 384),
        bidirectional=True,
    ),
    Shape(
        "resemblyzer",
        "GE2E speaker encoder, 1.6 s partials",
        "resemble-ai/Resemblyzer resemblyzer/hparams.py: 40 -> 256 x 3; B chosen",
        *(160, 10, 40, 256),
        layers=3,
    ),
    Shape(
        "uci-har",
        "UCI human activity recognition",
        "UCI data set 240 (128 x 9 windows); guillaume-chevalier/"
        "LSTM-Human-Activity-Recognition README.md: hidden 32; B chosen",
        *(128, 64, 9, 32),
    ),
    Shape(
        "uci-har-double",
        "UCI human activity recognition, float64",
        "as uci-har",
        *(128, 64, 9, 32),
        dtype="float64",
    ),
    Shape(
        "neuralhydrology",
        "rainfall-runoff LSTM on CAMELS",
        "doi:10.5194/hess-23-5089-2019: 5 forcings + 27 attributes, 365 days, batch 256; H chosen",
        *(365, 256, 32, 64),
    ),
    Shape(
        "neuralhydrology-531",
        "rainfall-runoff LSTM, 531 basins",
        "neuralhydrology/neuralhydrology examples/06-Finetuning/531_basins.yml",
        *(365, 256, 31, 128),
    ),
    Shape(
        "deepar-electricity",
        "DeepAR electricity forecasting",
        "arXiv:1704.04110 table of hyper-parameters: 168 + 24 steps, batch 64, 40 x 3; "
        "I = value + 4 covariates + 20 embedding",
        *(192, 64, 25, 40),
        layers=3,
    ),
    Shape(
        "ptb-small",
        "PTB language model, small",
        "arXiv:1409.2329; tensorflow/models ptb_word_lm.py",
        *(20, 20, 200, 200),
        layers=2,
    ),
    Shape(
        "ptb-medium",
        "PTB language model, medium",
        "arXiv:1409.2329; tensorflow/models ptb_word_lm.py",
        *(35, 20, 650, 650),
        layers=2,
    ),
    Shape(
        "ptb-large",
        "PTB language model, large",
        "arXiv:1409.2329; tensorflow/models ptb_word_lm.py",
        *(35, 20, 1500, 1500),
        layers=2,
    ),
    Shape(
        "awd-lstm-middle",
        "AWD-LSTM language model, middle layer, evaluation batch",
        "salesforce/awd-lstm-lm main.py: nhid 1150, bptt 70, eval batch 10",
        *(70, 10, 1150, 1150),
    ),
    Shape(
        "gnmt-layer",
        "GNMT encoder, one of its equal layers",
        "tensorflow/nmt standard_hparams/wmt16_gnmt_8_layer.json: 1024, infer batch 32, T <= 50",
        *(50, 32, 1024, 1024),
    ),
    Shape(
        "deepspeech-chunk",
        "Mozilla DeepSpeech, one streaming chunk a call",
        "mozilla/DeepSpeech util/flags.py: n_hidden 2048, n_steps 16",
        *(16, 1, 2048, 2048),
        stream=True,
    ),
    Shape(
        "flair-forward",
        "Flair character language model",
        "flairNLP/flair-lms README.md: hidden 2048; embedding 100; T and B chosen",
        *(128, 4, 100, 2048),
    ),
    Shape(
        "crnn",
        "CRNN text recognition, 100-pixel words",
        "meijieru/crnn.pytorch models/crnn.py, train.py: 512 -> 256, batch 64",
        *(26, 64, 512, 256),
        bidirectional=True,
    ),
    Shape(
        "rnnt-encoder",
        "RNN-T speech encoder after time stacking, 3 s",
        "mlcommons/training rnn_speech_recognition config: 2048 -> 1024 x 3; T and B chosen",
        *(50, 4, 2048, 1024),
        layers=3,
    ),
    Shape(
        "rnnt-prediction",
        "RNN-T prediction network, one symbol a call",
        "mlcommons/training rnn_speech_recognition config: pred_n_hidden 320 x 2",
        *(1, 1, 320, 320),
        layers=2,
        stream=True,
    ),
    Shape(
        "tesseract-lfx96",
        "Tesseract text line, second LSTM",
        "tesseract-ocr/tessdoc Data-Files-in-tessdata_best.md: Lfys64 Lfx96; T chosen",
        *(300, 1, 64, 96),
    ),
    Shape(
        "tesseract-lfx512",
        "Tesseract text line, last LSTM",
        "tesseract-ocr/tessdoc Data-Files-in-tessdata_best.md: Lrx96 Lfx512; T chosen",
        *(300, 1, 96, 512),
    ),
    Shape(
        "deepbench-256",
        "DeepBench server inference",
        "baidu-research/DeepBench code/kernels/rnn_problems.h",
        *(150, 1, 256, 256),
    ),
    Shape(
        "deepbench-512",
        "DeepBench, batch 16",
        "baidu-research/DeepBench code/kernels/rnn_problems.h",
        *(25, 16, 512, 512),
    ),
    Shape(
        "deepbench-1536",
        "DeepBench server inference, batch 4",
        "baidu-research/DeepBench code/kernels/rnn_problems.h",
        *(50, 4, 1536, 1536),
    ),
    Shape(
        "japanese-vowels",
        "speaker recognition on JapaneseVowels",
        "UCI data set 128: 7 to 29 frames of 12 coefficients; H and B chosen",
        *(29, 32, 12, 64),
        bidirectional=True,
        ragged=True,
    ),
    Shape(
        "ner-blstm",
        "BiLSTM-CNN-CRF named entities",
        "arXiv:1603.01354 table 1: word 100 + character 30, state 200, batch 10; T chosen",
        *(60, 10, 130, 200),
        bidirectional=True,
        ragged=True,
    ),
    Shape(
        "esim-encoder",
        "ESIM sentence pairs, input encoding",
        "arXiv:1609.06038 section 4: 300 -> 300, batch 32; T chosen",
        *(40, 32, 300, 300),
        bidirectional=True,
        ragged=True,
    ),
    Shape(
        "keras-imdb",
        "Keras sentiment example",
        "keras-team/keras examples/imdb_lstm.py: 128 -> 128, maxlen 80, batch 32",
        *(80, 32, 128, 128),
    ),
    Shape(
        "char-rnn",
        "char-rnn on Tiny Shakespeare",
        "karpathy/char-rnn train.lua: 128 x 2, seq 50, batch 50; 65 one-hot characters",
        *(50, 50, 65, 128),
        layers=2,
    ),
    Shape(
        "tacotron2-encoder",
        "Tacotron 2 text encoder",
        "NVIDIA/tacotron2 hparams.py, model.py: 512 -> 256; T and B chosen",
        *(150, 1, 512, 256),
        bidirectional=True,
    ),
    Shape(
        "tacotron2-attention",
        "Tacotron 2 attention LSTM, one frame a call",
        "NVIDIA/tacotron2 hparams.py, model.py: 256 + 512 -> 1024",
        *(1, 1, 768, 1024),
        stream=True,
    ),
    *cell_zoo.GRU,
    *cell_zoo.GRU_RESET_BEFORE,
    *cell_zoo.RNN,
    *cell_zoo.PROJECTED,
    *cell_zoo.OPTIONS,
)


def plain(T: int, B: int, I: int, H: int, **options: Any) -> Shape:  # noqa: E741
    """A shape of no model, named after its sizes."""
    shape = Shape("", "none", "none", T, B, I, H, **options)
    return replace(shape, name=shape.describe().replace(" ", "-"))


def _targets() -> tuple[Target, ...]:
    steps = {128: 100, 256: 100, 512: 50, 1024: 25}  # T is chosen so that no call takes 0.5 s
    targets = [Target(plain(100, 1, h, h), "best", 1.2) for h in steps]
    targets += [Target(plain(steps[h], 4, h, h), "best", 1.25) for h in (256, 512)]
    targets += [
        Target(plain(steps[h], b, h, h), "best", 1.05)
        for b in (8, 32, 64, 128)
        for h in (256, 512, 1024)
    ]
    targets += [Target(plain(128, 64, 9, 32), "best", 1.4)]
    targets += [Target(plain(365, 256, 32, 64), "best", 1.4)]
    targets += [Target(plain(2048, 1, 1, h), "best", 3.5) for h in (20, 40)]
    step = plain(1, 1, 128, 128, stream=True)
    targets += [Target(step, "onnxruntime", round(1 / 0.35, 3))]
    for ragged in (
        plain(100, 32, 128, 128, ragged=True),
        plain(100, 32, 256, 256, ragged=True),
        plain(100, 32, 64, 128, ragged=True, bidirectional=True),
    ):
        # A ragged batch must not cost more than the same batch sent as plain padded input.
        targets += [Target(ragged, "torch", 3.0), Target(ragged, "torch-padded", 1.0)]
    targets += [Target(shape, "best", 1.0) for shape in cell_zoo.GRU]
    targets += [Target(plain(100, 32, 256, 256, cell="gru"), "torch", 2.5)]
    targets += [Target(plain(100, 32, 256, 256, proj=128), "torch", 2.2)]
    targets += [Target(plain(1, 1, 256, 256, proj=128), "torch", 8.0)]
    return tuple(targets)


TARGETS: tuple[Target, ...] = _targets()

SWEEP: tuple[Shape, ...] = (
    plain(64, 1, 37, 37),
    plain(64, 3, 50, 37),
    plain(64, 20, 3, 37),
    plain(50, 5, 100, 100),
    plain(50, 33, 40, 100),
    plain(50, 2, 17, 150),
    plain(40, 7, 200, 200),
    plain(40, 16, 64, 200),
    plain(40, 1, 300, 300),
    plain(40, 12, 300, 300, bidirectional=True),
    plain(40, 24, 300, 300, bidirectional=True, ragged=True),
    plain(20, 3, 650, 650),
    plain(20, 33, 400, 650),
    plain(256, 1, 6, 11),
    plain(512, 9, 2, 23),
    plain(30, 100, 80, 80, layers=3, ragged=True),
    plain(10, 5, 900, 1300),
    plain(1, 3, 75, 210, stream=True),
    plain(7, 1, 61, 96, layers=2, stream=True),
    plain(40, 20, 100, 190, dtype="float64"),
)


def find(names: list[str]) -> list[Shape]:
    """The shapes of these names, from any of the three lists. Raises ValueError for others."""
    known = {shape.name: shape for shape in (*ZOO, *(t.shape for t in TARGETS), *SWEEP)}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no shape named {', '.join(unknown)}; known: {', '.join(known)}")
    return [known[name] for name in names]
