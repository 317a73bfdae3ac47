"""docs/config.md lists every key, and nothing that does not exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from tunnel.config import schema

TEXT = (Path(__file__).parents[2] / "docs" / "config.md").read_text()

SECTIONS: dict[str, tuple[str, type[BaseModel]]] = {
    "Top level": ("", schema.Config),
    "tunnel": ("", schema.TunnelConfig),
    "peers": ("", schema.PeerConfig),
    "management": ("management.", schema.ManagementConfig),
    "logging": ("logging.", schema.LoggingConfig),
    "access": ("access.", schema.AccessConfig),
}


@pytest.mark.parametrize("name", SECTIONS)
def test_keys(name: str) -> None:
    prefix, model = SECTIONS[name]
    start = "management, logging, access" if prefix else name
    body = TEXT.partition(f"## {start}\n")[2].partition("\n## ")[0]
    rows = [line for line in body.splitlines() if line.startswith("| `")]
    listed = {
        key for row in rows for key in re.findall(r"`([^`]+)`", row.split("|")[1])
    }
    listed = {key.removeprefix(prefix) for key in listed if key.startswith(prefix)}
    assert listed == {info.alias for info in model.model_fields.values()}


def test_keys_that_may_be_null() -> None:
    text = " ".join(TEXT.split())
    (sentence,) = re.findall(r"`null` means [^.]*\.", text)
    listed = set(re.findall(r"`([^`]+)`", sentence)) - {"null"}
    models = {model for _, model in SECTIONS.values()}
    fields = [info for model in models for info in model.model_fields.values()]
    null = {str(info.alias) for info in fields if takes_null(info.annotation)}
    assert listed == null


def takes_null(kind: Any) -> bool:
    try:
        TypeAdapter(kind).validate_python(None)
    except ValidationError:
        return False
    return True
