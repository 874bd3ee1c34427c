"""The model zoo: what each published model is, where its weights are and how to recognise them.

Addresses and digests are those of the publishers; nothing is downloaded by importing this table.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

from napari_sam.errors import ModelError

__all__ = ["ALIASES", "PARAMETERS", "WORKING_NBYTES", "ZOO", "Family", "ModelInfo", "lookup"]

Family = Literal["nano", "sam", "sam2"]

PARAMETERS = {
    "nano": 5_930_901,
    "vit_t": 10_130_092,
    "vit_b": 93_735_472,
    "vit_l": 312_342_832,
    "vit_h": 641_090_608,
    "hiera_tiny": 38_962_498,
    "hiera_small": 46_060_354,
    "hiera_base_plus": 80_850_178,
    "hiera_large": 224_446_642,
}
"""Parameters of the whole model by encoder; those of SAM 2.1, of which SAM 2.0 has 16,512 fewer."""

_ONLY_IN_2_1 = 16_512

WORKING_NBYTES = {
    "nano": 200_000_000,
    "vit_t": 200_000_000,
    "vit_b": 400_000_000,
    "vit_l": 400_000_000,
    "vit_h": 500_000_000,
    "hiera_tiny": 200_000_000,
    "hiera_small": 300_000_000,
    "hiera_base_plus": 300_000_000,
    "hiera_large": 300_000_000,
}
"""Memory beyond the weights, in bytes, rounded up, while an image of 1024 x 1024 pixels is encoded:
how far the process's peak rose, measured on a CPU in float32."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model of the zoo.

    Attributes
    ----------
    name : str
        What :func:`~napari_sam.models.registry.load_model` and ``--model`` take.
    family : {"nano", "sam", "sam2"}
        Which network reads the weights.
    encoder : str
        The image encoder: ``vit_b``, ``hiera_tiny``, ...
    version : str
        Of SAM 2: ``"2"`` or ``"2.1"``; else empty.
    url : str or None
        Where the publisher keeps the weights; None if they are part of the package.
    digest : str or None
        ``"sha256:..."`` or ``"xxh128:..."`` of the file, in hexadecimal.
    nbytes : int or None
        Size of the file in bytes; None where the publisher does not say.
    licence : str
        Of the weights.
    domain : str
        What the weights were trained on, and so what they are good for.
    citation : str
        What to cite in a publication.
    record : str or None
        The publisher's page about these weights.
    """

    name: str
    family: Family
    encoder: str
    version: str
    url: str | None
    digest: str | None
    nbytes: int | None
    licence: str
    domain: str
    citation: str
    record: str | None = None

    @property
    def parameters(self) -> int:
        """Number of parameters of the whole model."""
        return PARAMETERS[self.encoder] - (_ONLY_IN_2_1 if self.version == "2" else 0)

    @property
    def weights_nbytes(self) -> int:
        """Memory that the weights take in float32, in bytes; half of it in bfloat16 or float16."""
        return 4 * self.parameters

    @property
    def working_nbytes(self) -> int:
        """Memory that encoding an image takes beyond the weights, about, in bytes: on a CPU, in float32."""
        return WORKING_NBYTES[self.encoder]

    @property
    def input_size(self) -> str:
        """How an image reaches the network, in words."""
        return {
            "nano": "its own size, at most 2048 pixels on the longest side",
            "sam": "1024 x 1024 pixels: the longest side scaled to 1024, the rest padded",
            "sam2": "1024 x 1024 pixels: both sides stretched to 1024",
        }[self.family]

    @property
    def published_name(self) -> str:
        """The file's name where it is published; not always unique (``vit_b.pt``)."""
        if self.url is None:
            return f"{self.name}.safetensors"
        return PurePosixPath(unquote(urlsplit(self.url).path)).name

    @property
    def file_name(self) -> str:
        """The file's name in the folder of models; unique.

        Examples
        --------
        >>> ZOO["vit_b"].file_name, ZOO["vit_b"].published_name
        ('vit_b.pth', 'sam_vit_b_01ec64.pth')
        """
        return self.name + PurePosixPath(self.published_name).suffix


_META = "https://dl.fbaipublicfiles.com"
_BIOIMAGE = "https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io"
_SAM = "Kirillov et al. 2023, Segment Anything, arXiv:2304.02643"
_MOBILE_SAM = f"Zhang et al. 2023, Faster Segment Anything (MobileSAM), arXiv:2306.14289; {_SAM}"
_SAM2 = "Ravi et al. 2024, SAM 2: Segment Anything in Images and Videos, arXiv:2408.00714"
_MICRO_SAM = (
    "Archit et al. 2025, Segment Anything for Microscopy, Nature Methods, doi:10.1038/s41592-024-02580-4"
)


def _sam(name: str, address: str, sha256: str, nbytes: int, citation: str, record: str) -> ModelInfo:
    return ModelInfo(
        name, "sam", name, "", address, f"sha256:{sha256}", nbytes, "Apache-2.0", "natural images", citation,
        record,
    )  # fmt: skip


