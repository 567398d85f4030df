"""Google's own description of its Compute API, as a judge of what simcloud answers.

The discovery document ships with google-api-python-client. It is turned into JSON schemas in which
unknown names are errors, so that a misspelt field is found.

    discovery = Discovery()
    discovery.check("GET", "/compute/v1/projects/p/zones", body)
"""

from __future__ import annotations

import json
import re
from functools import cache, cached_property
from importlib import resources
from typing import Any

import jsonschema

_PATTERNS = {
    "int64": r"^-?\d+$",
    "uint64": r"^\d+$",
    "byte": r"^[A-Za-z0-9+/_-]*={0,2}$",
}


class Discovery:
    """The Compute v1 document."""

    @cached_property
    def document(self) -> dict[str, Any]:
        file = resources.files("googleapiclient.discovery_cache") / "documents/compute.v1.json"
        document: dict[str, Any] = json.loads(file.read_text())
        return document

    @cached_property
    def _definitions(self) -> dict[str, Any]:
        return {name: _convert(schema) for name, schema in self.document["schemas"].items()}

    @cached_property
    def _methods(self) -> list[tuple[str, re.Pattern[str], str, str | None]]:
        found = []
        for resource in self.document["resources"].values():
            for method in resource.get("methods", {}).values():
                pattern = re.sub(r"\{[^}]+\}", "[^/]+", method["path"])
                answer = method.get("response", {}).get("$ref")
                found.append(
                    (
                        method["httpMethod"],
                        re.compile("/compute/v1/" + pattern),
                        method["id"],
                        answer,
                    )
                )
        # a literal segment beats a placeholder: global/images/family/f is not an image
        return sorted(found, key=lambda entry: entry[1].pattern.count("[^/]+"))

    def method_of(self, verb: str, path: str) -> tuple[str, str | None]:
        """Return (method id, name of the answer's schema)."""
        for known_verb, pattern, identity, answer in self._methods:
            if known_verb == verb and pattern.fullmatch(path):
                return identity, answer
        raise AssertionError(f"Google has no method {verb} {path}")

    def check(self, verb: str, path: str, body: Any) -> str:
        """Assert that `body` is what Google's method would answer; return the method's id."""
        identity, answer = self.method_of(verb, path)
        if answer is not None:
            self.check_schema(answer, body)
        return identity

    @cache  # noqa: B019 - one document lives as long as the tests
    def _validator(self, name: str) -> jsonschema.Draft7Validator:
        schema = {"$ref": f"#/definitions/{name}", "definitions": self._definitions}
        return jsonschema.Draft7Validator(schema)

    def check_schema(self, name: str, body: Any) -> None:
        """Assert that `body` is a `name`."""
        problems = list(self._validator(name).iter_errors(body))
        assert not problems, "\n".join(
            f"{name}: {'/'.join(map(str, problem.absolute_path))}: {problem.message[:300]}"
            for problem in problems
        )


def _convert(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return {"$ref": f"#/definitions/{schema['$ref']}"}
    kind = schema.get("type")
    if kind == "any":
        return {}
    converted: dict[str, Any] = {"type": kind}
    if kind == "object":
        if "properties" in schema:
            converted["properties"] = {
                name: _convert(each) for name, each in schema["properties"].items()
            }
        extra = schema.get("additionalProperties")
        converted["additionalProperties"] = _convert(extra) if extra else False
    elif kind == "array":
        converted["items"] = _convert(schema["items"])
    elif kind == "string":
        if "enum" in schema:
            converted["enum"] = schema["enum"]
        pattern = _PATTERNS.get(schema.get("format", ""))
        if pattern:
            converted["pattern"] = pattern
    return converted
