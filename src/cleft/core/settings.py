"""Every setting, declared once: what a network is, how it is trained, what a model file says of itself."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from cleft.core import bounds
from cleft.core.errors import CleftError, DataError
from cleft.core.units import LENGTH

__all__ = [
    "LOSSES", "LossName", "ModelCard", "NetSettings", "TrainSettings", "differences", "explain",
    "read_settings", "renamed",
]  # fmt: skip

Auto = Literal["auto"]
Count = Annotated[int, Field(ge=1, lt=bounds.LARGEST)]
Weight = Annotated[float, Field(ge=0)]
Weights = Weight | tuple[Weight, ...] | tuple[tuple[Weight, ...], ...]
Length = Annotated[str, Field(pattern=f"^{LENGTH}$")]

LossName = Literal[
    "jc", "j", "ce", "wce", "bwm", "w3", "dsc", "dice", "gdl", "tversky", "focal", "lovasz", "mcc",
    "sens-spec", "boundary",
]  # fmt: skip
# what ``cleft train --loss`` takes; here, because listing them must not wait for torch
LOSSES: dict[LossName, str] = {
    "jc": "cross entropy plus Youden's J: the loss of this project",
    "j": "Youden's J alone",
    "ce": "cross entropy",
    "wce": "cross entropy in which every class weighs as much",
    "bwm": "cross entropy with class balance and borders between cells (U-Net's map)",
    "w3": "cross entropy with the triplex map: class balance, contours, touching",
    "dsc": "cross entropy plus soft Dice",
    "dice": "soft Dice alone",
    "gdl": "generalised Dice: rare classes count most",
    "tversky": "Dice that counts what is missed more than what is wrongly found",
    "focal": "cross entropy in which pixels that are right already fade",
    "lovasz": "Lovász-softmax: the Jaccard index made continuous",
    "mcc": "Matthews' correlation of prediction and truth",
    "sens-spec": "squared errors, sensitivity against specificity",
    "boundary": "generalised Dice plus distances to the contours",
}


# what settings were called when the models that ship were trained
OLD_NAMES = {
    "start": "pretrained", "classes": "n_classes", "lam": "j_weight", "lam_schedule": "j_weight_schedule",
    "reduction": "j_reduction", "pairs": "j_pairs", "gap_decided": "merged_gap_weight",
    "doubt": "ignore_uncertain", "rounds": "self_training", "k": "touching_radius", "patch": "patch_size",
    "rare": "foreground_oversampling", "shares": "sampling_weights", "scale": "max_scale",
    "inverted": "p_invert", "batch": "batch_size", "schedule": "lr_schedule", "renorm": "batch_renorm",
    "average": "ema_decay", "half": "save_fp16", "unknown": "unlabeled_as", "ignore": "ignore_label",
    "held_out": "val_fraction", "checks": "validations",
}  # fmt: skip
OLD_CARD_NAMES = {
    "k": "touching_radius", "smallest_cell": "min_size", "smallest_cut": "min_size_at_border",
    "ceiling_pq": "roundtrip_pq",
}  # fmt: skip

MOST_SAID, LONGEST_NAME = 5, 60  # mistakes in a message, letters of a setting's name
LARGEST_STRIDE = 64  # images are padded to multiples of it


class Settings(BaseModel):
    """Settings can't change after they are made; an unknown name is an error, and so is NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NetSettings(Settings):
    """The shape of a U-Net.

    ``strides`` holds, for each step down, the stride along each spatial axis; its length is the depth
    and its rows' length the number of spatial axes.
    """

    channels: int = Field(1, ge=1, le=4096)
    n_classes: Literal[3, 4] = 4
    width: int = Field(32, ge=1, le=256)
    strides: tuple[tuple[bounds.Stride, ...], ...] = Field(min_length=2, max_length=6)

    @field_validator("strides")
    @classmethod
    def _of_the_same_axes(cls, strides: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
        if {len(row) for row in strides} not in ({2}, {3}):
            raise ValueError("expected rows of one number for each of 2 or 3 axes")
        if max(math.prod(along) for along in zip(*strides, strict=True)) > LARGEST_STRIDE:
            raise ValueError(f"expected strides along an axis whose product is at most {LARGEST_STRIDE}")
        return strides


class TrainSettings(Settings):
    """How a model is trained; every field is an option of ``cleft train`` or a line of its config file."""

    pretrained: str | None = Field(
        None, description="model to begin with: a name that ships, or a file; its network is taken over"
    )
    steps: int = Field(4500, ge=1, description="training steps; 1500 from a pretrained model")
    n_classes: Literal[3, 4] = Field(4, description="4 with the gap class (J4), 3 without (J3)")
    loss: LossName = Field("jc", description="what is made small; `cleft info` lists the names")
    j_weight: Weights = Field(0.05, description="weight of the J term: a number, one per class, or a matrix")
    j_weight_schedule: Literal["constant", "rising", "falling"] = Field(
        "constant", description="of the J term's weight over the training"
    )
    j_reduction: Literal["batch", "image"] = Field("batch", description="J of the batch, or of each image")
    j_pairs: tuple[tuple[int, int], ...] | None = Field(
        None, description="pairs of classes (i, k) that J compares; all if not given"
    )
    merged_gap_weight: float = Field(1.0, ge=0, description="weight of cross entropy with gap as background")
    ignore_uncertain: float = Field(
        0.0, ge=0, lt=1,
        description="where cells were left out: background that looks more like a cell than this share of "
        "the annotated ones is not learnt from",
    )  # fmt: skip
    self_training: int = Field(
        0, ge=0, le=4,
        description="trainings before the last, after each of which cells found on background are annotated",
    )  # fmt: skip
    width: int = Field(32, ge=4, le=128, description="features of the first level")
    levels: int = Field(5, ge=3, le=6, description="resolution levels of the U-Net")
    touching_radius: bounds.Width | Auto | Length = Field(
        "auto", description='touching window: pixels, "0.4um", or auto'
    )
    gap_radius: bounds.Width | Auto | Length = Field("auto", description='gap ball: pixels, "1.5um", or auto')
    shrink: tuple[bounds.Factor, ...] | None = Field(
        None, description="average blocks of so many pixels along each axis; auto if not given"
    )
    patch_size: tuple[Count, ...] | None = Field(None, description="patch shape in pixels; auto if not given")
    foreground_oversampling: float = Field(
        0.5, ge=0, le=1, description="share of patches around a pixel of a random class, not anywhere"
    )
    sampling_weights: tuple[Weight, ...] | None = Field(
        None, description="how often each folder of data is drawn from; all alike if not given"
    )
    max_scale: float = Field(1.15, ge=1.15, le=4, description="patches are scaled by up to this, up and down")
    p_invert: float = Field(0.0, ge=0, le=1, description="share of patches shown dark for bright")
    batch_size: int | None = Field(None, ge=1, description="patches per step and device; auto if not given")
    learning_rate: float = Field(
        3e-3, gt=0, description="peak learning rate of Adam; 1e-3 from a pretrained model"
    )
    lr_schedule: Literal["one-cycle", "constant"] = Field(
        "one-cycle",
        description="of the learning rate: up over a tenth of the steps and down to nothing, or as it is",
    )
    batch_renorm: bool = Field(
        False, description="batch renormalisation: for folders of images that look very different"
    )
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of a moving average of the weights, which then is the model; 0 is none",
    )
    save_fp16: bool = Field(False, description="kernels are kept as 16-bit floats: a file half as large")
    percentiles: bounds.Percentiles = Field((1.0, 99.8), description="intensities that become 0 and 1")
    unlabeled_as: Literal["anything", "cells"] = Field(
        "anything", description="what not annotated (-1) beside a cell is taken for; cells: then they touch"
    )
    ignore_label: int | None = Field(
        None, gt=0, description="label that means not annotated, where an editor can't write -1"
    )
    val_fraction: float = Field(
        0.1, ge=0, le=0.5, description="share of images held out if no --val is given"
    )
    validations: int = Field(20, ge=1, description="how often to validate and save")
    patience: int = Field(0, ge=0, description="checks without a better PQ before stopping; 0 never stops")
    licence: bounds.ShortText = Field(
        "not stated", description="under which the model may be used; kept in its file"
    )
    notes: bounds.LongText = Field(
        "", description="what the model is for and where it fails; kept in its file"
    )
    tensorboard: bool = Field(False, description="log for TensorBoard too (pip install cleft[log])")
    seed: int = Field(0, ge=0, description="fixes weights, patches and augmentation")
    devices: int | None = Field(
        None, ge=1, description="processes of a machine, a card each; all cards if not given"
    )
    nodes: int = Field(1, ge=1, description="machines; Slurm or torchrun tells each of them its place")

    @field_validator("*", mode="before")
    @classmethod
    def _storable(cls, found: Any) -> Any:
        """Numbers that the model's card, which keeps them, can hold."""
        if isinstance(found, int) and abs(found) >= bounds.LARGEST:
            raise ValueError("expected a whole number of at most 64 bits")
        return found


