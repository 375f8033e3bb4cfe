"""Every setting, declared once: what a network is, how it is trained, what a model file says of itself."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
from cleft.core.methods import Method
from cleft.core.units import LENGTH

__all__ = [
    "DESCRIPTIONS", "LOSSES", "PRETRAINED_DEFAULTS", "AugmentationSettings", "DataSettings", "LossName",
    "LossSettings", "Method", "ModelCard", "NetSettings", "TrainSettings", "differences", "explain",
    "read_settings", "renamed",
]  # fmt: skip

Auto = Literal["auto"]
Count = Annotated[int, Field(ge=1, lt=bounds.LARGEST)]
Positive = Annotated[float, Field(gt=0)]
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
    size_head: bool = Field(False, description="whether it tells how large cells are, too")

    @field_validator("strides")
    @classmethod
    def _of_the_same_axes(cls, strides: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
        if {len(row) for row in strides} not in ({2}, {3}):
            raise ValueError("expected rows of one number for each of 2 or 3 axes")
        if max(math.prod(along) for along in zip(*strides, strict=True)) > LARGEST_STRIDE:
            raise ValueError(f"expected strides along an axis whose product is at most {LARGEST_STRIDE}")
        return strides


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
    noise_floor: bounds.NoiseFloor = Field(
        0.0, description="standard deviations of an image's noise that its limits are at least apart"
    )
    cell_diameter: float = Field(
        gt=0, le=1e6, description="median diameter of the training cells, in pixels of the image"
    )
    diameters: tuple[bounds.Pixels, bounds.Pixels] | None = Field(
        None, description="the same of one in twenty smaller, and one in twenty larger"
    )
    default_diameter: Literal["auto"] | None = Field(
        None, description="where no diameter is given: auto looks at each image, none leaves it as it is"
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


class Group(Settings):
    """Settings of a training that belong together."""

    @field_validator("*", mode="before")
    @classmethod
    def _storable(cls, found: Any) -> Any:
        """Numbers that the model's card, which keeps them, can hold."""
        if isinstance(found, int) and abs(found) >= bounds.LARGEST:
            raise ValueError("expected a whole number of at most 64 bits")
        return found


class NetworkSettings(Group):
    """The U-Net and its normalisation."""

    pretrained: str | None = Field(
        None, description="model to begin with: a name that ships, or a file; its network is taken over"
    )
    width: int = Field(32, ge=4, le=128, description="features of the first level")
    levels: int = Field(5, ge=3, le=6, description="resolution levels, if the patch is large enough for them")
    min_coarsest: int = Field(
        6,
        ge=1,
        description="pixels along a patch at the coarsest level: of fewer levels nothing is learnt there",
    )
    batch_norm_momentum: bounds.Share = Field(
        0.02, description="of the running averages: over some fifty steps, since one or two patches are few"
    )
    freeze_batch_norm_from: bounds.Share = Field(
        0.7, description="share of the steps after which the running averages stay, and normalise: a network "
        "that relies on a batch's own statistics is another one at prediction",
    )  # fmt: skip
    size_head: bool | None = Field(
        None, description="whether the model learns, at the end, to tell the size of cells, by which "
        "diameter auto goes; if not given, where each image was brought to one size",
    )  # fmt: skip
    size_views: int = Field(
        3000, ge=1, description="views of the images at random scales that it learns this from"
    )
    batch_renorm: bool = Field(
        False, description="batch renormalisation: for folders of images that look very different"
    )
    batch_renorm_ramp: tuple[bounds.Share, bounds.Share] = Field(
        (0.05, 0.25), description="shares of the steps between which it comes to follow the running "
        "averages, which mean nothing at first",
    )  # fmt: skip


class ClassSettings(Group):
    """How labels become classes."""

    n_classes: Literal[3, 4] = Field(4, description="4 with the gap class (J4), 3 without (J3)")
    touching_radius: bounds.Width | Auto | Length = Field(
        "auto", description='how far to look for another cell: pixels, "0.4um", or auto'
    )
    gap_radius: bounds.Width | Auto | Length = Field(
        "auto", description='radius of the ball that closes gaps: pixels, "1.5um", or auto'
    )
    auto_images: int = Field(
        16, ge=1, description="images from which auto chooses the radii: more cost time and change nothing"
    )
    unlabeled_as: Literal["anything", "cells"] = Field(
        "anything", description="what -1 beside a cell is taken for: anything, or cells, which touch it"
    )
    ignore_label: int | None = Field(
        None, gt=0, description="label that means not annotated, where an editor can't write -1: 65535, say"
    )


