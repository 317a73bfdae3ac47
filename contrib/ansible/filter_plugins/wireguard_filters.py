"""Ansible filters for sets of WireGuard peers.

    existing: "{{ text_of_wg0_conf | parse_wireguard_peers }}"
    merged: "{{ existing | merge_wireguard_peers(peers_of_this_play) }}"
    pruned: "{{ merged | filter_peers_by_inventory(groups['workers']) }}"

Needs the package `tunnel` in the Python that runs ansible-playbook. The dictionaries
are described in tunnel/fleet/peers.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from ansible.errors import AnsibleFilterError

try:
    from tunnel.errors import TunnelError
    from tunnel.fleet import peers
except ImportError as error:
    raise AnsibleFilterError(
        "the WireGuard filters need the package `tunnel` in the Python of Ansible"
    ) from error

FILTERS = (
    "parse_wireguard_peers",
    "merge_wireguard_peers",
    "filter_peers_by_inventory",
)


def _filter(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except TunnelError as error:
            raise AnsibleFilterError(f"{function.__name__}: {error}") from error
        except (AttributeError, TypeError) as error:
            raise AnsibleFilterError(
                f"{function.__name__}: not a set of peers: {error}"
            ) from error

    return call


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {name: _filter(getattr(peers, name)) for name in FILTERS}
