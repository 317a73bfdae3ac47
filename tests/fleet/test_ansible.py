"""The Ansible filters and the example role, run by ansible-playbook on this host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from tunnel.fleet.peers import parse_wireguard_peers

CONTRIB = Path(__file__).parents[2] / "contrib" / "ansible"
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")


def key(n: int) -> str:
    return b64encode(bytes([n]) * 32).decode()


OLD = f"""[Interface]
PrivateKey = {key(72)}
Address = 10.0.0.20/24
PostUp = echo 'a # b'

[Peer]
# s2204
PublicKey = {key(2)}
AllowedIPs = 10.0.0.4/32
PresharedKey = {key(9)}
"""


class Site:
    """A hub's file and an inventory of workers, in a directory of their own."""

    def __init__(self, directory: Path) -> None:
        self.config = directory / "wg0.conf"
        self.config.write_text(OLD)
        self.directory = directory
        workers = {
            name: {
                "wireguard_public_key": key(n),
                "wireguard_address": f"10.0.0.{n + 2}",
            }
            for name, n in (("cm4", 1), ("s2204", 2), ("k8s-proxy", 3))
        }
        hub = {"hub": {"wireguard_config": str(self.config)}}
        inventory = {
            "all": {"vars": {"ansible_python_interpreter": sys.executable}},
            "hub": {"hosts": hub},
            "workers": {"hosts": workers},
        }
        (directory / "inventory.json").write_text(json.dumps(inventory))

    def play(
        self, playbook: Path = CONTRIB / "site.yml", /, **values: object
    ) -> subprocess.CompletedProcess[str]:
        settings = self.directory / "ansible.cfg"
        settings.write_text("[defaults]\nretry_files_enabled = False\n")
        argv = [PLAYBOOK, "-i", "inventory.json", "--connection=local", playbook]
        return subprocess.run(
            [*argv, "-e", json.dumps(values)],
            cwd=self.directory,
            env=os.environ
            | {
                "ANSIBLE_CONFIG": str(settings),
                "ANSIBLE_HOME": str(self.directory / "home"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_REMOTE_TEMP": str(self.directory / "remote"),
                "LC_ALL": "C.UTF-8",
                "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            },
            capture_output=True,
            text=True,
            timeout=100,
        )

    def done(self, **values: object) -> str:
        result = self.play(**values)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    @property
    def peers(self) -> dict[str, dict[str, Any]]:
        return dict(parse_wireguard_peers(self.config.read_text()))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    assert PLAYBOOK.exists(), "pip install ansible-core"
    return Site(tmp_path)


def test_a_partial_run_keeps_the_others(site: Site) -> None:
    told = site.done(wireguard_workers=["cm4"])
    assert list(site.peers) == ["cm4", "s2204"]
    assert site.peers["s2204"]["preshared_key"] == key(9)
    assert site.peers["cm4"]["allowed_ips"] == "10.0.0.3/32"
    assert "kept: s2204" in told
    assert key(9) not in told
    text = site.config.read_text()
    assert text.startswith(OLD.partition("\n[Peer]")[0].rstrip())
    assert site.config.stat().st_mode & 0o777 == 0o600
    site.done(wireguard_workers=["cm4"])
    assert site.config.read_text() == text


def test_a_dry_run_changes_nothing(site: Site) -> None:
    told = site.done(wireguard_dry_run=True)
    assert "Change: +2 peer(s)" in told
    assert "Added: cm4, k8s-proxy" in told
    assert site.config.read_text() == OLD


def test_pruning_and_a_conflict(site: Site) -> None:
    site.done(wireguard_workers=["cm4"], wireguard_prune_extra_peers=True)
    assert list(site.peers) == ["cm4"]
    before = site.config.read_text()
    theft = {"thief": {"public_key": key(7), "allowed_ips": "10.0.0.3/32"}}
    refused = site.play(wireguard_workers=[], wireguard_new_peers=theft)
    assert refused.returncode != 0
    assert site.config.read_text() == before


def test_the_filters_say_what_is_wrong(tmp_path: Path, site: Site) -> None:
    play = [
        {
            "hosts": "hub",
            "gather_facts": False,
            "tasks": [
                {
                    "ansible.builtin.debug": {
                        "msg": "{{ {} | merge_wireguard_peers(peers) }}"
                    }
                }
            ],
        }
    ]
    (tmp_path / "site.yml").write_text(json.dumps(play))
    (tmp_path / "filter_plugins").symlink_to(CONTRIB / "filter_plugins")
    same = {"public_key": key(1), "allowed_ips": "10.0.0.1"}
    done = site.play(tmp_path / "site.yml", peers={"alice": same, "bob": same})
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "alice" in said
    assert "bob" in said