class LossSettings(Group):
    """What is made small."""

    loss: LossName = Field("jc", description="name of the loss; `cleft info` says what they are")
    j_weight: Weights = Field(0.05, description="weight of the J term: a number, one per class, or a matrix")
    j_weight_schedule: Literal["constant", "rising", "falling"] = Field(
        "constant", description="of the J term's weight over the training"
    )
    j_reduction: Literal["batch", "image"] = Field("batch", description="J of the batch, or of each image")
    j_pairs: tuple[tuple[int, int], ...] | None = Field(
        None, description="pairs of classes (i, k) that J compares; all if not given"
    )
    merged_gap_weight: float = Field(
        1.0, ge=0, description="weight of cross entropy with gap as background, as labels are decided"
    )
    ignore_uncertain: float = Field(
        0.0, ge=0, lt=1,
        description="where cells were left out of the masks, 0.2: background that looks more like a cell "
        "than this share of the annotated ones is not learnt from (docs/evidence.md)",
    )  # fmt: skip
    ignore_uncertain_from: bounds.Share = Field(
        0.2, description="share of the steps before which the network knows too little to be asked"
    )
    ignore_uncertain_beyond: int = Field(
        2, ge=0, le=64,
        description="pixels around annotated cells where background is believed: contours need it",
    )  # fmt: skip


class DataSettings(Group):
    """Which pixels are learnt from. Pairs hold a number for planes and one for stacks."""

    percentiles: bounds.Percentiles = Field((1.0, 99.8), description="intensities that become 0 and 1")
    noise_floor: bounds.NoiseFloor = Field(
        10.0, description="the two are at least so many standard deviations of the image's noise apart: the "
        "noise of an empty field must not look like cells",
    )  # fmt: skip
    network_diameter: Positive | None = Field(
        None, description="pixels across a cell that each image is brought to by its own labels, whatever "
        "their size in it; if not given, images of about one size of cells stay as they are",
    )  # fmt: skip
    shrink: tuple[bounds.Factor, ...] | None = Field(
        None, description="average blocks of so many pixels along each axis; auto if not given"
    )
    shrunk_diameter: tuple[Positive, Positive] = Field(
        (40, 16), description="pixels across a cell that auto shrinks to: in planes well within what the "
        "network sees; in stacks a patch costs the cube of its edge and must hold several cells",
    )  # fmt: skip
    patch_size: tuple[Count, ...] | None = Field(None, description="patch shape in pixels; auto if not given")
    auto_patch_edge: tuple[Count, Count] = Field((192, 48), description="of a patch if not given, in pixels")
    min_patch_edge: int = Field(16, ge=1, description="along axes of coarse pixels, if not given")
    batch_size: int | None = Field(None, ge=1, description="patches per step and device; auto if not given")
    auto_batch_size: tuple[Count, Count] = Field(
        (2, 1), description="patches of the auto_patch_edge whose pixels make a step, if not given"
    )
    foreground_oversampling: bounds.Share = Field(
        0.5, description="share of patches around a pixel of a random class, not anywhere"
    )
    sampling_weights: tuple[Weight, ...] | None = Field(
        None, description="how often each folder of data is drawn from; all alike if not given"
    )
    val_fraction: float = Field(
        0.1, ge=0, le=0.5, description="share of images held out if no --val is given"
    )
    self_training: int = Field(
        0, ge=0, le=4,
        description="trainings before the last, after each of which cells found on background are annotated",
    )  # fmt: skip
    self_training_background: bounds.Share = Field(
        0.8, description="share of a found cell that must lie there: no better reading of an annotated cell"
    )


