"""Settings as environment variables, and back: how parts are configured, and how that is read again.

`server.json` in a state directory is the configuration that the parts of a stack last got, for
`dumont doctor`. It holds secrets, as the processes' own environment does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, AliasPath, ValidationError

from dumont.config import Settings

SERVER_FILE = "server.json"


def variable_names() -> dict[str, tuple[str, ...]]:
    """The environment variables of each field of `Settings`, as pydantic-settings reads them."""
    prefix = Settings.model_config["env_prefix"]
    names: dict[str, tuple[str, ...]] = {}
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        if isinstance(alias, AliasChoices):
            names[name] = tuple(str(choice) for choice in alias.choices)
        elif isinstance(alias, AliasPath):
            names[name] = (str(alias.path[0]),)
        else:
            names[name] = (alias or f"{prefix}{name}".upper(),)
    return names


def clean_environment() -> dict[str, str]:
    """This process's environment without what `Settings` reads, so that nothing slips in unseen."""
    ours = {name.upper() for names in variable_names().values() for name in names}
    return {name: value for name, value in os.environ.items() if name.upper() not in ours}


def as_variables(values: Mapping[str, Any]) -> dict[str, str]:
    """Fields of `Settings` as environment variables; what is None is left out."""
    names = variable_names()
    texts: dict[str, str] = {}
    for field, value in values.items():
        if hasattr(value, "get_secret_value"):
            value = value.get_secret_value()
        if value is not None:
            # A relative path means one of the user's directory, not of the part's.
            value = value.absolute() if isinstance(value, Path) else value
            texts[names[field][0]] = json.dumps(value) if isinstance(value, dict) else str(value)
    return texts


def set_by_user(settings: Settings) -> dict[str, Any]:
    """The fields that the environment or `.env` set."""
    return {name: getattr(settings, name) for name in settings.model_fields_set}


def read_server_settings(state: Path) -> Settings:
    """The configuration that a stack's parts last got.

    Raises:
        FileNotFoundError: No stack was started on that directory.
    """
    told = json.loads((state / SERVER_FILE).read_text())
    fields = {variables[0]: name for name, variables in variable_names().items()}
    values = {fields[name]: value for name, value in told.items() if name in fields}
    return Settings(_env_file=None, **values)


def describe(error: ValidationError) -> str:
    """The first problem of a configuration, with the variable it came from."""
    first = error.errors()[0]
    field = str(first["loc"][0]) if first["loc"] else "configuration"
    variable = variable_names().get(field, (field,))[0]
    return f"{variable}: {first['msg']}"
