"""Settings: what is wrong is said with the file and the setting."""

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cleft.core.bounds import shown
from cleft.core.downsample import pyramid_strides
from cleft.core.errors import CleftError, DataError
from cleft.core.settings import DESCRIPTIONS, NetSettings, TrainSettings, read_settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "train.yaml"


def test_defaults() -> None:
    assert read_settings(None) == TrainSettings()


def test_what_is_given_by_hand_wins(file: Path) -> None:
    file.write_text("steps: 7\nj_weight: 0.5\npatch_size: [32, 48]\ntouching_radius: 0.4um\n")
    settings = read_settings(file, steps=9, j_weight=None, seed=0)
    assert (settings.optimiser.steps, settings.loss.j_weight) == (9, 0.5)
    assert (settings.data.patch_size, settings.classes.touching_radius) == ((32, 48), "0.4um")


def test_every_setting_survives_a_file(file: Path) -> None:
    """What a model's card says of its training can be given as a config file."""
    settings = read_settings(
        None,
        steps=3,
        touching_radius=2,
        gap_radius="1.5 µm",
        patch_size=(8, 8),
        percentiles=(0.5, 99),
        shrink=(1, 2),
    )
    for written in (
        settings.to_yaml(),
        yaml.safe_dump(settings.flat(), allow_unicode=True),
        yaml.safe_dump(settings.model_dump(mode="json"), allow_unicode=True),
    ):
        file.write_text(written)
        assert read_settings(file) == settings


def test_a_written_config_tells_what_each_setting_is_for(file: Path) -> None:
    lines = [line.strip() for line in TrainSettings().to_yaml().splitlines()]
    for name, told in DESCRIPTIONS.items():
        (place,) = [i for i, line in enumerate(lines) if line.startswith(f"{name}: ")]
        assert lines[place - 1] == f"# {told}"


@given(st.text(max_size=50), st.floats(1e-300, 1e300))
def test_any_text_and_number_survive_a_written_config(text: str, number: float) -> None:
    settings = TrainSettings(notes=text, learning_rate=number)
    loaded = yaml.safe_load(settings.to_yaml())
    assert TrainSettings(**loaded) == settings


def test_settings_are_given_by_name_or_in_their_group() -> None:
    """A name alone goes before one in a group; names are never in two."""
    grouped = TrainSettings(optimiser={"steps": 5, "warmup": 0.2}, steps=7, loss="ce")
    assert (grouped.optimiser.steps, grouped.optimiser.warmup, grouped.loss.loss) == (7, 0.2, "ce")
    assert grouped.given() == {"steps", "warmup", "loss"}
    assert TrainSettings(loss=None, data={}, steps=7) == TrainSettings(steps=7)  # groups without a line
    assert grouped.replace(steps=8).flat() == {**grouped.flat(), "steps": 8}
    assert grouped.replace(seed=1).given() == grouped.given() | {"seed"}
    names = [name for values in TrainSettings().model_dump().values() for name in values]
    assert sorted(names) == sorted(set(names)) == sorted(DESCRIPTIONS)


def test_the_schema_knows_every_setting() -> None:
    schema = TrainSettings.model_json_schema()
    for name, told in DESCRIPTIONS.items():
        (found,) = [of["properties"][name] for of in schema["$defs"].values() if name in of["properties"]]
        assert found["description"] == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("stepz: 5", "stepz is no setting, did you mean steps?"),
        ("optimiser: {stepz: 5}", "stepz is no setting, did you mean steps?"),
        ("lam: 0.2", "lam is no setting, it is called j_weight now"),
        ("steps: many", "steps is 'many': input should be a valid integer"),
        ("steps: 0", "steps is 0: input should be greater than or equal to 1"),
        ("n_classes: 5", "n_classes is 5: input should be 3 or 4"),
        ("loss: mse", "loss is 'mse': input should be 'jc', 'j', 'ce', '"),
        ("j_weight: -1", "j_weight is -1: input should be greater than or equal to 0"),
        ("levels: 2", "levels is 2: input should be greater than or equal to 3"),
        ("touching_radius: wide", "touching_radius is 'wide': "),
        ("touching_radius: 1.2.3um", "touching_radius is '1.2.3um': "),
        ("gap_radius: .um", "gap_radius is '.um': "),
        ("patch_size: [32, -1]", "patch_size is -1: input should be greater than or equal to 1"),
        ("percentiles: [99, 1]", "percentiles is [99, 1]: value error, expected two rising numbers"),
        ("percentiles: [-1, 50]", "percentiles is [-1, 50]: value error, expected two rising numbers"),
        ("val_fraction: 0.9", "val_fraction is 0.9: input should be less than or equal to 0.5"),
        ("1: 2", "1 is 1: keys should be strings"),
        ("j_weight: .nan", "j_weight is nan: input should be a finite number"),
        ("learning_rate: .inf", "learning_rate is inf: input should be a finite number"),
        ("shrink: [300, 1]", "shrink is 300: input should be less than or equal to 256"),
        (
            "touching_radius: 1.0e+9",
            "touching_radius is 1000000000.0: input should be less than or equal to 10000",
        ),
        ("steps: 0x" + "f" * 5000, "steps is a whole number of about 6021 digits: value error, expected"),
        ("? " + "x" * 500 + "\n: 1", "'" + "x" * 20),
        ("steps: " + "[" * 40 + "]" * 40, "steps is [[[[...]]]]: input should be a valid integer"),
    ],
)
def test_errors_name_the_file_and_the_setting(file: Path, text: str, told: str) -> None:
    file.write_text(text)
    with pytest.raises(CleftError) as error:
        read_settings(file)
    assert str(error.value).startswith(f"{file}: {told}")
    assert "\n" not in str(error.value)


