"""The smallest files of microscopes' formats, made by hand: there is no library that writes ND2 or LIF.

They follow what the libraries that read them (nd2, liffile) expect; a real microscope writes much more. CZI
files are written by pylibCZIrw itself.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

ND2_MAGIC, ND2_ALIGN = 0x0ABECEDA, 4096


# --- ND2 ---------------------------------------------------------------------------------------------------


def write_nd2(
    path: Path,
    data: np.ndarray,
    positions: Sequence[str] = (),
    channels: Sequence[str] = ("DAPI", "GFP"),
    um: float | None = 0.25,
    step_um: float = 2.0,
) -> None:
    """Write (T, P, Z, C, Y, X) unsigned 16 bit pixels; loops of length 1 are left out.

    Source:
        the chunks that nd2 0.12 reads of version 3 files, their metadata as XML.
    """
    times, places, planes, n_channels, height, width = data.shape
    attributes = {
        "uiWidth": width, "uiHeight": height, "uiWidthBytes": width * n_channels * 2, "uiComp": n_channels,
        "uiBpcInMemory": 16, "uiBpcSignificant": 16, "uiSequenceCount": times * places * planes,
        "eCompression": 2,
    }  # fmt: skip
    described = {
        f"Plane{i}": {
            "uiCompCount": 1,
            "sDescription": name,
            "pFluorescentProbe": {"m_ExcitationSpectrum": {"uiCount": 0}},
        }
        for i, name in enumerate(channels[:n_channels])
    }
    metadata = {
        "bCalibrated": um is not None, "dCalibration": um or 0.0, "dAspect": 1.0,
        "sPicturePlanes": {"uiCount": n_channels, "uiCompCount": n_channels, "sPlaneNew": described},
    }  # fmt: skip
    chunks: list[tuple[bytes, bytes]] = [
        (b"ImageAttributesLV!", _xml("SLxImageAttributes", attributes)),
        (b"ImageMetadataSeqLV|0!", _xml("SLxPictureMetadata", metadata)),
    ]
    experiment = _experiment(times, positions if places > 1 else (), planes, step_um)
    if experiment:
        chunks.append((b"ImageMetadataLV!", _xml("SLxExperiment", experiment)))
    frames = data.reshape(-1, n_channels, height, width).transpose(0, 2, 3, 1)
    for n, frame in enumerate(frames):
        pixels = np.ascontiguousarray(frame, "<u2").tobytes()
        chunks.append((b"ImageDataSeq|%d!" % n, struct.pack("<d", float(n)) + pixels))
    content = _chunk(b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0".ljust(64, b"\0"), align=False)
    table = b""
    for name, payload in chunks:
        content = content.ljust(-(-len(content) // ND2_ALIGN) * ND2_ALIGN, b"\0")
        table += name + struct.pack("<QQ", len(content), len(payload))
        content += _chunk(name, payload)
    place = len(content)
    end = b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", place)
    path.write_bytes(content + _chunk(b"ND2 FILEMAP SIGNATURE NAME 0001!", table + end, align=False))


def _chunk(name: bytes, payload: bytes, align: bool = True) -> bytes:
    # a frame's pixels begin 4096 bytes after its chunk does: 16 of its head, its name, 8 of its time
    reserved = ND2_ALIGN - 24 if align else len(name)
    return struct.pack("<IIQ", ND2_MAGIC, reserved, len(payload)) + name.ljust(reserved, b"\0") + payload


def _experiment(times: int, positions: Sequence[str], planes: int, step_um: float) -> dict[str, Any]:
    loops: list[dict[str, Any]] = []
    if times > 1:
        period = {"uiCount": times, "dStart": 0.0, "dPeriod": 1000.0, "dDuration": 1000.0 * times}
        loops.append({"eType": 1, "uLoopPars": period})
    if positions:
        points = {f"i{n:010}": {"dPosX": float(n), "dPosName": name} for n, name in enumerate(positions)}
        loops.append({"eType": 2, "uLoopPars": {"uiCount": len(positions), "Points": points}})
    if planes > 1:
        loops.append({"eType": 4, "uLoopPars": {"uiCount": planes, "dZStep": step_um}})
    for outer, inner in pairwise(loops):
        outer["ppNextLevelEx"] = {"i0000000000": inner}
    return loops[0] if loops else {}


def _xml(name: str, values: dict[str, Any]) -> bytes:
    return f'<?xml version="1.0"?><variant version="1.0">{_element(name, values)}</variant>'.encode()


def _element(name: str, value: Any) -> str:
    if isinstance(value, dict):
        inner = "".join(_element(key, one) for key, one in value.items())
        return f'<{name} runtype="CLxListVariant">{inner}</{name}>'
    kinds = {bool: "bool", int: "lx_int32", float: "double", str: "CLxStringW"}
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"<{name} runtype={quoteattr(kinds[type(value)])} value={quoteattr(text)}/>"


# --- LIF ---------------------------------------------------------------------------------------------------


def write_lif(
    path: Path, images: Sequence[tuple[str, np.ndarray, str]], um: float = 0.25, colours: Sequence[str] = ()
) -> None:
    """Write (name, unsigned 8 or 16 bit pixels, axes of T, C, Z, Y, X); the last axes are the innermost.

    Source:
        Leica Image File Formats, version 3.2, as liffile reads them.
    """
    blocks, elements = b"", ""
    for n, (name, data, axes) in enumerate(images):
        data = np.ascontiguousarray(data)
        elements += _lif_element(name, data, axes, um, colours, f"MemBlock_{n}", data.nbytes)
        label = f"MemBlock_{n}".encode("utf-16-le")
        head = struct.pack("<IIBQBI", 0x70, 0, 0x2A, data.nbytes, 0x2A, len(label) // 2)
        blocks += head + label + data.tobytes()
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="file"><Data/><Memory Size="0" '
        f'MemoryBlockID="none"/><Children>{elements}</Children></Element></LMSDataContainerHeader>'
    ).encode("utf-16-le")
    head = struct.pack("<IIBI", 0x70, len(xml) + 5, 0x2A, len(xml) // 2)
    path.write_bytes(head + xml + blocks)


def _lif_element(
    name: str, data: np.ndarray, axes: str, um: float, colours: Sequence[str], block: str, size: int
) -> str:
    numbers = {"X": 1, "Y": 2, "Z": 3, "T": 4}
    strides = dict(zip(axes, data.strides))
    lengths = dict(zip(axes, data.shape))
    count = lengths.get("C", 1)
    named = list(colours) or ["Gray"] * count
    channels = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="{8 * data.itemsize}" '
        f'NameOfMeasuredQuantity="" Min="0" Max="1" Unit="" LUTName="{named[c]}" '
        f'IsLUTInverted="0" BytesInc="{c * strides.get("C", 0)}" BitInc="0"/>'
        for c in range(count)
    )
    dimensions = "".join(
        f'<DimensionDescription DimID="{numbers[a]}" NumberOfElements="{lengths[a]}" Origin="0" '
        f'Length="{(lengths[a] - 1) * um * 1e-6}" Unit="{"s" if a == "T" else "m"}" '
        f'BytesInc="{strides[a]}" BitInc="0"/>'
        for a in reversed(axes)
        if a != "C"
    )
    return (
        f"<Element Name={quoteattr(name)}><Data><Image><ImageDescription><Channels>{channels}</Channels>"
        f"<Dimensions>{dimensions}</Dimensions></ImageDescription></Image></Data>"
        f'<Memory Size="{size}" MemoryBlockID="{block}"/></Element>'
    )


# --- CZI ---------------------------------------------------------------------------------------------------


def write_czi(
    path: Path, scenes: Sequence[np.ndarray], um: float = 0.25, names: dict[int, str] | None = None
) -> None:
    """Write a scene from each (T, Z, C, Y, X), side by side."""
    from pylibCZIrw import czi

    with czi.create_czi(str(path)) as file:
        across = 0
        for number, scene in enumerate(scenes):
            for t, z, c in np.ndindex(scene.shape[:3]):
                plane = {"T": t, "Z": z, "C": c}
                file.write(scene[t, z, c][..., None], (across, 0), plane, scene=number)
            across += scene.shape[-1] + 10
        file.write_metadata("made", names or {}, *[um * 1e-6] * 3)  # metres, as ZEN writes them