class AugmentationSettings(Group):
    """What is done to patches; mild, as few images are drawn by hand and trainings are short."""

    max_stretch: float = Field(
        1.15, ge=1, le=2, description="of a patch, all axes alike; at least its inverse"
    )
    max_scale: float = Field(1.15, ge=1, le=4, description="patches are scaled by up to this, up and down")
    warp_spacing: float = Field(24, ge=4, description="pixels between the control points of a warp")
    warp_sigma: float = Field(1.0, ge=0, le=20, description="pixels they are moved by, at most on average")
    p_intensity: bounds.Share = Field(0.5, description="share of patches with gamma, contrast and brightness")
    gamma: float = Field(0.3, ge=0, le=2, description="exponents are exp of up to this, up and down")
    contrast: float = Field(0.15, ge=0, lt=1, description="factors are 1 by up to this, up and down")
    brightness: float = Field(0.05, ge=0, le=1, description="shifts are up to this, up and down")
    p_blur: bounds.Share = Field(0.1, description="share of patches blurred")
    blur_sigma: tuple[Weight, Weight] = Field((0.3, 0.8), description="least and most, in pixels")
    p_noise: bounds.Share = Field(0.1, description="share of patches with noise")
    noise_sigma: float = Field(0.05, ge=0, le=1, description="most, where intensities are 0 to 1")
    p_invert: bounds.Share = Field(0.0, description="share of patches shown dark for bright")
    p_touching_contrast: bounds.Share = Field(
        0.2, description="share of patches whose edges between touching cells are hidden or sharpened"
    )
    touching_contrast_window: int = Field(7, ge=1, le=63, description="pixels of cells around an edge, odd")
    touching_contrast_noise: float = Field(0.015, ge=0, le=1, description="of the edge's new intensities")


class OptimiserSettings(Group):
    """The steps and their size."""

    steps: int = Field(4500, ge=1, description="training steps; 1500 from a pretrained model")
    learning_rate: float = Field(3e-3, gt=0, description="peak learning rate of Adam")
    lr_schedule: Literal["one-cycle", "constant"] = Field(
        "one-cycle",
        description="of the learning rate: up over the warmup and down to nothing, or as it is",
    )
    warmup: float = Field(0.1, gt=0, lt=1, description="share of the steps in which the rate rises")
    gradient_clip: float = Field(
        1.0, gt=0, description="largest norm of a gradient: one odd patch must not undo what others taught"
    )
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="of a moving average of the weights, which then is the model; 0 is none"
    )
    precision: Literal["auto", "bf16-mixed", "32-true"] = Field(
        "auto", description="bf16-mixed where the hardware has it: twice as fast on such processors"
    )
    patience: int = Field(
        0, ge=0, description="validations without a better PQ before stopping; 0 never stops"
    )


class RunSettings(Group):
    """The run and its file."""

    seed: int = Field(0, ge=0, description="fixes weights, patches and augmentation")
    validations: int = Field(20, ge=1, description="how often to validate and save")
    devices: int | None = Field(
        None, ge=1, description="processes of a machine, a card each; all cards if not given"
    )
    nodes: int = Field(1, ge=1, description="machines; Slurm or torchrun tells each of them its place")
    tensorboard: bool = Field(False, description="log for TensorBoard too (pip install cleft[log])")
    save_fp16: bool = Field(False, description="kernels are kept as 16-bit floats: a file half as large")
    licence: bounds.ShortText = Field(
        "not stated", description="under which the model may be used; kept in its file"
    )
    notes: bounds.LongText = Field(
        "", description="what the model is for and where it fails; kept in its file"
    )


# what suits a network that knows cells already, where nothing else is asked for (docs/models.md)
PRETRAINED_DEFAULTS: dict[str, Any] = {"steps": 1500}