class ModelCard(Settings):
    """What a model file says of itself."""

    format: Literal[1] = 1
    cleft: bounds.ShortText
    net: NetSettings
    axes: str
    spacing_um: bounds.Spacing | None = None
    shrink: tuple[bounds.Times, ...] = Field(description="pixels averaged along each axis before the network")
    touching_radius: bounds.Width = Field(ge=1, description="touching window, in pixels after shrinking")
    gap_radius: bounds.Width = Field(ge=1, description="gap ball, in pixels after shrinking")
    percentiles: bounds.Percentiles
    cell_diameter: float = Field(
        gt=0, le=1e6, description="median diameter of the training cells, in pixels of the image"
    )
    diameters: tuple[bounds.Pixels, bounds.Pixels] | None = Field(
        None, description="the same of one in twenty smaller, and one in twenty larger"
    )
    min_size: bounds.Pixels = Field(0.0, description="pixels of the image; smaller finds are dropped")
    min_size_at_border: bounds.Pixels = Field(0.0, description="the same of cells at the border of an image")
    roundtrip_pq: bounds.Share = Field(description="PQ of labels -> classes -> labels on the training labels")
    trained_on: bounds.Free = Field(default_factory=dict)
    training: bounds.Free = Field(default_factory=dict)
    scores: dict[bounds.ShortText, float] = Field(default_factory=dict, max_length=1000)
    licence: bounds.ShortText = "not stated"
    notes: bounds.LongText = ""

    @model_validator(mode="before")
    @classmethod
    def _of_an_older_version(cls, given: Any) -> Any:
        """Fields by the names they have now."""
        return _renamed(given, OLD_CARD_NAMES) if isinstance(given, dict) else given

    @field_validator("axes")
    @classmethod
    def _known(cls, axes: str) -> str:
        if axes not in ("YX", "ZYX"):
            raise ValueError("expected YX or ZYX")
        return axes

    @field_validator("axes", "spacing_um", "shrink")
    @classmethod
    def _of_the_network(cls, found: Any, info: ValidationInfo) -> Any:
        """Of as many axes; of a network that isn't one its own message tells."""
        net = info.data.get("net")
        if found is not None and net is not None and len(found) != len(net.strides[0]):
            raise ValueError(f"expected one for each of the network's {len(net.strides[0])} axes")
        return found

    @field_validator("diameters")
    @classmethod
    def _positive(cls, found: tuple[float, float] | None) -> tuple[float, float] | None:
        if found is not None and not 0 < found[0] <= found[1]:
            raise ValueError("expected two positive numbers, the smaller one first")
        return found

    def min_sizes(self, given: float | None = None) -> tuple[float, float]:
        """Pixels of the smallest cells inside an image and at its border: as given, or the model's."""
        return (self.min_size, self.min_size_at_border) if given is None else (given, 0.0)