def _sam2(version: str, size: str, sha256: str, nbytes: int) -> ModelInfo:
    name = ("sam2.1" if version == "2.1" else "sam2") + f"_hiera_{size}"
    folder = "092824" if version == "2.1" else "072824"
    return ModelInfo(
        name, "sam2", f"hiera_{size}", version, f"{_META}/segment_anything_2/{folder}/{name}.pt",
        f"sha256:{sha256}", nbytes, "Apache-2.0", "natural images and video", _SAM2,
        "https://github.com/facebookresearch/sam2",
    )  # fmt: skip


def _micro_sam(encoder: str, kind: str, domain: str, record: str, version: str, xxh128: str) -> ModelInfo:
    """Weights of micro-sam; their licence is in the record at bioimage.io, not in the weights' file."""
    return ModelInfo(
        f"{encoder}_{kind}", "sam", encoder, "", f"{_BIOIMAGE}/{record}/{version}/files/{encoder}.pt",
        f"xxh128:{xxh128}", None, "see its record (micro-sam publishes its models under CC-BY-4.0)", domain,
        f"{_MICRO_SAM}; {_MOBILE_SAM if encoder == 'vit_t' else _SAM}",
        f"https://bioimage.io/#/?id={record}",
    )  # fmt: skip


_OFFICIAL = "https://github.com/facebookresearch/segment-anything"
_LM = "light microscopy"
_EM = "electron microscopy: organelles"

ZOO: dict[str, ModelInfo] = {
    info.name: info
    for info in (
        ModelInfo(
            "nano",
            "nano",
            "nano",
            "",
            None,
            None,
            None,
            "BSD-3-Clause",
            "microscopy: small dense objects",
            "napari-sam, see CITATION.cff",
        ),
        _sam(
            "vit_b",
            f"{_META}/segment_anything/sam_vit_b_01ec64.pth",
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
            375_042_383,
            _SAM,
            _OFFICIAL,
        ),
        _sam(
            "vit_l",
            f"{_META}/segment_anything/sam_vit_l_0b3195.pth",
            "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
            1_249_524_607,
            _SAM,
            _OFFICIAL,
        ),
        _sam(
            "vit_h",
            f"{_META}/segment_anything/sam_vit_h_4b8939.pth",
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
            2_564_550_879,
            _SAM,
            _OFFICIAL,
        ),
        _sam(
            "vit_t",
            "https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
            "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
            40_728_226,
            _MOBILE_SAM,
            "https://github.com/ChaoningZhang/MobileSAM",
        ),
        _sam2("2", "tiny", "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125", 155_906_050),
        _sam2("2", "small", "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3", 184_309_650),
        _sam2(
            "2",
            "base_plus",
            "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071",
            323_493_298,
        ),
        _sam2("2", "large", "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b", 897_952_466),
        _sam2("2.1", "tiny", "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69", 156_008_466),
        _sam2(
            "2.1", "small", "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38", 184_416_285
        ),
        _sam2(
            "2.1",
            "base_plus",
            "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
            323_606_802,
        ),
        _sam2(
            "2.1", "large", "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318", 898_083_611
        ),
        _micro_sam("vit_t", "lm", _LM, "faithful-chicken", "1.1", "72ec5074774761a6e5c05a08942f981e"),
        _micro_sam("vit_b", "lm", _LM, "diplomatic-bug", "1.2", "fe9252a29f3f4ea53c15a06de471e186"),
        _micro_sam("vit_l", "lm", _LM, "idealistic-rat", "1.2", "017f20677997d628426dec80a8018f9d"),
        _micro_sam("vit_t", "em_organelles", _EM, "greedy-whale", "1", "253474720c497cce605e57c9b1d18fd9"),
        _micro_sam("vit_b", "em_organelles", _EM, "noisy-ox", "1.2", "f3bf2ed83d691456bae2c3f9a05fb438"),
        _micro_sam("vit_l", "em_organelles", _EM, "humorous-crab", "1.2", "810b084b6e51acdbf760a993d8619f2d"),
    )
}
"""The models by name, the embedded one first."""

ALIASES = {"default": "vit_h"}
"""Other names; ``default`` is what the official registry calls ViT-H."""


def lookup(name: str) -> ModelInfo:
    """The entry of that name or alias.

    Raises
    ------
    ModelError
        If there is none; says which names come near.

    Examples
    --------
    >>> lookup("default").name
    'vit_h'
    """
    info = ZOO.get(ALIASES.get(name, name))
    if info is not None:
        return info
    near = difflib.get_close_matches(name, [*ZOO, *ALIASES], n=3)
    choice = " or ".join(near) if near else ", ".join(ZOO)
    raise ModelError(f"There is no model {name!r}; choose one of {choice}, or give a checkpoint's path.")