def test_several_errors_in_one_sentence(file: Path) -> None:
    file.write_text("steps: 0\nwidth: 1\n")
    with pytest.raises(CleftError, match=r"train.yaml: width is 1: .*; steps is 0: "):
        read_settings(file)


def test_errors_without_a_file() -> None:
    with pytest.raises(CleftError, match=r"^settings: steps is -3: "):
        read_settings(None, steps=-3)
    with pytest.raises(CleftError, match=r"^settings: colour is no setting$"):
        read_settings(None, colour="red")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"steps: [1", "can't be read as YAML settings"),
        (b"\xff\xfe\x00", "can't be read as YAML settings"),
        (b"- 1\n- 2\n", "found list, expected lines of the form 'steps: 2000'"),
        (b"steps: " + b"9" * 5000, "can't be read as YAML settings"),
        (b"steps: 2020-99-99", "can't be read as YAML settings"),
        (b"[" * 5000, "can't be read as YAML settings"),
        (b"", "found NoneType, expected lines of the form 'steps: 2000'"),
        (b"!!python/object/apply:os.getcwd []", "can't be read as YAML settings"),
    ],
)
def test_files_that_are_no_settings(file: Path, content: bytes, told: str) -> None:
    file.write_bytes(content)
    with pytest.raises(CleftError) as error:
        read_settings(file)
    assert str(error.value).startswith(f"{file}: {told}")


def test_no_such_file(file: Path) -> None:
    with pytest.raises(CleftError, match=r"train.yaml: can't be read as YAML settings .*No such file"):
        read_settings(file)


def test_settings_cannot_change() -> None:
    with pytest.raises(ValidationError):
        TrainSettings().optimiser.steps = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    "strides",
    [
        ((2, 2),) * 7,
        ((4, 4),) * 4,
        ((1, 5), (1, 1)),
        (),
        ((2, 2),),
        ((2,), (2,)),
        ((2, 2), (2, 2, 2)),
        ((2, 0), (2, 2)),
    ],
)
def test_strides_no_network_can_have(strides: tuple) -> None:
    with pytest.raises(ValidationError):
        NetSettings(strides=strides)


@pytest.mark.parametrize("levels", range(3, 7))
@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 1), (8, 1, 1), (1, 100, 1)])
def test_every_network_that_training_makes_is_one(levels: int, spacing: tuple[float, ...]) -> None:
    strides = pyramid_strides(spacing, levels)
    assert NetSettings(width=128, strides=strides).strides == strides


def test_what_a_message_shows_is_short() -> None:
    shared: list = [1] * 50
    for _ in range(50):
        shared = [shared] * 50
    for value in (10**5000, "x" * 10**6, [1] * 10**6, {i: i for i in range(10**5)}, shared, b"x" * 10**6):
        assert len(shown(value)) < 400
    assert shown("a\n\x1b[31m\ud800") == r"'a\n\x1b[31m\ud800'"


def test_a_pipe_is_no_file_of_settings(tmp_path: Path) -> None:
    """Opening it would wait for ever."""
    os.mkfifo(tmp_path / "c.yml")
    with pytest.raises(DataError, match=r"c\.yml: is no file, expected YAML with settings"):
        read_settings(tmp_path / "c.yml")
