"""Shared by the tests of tunnel/config."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunnel.config import store
from tunnel.config.schema import Config
from tunnel.errors import ConfigError, ConfigProblem


@pytest.fixture
def parse(tmp_path: Path) -> Callable[..., Config]:
    """Parse a text or a dict as a config.json that stands in `tmp_path`."""

    def parsed(value: Any, **options: Any) -> Config:
        text = value if isinstance(value, (str, bytes)) else json.dumps(value)
        return store.parse_config(text, "config.json", base=tmp_path, **options)

    return parsed


@pytest.fixture
def refuse(parse: Callable[..., Config]) -> Callable[..., list[ConfigProblem]]:
    """The problems of a configuration that has some."""

    def refused(value: Any, **options: Any) -> list[ConfigProblem]:
        with pytest.raises(ConfigError) as caught:
            parse(value, **options)
        error = caught.value
        # what pydantic or json raised holds the input, and so perhaps a secret
        assert error.__context__ is None
        assert error.__cause__ is None
        assert error.problems
        return error.problems

    return refused
