"""The settings that a configuration hands through; `desired.SETTINGS` lists them."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

from tunnel.config.checked import Checked
from tunnel.config.facts import Settings
from tunnel.config.schema import Config
from tunnel.config.secrets import Surroundings, read_small
from tunnel.config.values import BadValue, parse_bind, parse_prefix
from tunnel.protocol.prefixes import PrefixSet
from tunnel.state.model import Prefix, canonical_prefixes

__all__ = ["settings_of", "takes_log"]

REKEY_SECONDS: Final = (15, 120)
_BLOCKLIST_LIMIT: Final = 64 << 20  # bytes


def settings_of(
    config: Config, check: Checked, where: Surroundings, listen_address: bytes
) -> Settings:
    """Reads the blocklist."""
    access, management = config.access, config.management
    max_padding, bind = _max_padding(config, check), _bind(config, check)
    output = _output(config, check, where)
    values: dict[str, object] = {
        "access.allow": PrefixSet(check.prefixes(("access", "allow"), access.allow)),
        "access.blocklist": PrefixSet(_blocklist(config, check, where)),
        "access.deny": PrefixSet(check.prefixes(("access", "deny"), access.deny)),
        "allowDeviceToDevice": config.allow_device_to_device,
        "connectionBurst": config.connection_burst or 0,
        "connectionRate": config.connection_rate or 0.0,
        "listen.address": listen_address,
        "logging.output": output,
        "management.acl": check.prefixes(("management", "acl"), management.acl),
        "management.bind": bind,
        "maxConnections": config.max_connections,
        "maxPadding": max_padding,
        "mode": config.mode,
        "rekeyBudget": config.rekey_budget,
        "rekeyInterval": check.seconds(
            "rekeyInterval", config.rekey_interval, *REKEY_SECONDS
        ),
    }
    return tuple(values.items())


def _max_padding(config: Config, check: Checked) -> int:
    if config.max_padding % 16:
        below = config.max_padding // 16 * 16
        check.found.add(
            ("maxPadding",),
            "WireGuard pads to multiples of 16 bytes",
            f"write {below} or {min(below + 16, 65520)}",
        )
    return config.max_padding


def _bind(config: Config, check: Checked) -> str:
    bind = config.management.bind
    if bind is None:
        return ""
    check.value(("management", "bind"), lambda: parse_bind(bind), "")
    return bind


def _output(config: Config, check: Checked, where: Surroundings) -> str:
    output = config.logging.output
    if not output or not output.isprintable():
        check.found.add(
            ("logging", "output"), "not a file name", 'write "stderr" or a path'
        )
    elif output not in ("stderr", "stdout"):
        path = where.base / output
        if not _may_take_log(path):
            check.found.add(
                ("logging", "output"),
                "neither a file nor a terminal, so that writing may wait for a reader",
                'write "stderr", or the path of a file that there is or can be',
            )
        return str(path)
    return output


def takes_log(mode: int) -> bool:
    """Whether lines go there without waiting for who reads them, by `st_mode`."""
    return stat.S_ISREG(mode) or stat.S_ISCHR(mode)


def _may_take_log(path: Path) -> bool:
    try:
        return takes_log(path.stat().st_mode)
    except OSError:  # to be made, or opening it says why not
        return True


def _blocklist(
    config: Config, check: Checked, where: Surroundings
) -> tuple[Prefix, ...]:
    """One prefix a line, in a file of its own."""
    text = config.access.blocklist
    if text is None:
        return ()
    at, found = ("access", "blocklist"), check.found
    try:
        path = where.resolve(text)
        where.files[path] = None
        lines = read_small(path, _BLOCKLIST_LIMIT).decode().splitlines()
    except OSError as error:
        reason = error.strerror or str(error)
        found.add(at, f"cannot read the file: {reason}", "mend the path")
        return ()
    except (ValueError, RuntimeError):
        found.add(at, "not a path to a UTF-8 file", "one prefix per line")
        return ()
    prefixes = []
    for number, line in enumerate(lines, 1):
        entry = line.partition("#")[0].strip()
        try:
            prefixes += [parse_prefix(entry)] if entry else []
        except BadValue as bad:
            found.add(at, f"line {number} of the file: {bad.message}")
    return canonical_prefixes(prefixes)
