"""`.env.example` and the configuration page are what the settings are now."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from dumont.config import Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def configuration() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "configuration", ROOT / "scripts" / "configuration.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_they_are_current(configuration: ModuleType) -> None:
    stale = [str(path.relative_to(ROOT)) for path in configuration.stale()]
    assert not stale, f"run `make docs`: {stale}"


def test_every_setting_is_in_one_group_and_described(configuration: ModuleType) -> None:
    names = [name for names in configuration.grouped().values() for name in names]
    assert sorted(names) == sorted(Settings.model_fields)
    assert configuration.OTHER not in configuration.grouped(), "give the new setting a group"
    assert all(field.description for field in Settings.model_fields.values())


def test_the_example_with_everything_uncommented_is_valid(
    configuration: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for names in configuration.variable_names().values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
    text = re.sub(r"^# ([A-Z0-9_]+=)", r"\1", configuration.env_example(), flags=re.MULTILINE)
    file = tmp_path / "example.env"
    # A variable without a default is left out of a real file, not left empty.
    file.write_text(re.sub(r"^[A-Z0-9_]+=$", "", text, flags=re.MULTILINE))
    given = Settings(_env_file=file).model_dump(exclude={"web_dir"})
    assert given == Settings(_env_file=None).model_dump(exclude={"web_dir"})