def renamed(training: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a training that an older version of cleft wrote down, by the names they have now.

    Example:
        >>> renamed({"lam": 0.2, "rounds": 2, "steps": 9})
        {'j_weight': 0.2, 'self_training': 1, 'steps': 9}
    """
    now = _renamed(training, OLD_NAMES)
    return {**now, "self_training": now["self_training"] - 1} if "rounds" in training else now


def _renamed(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {
        names.get(name, name) if names.get(name) not in given else name: value
        for name, value in given.items()
    }


def differences(settings: TrainSettings, made_with: Mapping[str, Any]) -> list[str]:
    """In what a file was made with other settings; those that are younger than the file had their default.

    Args:
        settings: of now.
        made_with: by name, as a card's ``training`` has them.

    Example:
        >>> differences(TrainSettings(steps=5), {"steps": 4, "minutes": 1.0})
        ['steps 4 (now 5)']
    """
    before = {**TrainSettings.model_validate({}).model_dump(mode="json"), **renamed(made_with)}
    now = settings.model_dump(mode="json")
    return [f"{name} {before[name]} (now {value})" for name, value in now.items() if before[name] != value]


def explain(error: ValidationError) -> str:
    """A validation error in one sentence.

    Example:
        >>> try:
        ...     TrainSettings(width=1)
        ... except ValidationError as error:
        ...     print(explain(error))
        width is 1: input should be greater than or equal to 4
    """
    parts = []
    for e in error.errors():
        name = " ".join(map(str, e["loc"][:1])) or "it"
        name = name if name.isprintable() and len(name) <= LONGEST_NAME else bounds.shown(name)
        parts.append(f"{name} is {bounds.shown(e['input'])}: {e['msg'][:1].lower()}{e['msg'][1:]}")
    said, more = list(dict.fromkeys(parts)), len(set(parts)) - MOST_SAID
    return "; ".join([*said[:MOST_SAID], *([f"and {more} more"] if more > 0 else [])])


def read_settings(path: Path | None, **given: Any) -> TrainSettings:
    """Settings from a YAML file, with what is given by hand on top.

    Args:
        path: YAML with names of ``TrainSettings``, or ``None``.
        **given: settings by name; ``None`` means not given.

    Raises:
        CleftError: the file can't be read, or a name or value is not one of ``TrainSettings``.

    Example:
        >>> read_settings(None, steps=10, seed=None).steps
        10
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            if os.path.exists(path) and not os.path.isfile(path):  # a pipe would wait for a writer
                raise DataError(f"{path}: is no file, expected YAML with settings")
            loaded = yaml.safe_load(Path(path).read_text())
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise DataError(f"{path}: can't be read as YAML settings ({error})") from error
        if not isinstance(loaded, dict):
            raise DataError(
                f"{path}: found {type(loaded).__name__}, expected lines of the form 'steps: 2000'"
            )
        values.update(loaded)
    values.update({name: value for name, value in given.items() if value is not None})
    try:
        return TrainSettings.model_validate(values)
    except ValidationError as error:
        raise CleftError(f"{path or 'settings'}: {explain(error)}") from error
