# SPDX-License-Identifier: BSD-3-Clause
"""Pickles from before `fastlstm.spec` was there still load, and compute what their models did."""

from __future__ import annotations

import base64
import copy
import pickle
import zlib
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm.spec import CELLS, Spec

# Base85 of the compressed pickles of MADE, as the models stood at commit 5d5d8d0.
PICKLES = {
    "LSTM": (
        "c-nnbYfuwc6b=~P_&^W=i3DxrDHx$jEjbrzM;)ONt&Y|QF^`3fg(M~$EY`LZL4vbTm4z7v)M~Ad>d;DyI*_~"
        "IAa%x$(AGzVp`caJN~zWH*+IL>3Q{%fkDc6e?)RPVobPP%gyqZJ1@?y?ouM>QStcqw#`a=pVe0!!-($*{h|i"
        "f%m~h%tt23A>g-N@SU{aiDFH)<~5W44QXWCO|&Q@e8a|xr#b`+|#N)uzDy;Mp{O)4_9Mia#p({380-k>*A%z"
        "V@~SXQOgXpMxL(&}}}EDqvfFzVMm=M~T{8Y<U7FtiKDZ^&f^&t(kloDt6yTZ)(^OnAyD+9{Ed%jFB7agY6#B"
        "A^%*EzBgcZLKKHl%Aoz6hoElBHa`wQfVMe_Wry#5ZX+VQfNs<)(j@aJ;iAYGZZ8TgU(#g)7IP2y~4o&`6A#q"
        "oJ(OOa=57wgPeZDIfo~0+~Z$x4@(seCdgM4!*xq-G{Tp3OJCJ3eOb5kRo&9z(u6PRmO9ogb)@_M2{Y}YFcE}"
        "?;k<LT|1vRh&JlyssLVDo^q8S-RH*evZUKDw6hUzm3T38JtK*h{Gme}@``dSezZjEk&Z4wRqfyB%i#JzN&6!"
        "OZ&1#CfPL847bQ(Tc#%)(2GuKJQ@GIoR+e7*m&lP`Naut4c_GbfvZ{qXYG1i~x!ReBAn10L!ef01z8N=-sDI"
        "(t`=h-;O1uqz!d4{C)rfF>do$+kJGb3JG(`4OL8Vlm%cN-cP9l;aVKETa8w?a_+VOSX(!B%y8v5yXJwKf!p@"
        "G8<9CEaOCv{wjuO@%^UVVk1Yn$UOF+T3k`1ma(r;6@+LpLG;UdrrZLSP8P@LmlI1zTFC`$yK;=c|NvGUJe%a"
        "16bi(3Yj%7XuN*~w&SP1uEW6@Nv=#rS2o78VbOtXoHhy#)QXY#@phcM)0v(3?G~OvGSZAB>m+PZ+i2vy?L){"
        "r^g!0tbrR2zPP4|(?#4&D&OqA*Uu(8|BwPN=clc6AIW#6;PfQif!l}yRxJ2y7+AD-P?lEzm2!6^Yp)vB$#6R"
        "ML5$X>@QNj!O!k%CdY7)VYk8q41yQL1#mF&Qcu4N7V-ZdbTRbYANUI?y9hk<X-@f}9Ju0tW;VIHHKg8e)DVR"
        "y(Q5Xv>MbWt3;aCHHk^Y{@PPxnGx;{+t=K5td8m!REC>S1Z=CY<c*fui3C!|da+Y{Eh}P`xt%X&<Y=uPP90D"
        "}9h4{dU7qiv+7Z1?;upHazCo7x19^H`u?Y0$Vh5;OZJz)KmEs=N#C_E1W)(2Zpm=GO<gotZI!fPDt~?@@1~<"
        "SNT&R5CtRAp$@EDbQvap){9&GCF~P?9DM3}u>Y5JaO56^0|uJ-FCo_P3|oyM$ZQNihBfZi!=4v$?1u00O24O"
        "Ya+d&Fj{VImlsd+rX!1fOqHvVi5`j|1aq!8EXw-Z*2n5|b=geOn$?tjGNFJ=XH4$<yw!*az63^`W8O(+#v|b"
        ";|rtMfPi%yZ@<mf3ZyTG5_b?P9#ezOxlxm5)}#I)kJ{j;I^vJ=Y7?5H0X>c%$Q2xgli%J9va0c(;~(onIF#&"
        "QqNn^k9IMY?b_$|6Fa)>XigNl~nOS}V@@rxx}u$mb{Y=13kCofD%Kq2+Klrx%ooQ`m!}80?&s57D=ifMEgup"
        "8OE6?Qw$S%@f!|`DU0it{oEkD5$<KVjBxw_zJTf&oDB-1g916mR+jd3?bXvan!vqR^ZxIf2V#rG*`Rv-_cu+"
        "@$CHoBpBV*VBQ*my6-KPoyG?sD7OXj&Q#Wu1A%rA&Betw812FROH*1xrzRM=SrzjiB5ZS)"
    ),
    "LSTMCell": (
        "c-m`VnQG6(00uq0X^F)pImIQpddaCdIa7K#e1b!Kok7gWQ#2c=)K1ap;mXV_C@qOE&a6tE;?3B@ospT6l9~t"
        "QGxe|}WhNF+>Fi-mDXA<-ozlaaSDIT;IR(a_Jf(*z&0<PtNBfkZDH`6)J&ZO}{QUg9{sRG+@Mb8PlGMW<U!0"
        "LxkXj73k+VECGd-guJ~LyAH-|T4+Z4D+23UltZAvLnM?qpyVs7!29zM7q;*;}>fKCvENTrsf78S=QrYC0R0i"
        "6LfI77Hc4D33HLcQG5oRZAMqM}5gb9v&6Qj_!Zic5-0lS_cgGdO$L^HLy^lc#tyv`%qmOqv4m1S7;%8GN124"
        "$~MrnP2ieu}_Gu*^{3>!QM+itTwgxseQSCgRSh3NBbjo6)ygfci7(I-~R=>qL1xYndW}TF!;8;&WfIhh|;_J"
        "rvQDQA(|nVp#ZWYLkVF66U2swV*-f_sxLmUFKCWZP`$X`{z^m7&4b2|>_1ErzxSeR!TyG<N$d7#?%Z#~aygD"
        "e{g%Dlk!_spFQ3};Sl_(BKK1y1v6LmZH(5NjH%sVDiqCp%zvq>>AdAl3{VH3I_jztPZ0|8C%Kk#vCHn}LT`_"
        "++pV<EhQM<L{&sqCL%Jp?d(;t9cSlZbMa##;1Fl0+IQ}dEjr}&j7=>Y&DjQU0"
    ),
}
MADE: dict[str, Any] = {
    "LSTM": fastlstm.LSTM(1, 2, 2, dropout=0.25, bidirectional=True, seed=3),
    "LSTMCell": fastlstm.LSTMCell(1, 2, bias=False, dtype="float64", seed=4),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_a_pickle_from_before(kind: str) -> None:
    old = pickle.loads(zlib.decompress(base64.b85decode(PICKLES[kind])))
    new = MADE[kind]
    assert type(old) is type(new)
    assert repr(old) == repr(new)
    assert old._spec == new._spec
    for name, value in new.state_dict().items():
        assert np.array_equal(old.state_dict()[name], value)
    x = np.linspace(-1, 1, 12, dtype=new.dtype).reshape(*((3, 4) if kind == "LSTM" else (12,)), 1)
    for model in (old, copy.deepcopy(old), pickle.loads(pickle.dumps(old))):
        assert np.array_equal(model(x)[0], new(x)[0])


def test_a_specification_is_a_value() -> None:
    spec = Spec("lstm", 3, 4, 2, 2, False, np.dtype(np.float64))
    again = pickle.loads(pickle.dumps(spec))
    assert again == spec
    assert hash(again) == hash(spec)
    assert again is not spec
    assert spec != Spec("lstm", 3, 4, 2, 2, True, np.dtype(np.float64))
    with pytest.raises(AttributeError):
        spec.hidden_size = 5  # type: ignore[misc]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bias", [True, False])
def test_shapes_are_torch_s(cell: str, bias: bool) -> None:
    torch = pytest.importorskip("torch")
    name = cell.split("_")[0].upper()
    kind = getattr(torch.nn, name)
    module = kind(3, 4, 3, bias=bias, bidirectional=True)
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = Spec(cell, 3, 4, 3, 2, bias).shapes
    assert found == expected
    assert list(found) == list(expected)