class TrainSettings(Settings):
    """How a model is trained. A setting is given by its name or within its group.

    Example:
        >>> settings = TrainSettings(steps=10, loss={"j_weight": 0.2})
        >>> settings.optimiser.steps, settings.loss.j_weight, sorted(settings.given())
        (10, 0.2, ['j_weight', 'steps'])
    """

    network: NetworkSettings = NetworkSettings()
    classes: ClassSettings = ClassSettings()
    loss: LossSettings = LossSettings()
    data: DataSettings = DataSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    run: RunSettings = RunSettings()

    if TYPE_CHECKING:  # any setting by its name

        def __init__(self, **given: Any) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _grouped(cls, given: Any) -> Any:
        """Every setting in its group; one given by its name alone goes before one within a group."""
        groups: dict[str, Any] = {}
        alone: dict[str, Any] = {}
        for name, value in given.items():
            if name in GROUPS and isinstance(value, Group):
                groups[name] = {one: getattr(value, one) for one in value.model_fields_set}
            elif name in GROUPS and (value is None or isinstance(value, dict)):
                groups[name] = dict(value or {})
            else:
                alone[name] = value
        for name, value in alone.items():
            groups.setdefault(GROUP_OF.get(name, name), {})[name] = value
        return groups

    def flat(self) -> dict[str, Any]:
        """Every setting by its name, as JSON has it."""
        return {name: of for group in self.model_dump(mode="json").values() for name, of in group.items()}

    def given(self) -> set[str]:
        """The names of the settings that were given, not left at their default."""
        return {name for group in GROUPS for name in getattr(self, group).model_fields_set}

    def replace(self, **changed: Any) -> TrainSettings:
        """The same with other values of some settings, by their names."""
        return TrainSettings(**{group: getattr(self, group) for group in GROUPS}, **changed)

    def to_yaml(self) -> str:
        """YAML that ``read_settings`` makes the same settings of, with what each is for."""
        lines = []
        for group, values in self.model_dump(mode="json").items():
            lines.append(f"{group}:")
            for name, value in values.items():
                style = '"' if isinstance(value, str) else None
                told = yaml.safe_dump(
                    [value], default_style=style, default_flow_style=True, allow_unicode=True, width=math.inf
                )
                lines += [f"  # {DESCRIPTIONS[name]}", f"  {name}: {told.strip()[1:-1]}"]
        return "\n".join(lines) + "\n"


GROUPS = tuple(TrainSettings.model_fields)
GROUP_OF = {name: group for group in GROUPS for name in type(getattr(TrainSettings(), group)).model_fields}
DESCRIPTIONS = {
    name: str(field.description)
    for group in GROUPS
    for name, field in type(getattr(TrainSettings(), group)).model_fields.items()
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
    before = {**TrainSettings().flat(), **renamed(made_with)}
    return [
        f"{name} {before[name]} (now {value})"
        for name, value in settings.flat().items()
        if before[name] != value
    ]


def explain(error: ValidationError) -> str:
    """A validation error in one sentence.

    Example:
        >>> try:
        ...     TrainSettings(width=1, stepps=3)
        ... except ValidationError as error:
        ...     print(explain(error))
        width is 1: input should be greater than or equal to 4; stepps is no setting, did you mean steps?
    """
    of_training = error.title == TrainSettings.__name__
    parts = []
    for e in error.errors():
        path = e["loc"][1:] if of_training and len(e["loc"]) > 1 else e["loc"]
        name = str(path[0]) if path else "it"
        name = name if name.isprintable() and len(name) <= LONGEST_NAME else bounds.shown(name)
        if of_training and e["type"] == "extra_forbidden":
            parts.append(f"{name} is no setting{_instead(name)}")
        else:
            parts.append(f"{name} is {bounds.shown(e['input'])}: {e['msg'][:1].lower()}{e['msg'][1:]}")
    said, more = list(dict.fromkeys(parts)), len(set(parts)) - MOST_SAID
    return "; ".join([*said[:MOST_SAID], *([f"and {more} more"] if more > 0 else [])])


def _instead(name: str) -> str:
    if name in OLD_NAMES:
        return f", it is called {OLD_NAMES[name]} now"
    near = difflib.get_close_matches(name, GROUP_OF)
    return f", did you mean {' or '.join(near)}?" if near else ""


def read_settings(path: str | Path | None, **given: Any) -> TrainSettings:
    """Settings from a YAML file, with what is given by hand on top.

    Args:
        path: YAML with names of ``TrainSettings``, within their groups or without, or ``None``.
        **given: settings by name; ``None`` means not given.

    Raises:
        CleftError: the file can't be read, or a name or value is not one of ``TrainSettings``.

    Example:
        >>> read_settings(None, steps=10, seed=None).optimiser.steps
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
