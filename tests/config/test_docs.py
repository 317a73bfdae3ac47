"""docs/config.md lists every key, and nothing that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

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
