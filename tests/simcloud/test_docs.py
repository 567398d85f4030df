"""The reference page is complete: every knob, effect, option and control route is in it."""

from __future__ import annotations

from pathlib import Path

from simcloud.__main__ import parse_arguments
from simcloud.faults import EFFECTS
from simcloud.vast.knobs import Knobs

PAGE = (Path(__file__).parents[2] / "docs/simcloud.md").read_text()


def test_every_knob_is_documented_with_its_default() -> None:
    missing = [name for name in Knobs.model_fields if f"`{name}`" not in PAGE]
    assert not missing
    unverified = PAGE[PAGE.index("## Not verified") : PAGE.index("These are not open questions")]
    for name, field in Knobs.model_fields.items():
        if f"`{name}` |" in unverified:
            shown = str(field.default).lower().removesuffix(".0")
            line = next(each for each in unverified.splitlines() if f"`{name}`" in each)
            assert f"`{shown}`" in line, line


def test_every_effect_is_documented() -> None:
    google = (Path(__file__).parents[2] / "docs/simcloud-google.md").read_text()
    assert not [effect for effect in EFFECTS if f"`{effect}`" not in PAGE + google]


def test_every_option_is_documented() -> None:
    options = vars(parse_arguments(["--state", "x"]))
    pages = PAGE + (Path(__file__).parents[2] / "docs/simcloud-google.md").read_text()
    spelled = {name: name.replace("_", "-") for name in options}
    assert not [name for name, option in spelled.items() if option not in pages]
