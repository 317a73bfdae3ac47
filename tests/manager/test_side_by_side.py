"""A name server that does not answer holds up what needs it, and nothing else. The
resolver is the test's: a name has no answer until the test gives one."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tunnel.errors import TunnelError
from tunnel.lookups import Lookups

from .rig import End, Json, eventually, new_key

LONG = 10


class Names:
    """As `socket.getaddrinfo`; who asks waits for `table` to have the name."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.table: dict[str, str | None] = {}
        self._told = threading.Condition()

    def __call__(self, host: str, *_: object, **__: object) -> list[Any]:
        self.asked.append(host)
        with self._told:
            assert self._told.wait_for(lambda: host in self.table, LONG)
        address = self.table[host]
        if address is None:
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (address, 0))]

    def answer(self, **addresses: str | None) -> None:
        with self._told:
            self.table.update({f"{n}.example": a for n, a in addresses.items()})
            self._told.notify_all()


@pytest.fixture
def names(one: End) -> Iterator[Names]:
    made = Names()
    one.served.manager._helper._lookups = Lookups(made)
    yield made
    made.answer(**{host.removesuffix(".example"): None for host in made.asked})


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def add(name: str, endpoint: str, **fields: object) -> Json:
    given = {"publicKey": new_key(), "endpoint": endpoint, **fields}
    return {"action": "add", "peer": name, "fields": given}


def change(name: str, **fields: object) -> Json:
    return {"action": "set", "peer": name, "fields": fields}


class Asking:
    """Requests of several clients that come in in their order."""

    def __init__(self, end: End, pool: ThreadPoolExecutor) -> None:
        self._end, self._pool = end, pool
        self._helper = end.served.manager._helper
        self._number = 0

    def __call__(self, do: str, **values: object) -> Future[Any]:
        """One that is known to wait when this returns."""
        self._number += 1
        future = self._pool.submit(self._end.control, do, **values)
        eventually(lambda: len(self._helper._waiting) >= self._number)
        return future

    def edit(self, *edits: Json, save: bool = False) -> Future[Any]:
        return self("edit", edits=list(edits), save=save)


@pytest.fixture
def asking(one: End, clients: ThreadPoolExecutor, names: Names) -> Asking:
    return Asking(one, clients)


def endpoint_of(end: End, name: str) -> str:
    peers = end.call(lambda s: dict(s.engine.device.observe().peers))
    (peer,) = (p for p in peers.values() if p.name == name)
    assert peer.endpoint is not None
    return socket.inet_ntoa(peer.endpoint[0])


def test_other_peers_change_while_a_name_is_looked_up(
    one: End, names: Names, asking: Asking
) -> None:
    waiting = asking.edit(add("slow", "dead.example:5"))
    one.control("edit", edits=[change("far", persistentKeepalive=7)])
    names.answer(good="192.0.2.7")
    one.control("edit", edits=[add("quick", "good.example:5")])
    assert one.peer_names() == ["far", "quick"]
    assert endpoint_of(one, "quick") == "192.0.2.7"
    names.answer(dead="192.0.2.9")
    assert waiting.result(LONG)["event"]["success"]
    assert one.peer_names() == ["far", "quick", "slow"]
    assert endpoint_of(one, "slow") == "192.0.2.9"


def test_two_changes_of_one_peer_keep_their_order(
    one: End, names: Names, asking: Asking
) -> None:
    first = asking.edit(change("far", endpoint="dead.example:5"))
    second = asking.edit(change("far", endpoint="192.0.2.2:5"))
    by_key = one.facts["peers"][0]["publicKey"]
    third = asking.edit(change(by_key, endpoint="last.example:5"))
    names.answer(last="192.0.2.3")
    names.answer(dead="192.0.2.1")
    for each in (first, second, third):
        assert each.result(LONG)["event"]["success"]  # and none is stale
    assert endpoint_of(one, "far") == "192.0.2.3"
    assert len(one.events("control")) == 3


def test_a_peer_that_is_still_being_added_can_be_changed(
    one: End, names: Names, asking: Asking
) -> None:
    first = asking.edit(add("new", "dead.example:5"))
    second = asking.edit(change("new", persistentKeepalive=9))
    names.answer(dead="192.0.2.1")
    assert first.result(LONG)["event"]["success"]
    assert second.result(LONG)["event"]["success"]
    peers = one.call(lambda s: dict(s.engine.device.observe().peers))
    assert [p.keepalive for p in peers.values() if p.name == "new"] == [9]


def test_a_prefix_goes_from_one_peer_to_another_in_their_order(
    one: End, names: Names, asking: Asking
) -> None:
    given = one.facts["peers"][0]["allowedIPs"]
    first = asking.edit(change("far", endpoint="dead.example:5", allowedIPs=[]))
    second = asking.edit(add("heir", "192.0.2.2:5", allowedIPs=given))
    names.answer(dead="192.0.2.1")
    assert first.result(LONG)["event"]["success"]
    assert second.result(LONG)["event"]["success"]


def test_a_configuration_of_everything_waits_and_is_waited_for(
    one: End, names: Names, asking: Asking
) -> None:
    first = asking.edit(change("far", endpoint="dead.example:5"))
    text = json.dumps(one.facts)
    second = asking("apply", text=text, base="/", source="all")
    third = asking.edit(change("far", persistentKeepalive=3))
    plan = one.control("plan", text=text, base="/", source="all")  # only looks
    assert plan["total_changes"] == 0
    names.answer(dead="192.0.2.1")
    for each in (first, second, third):
        assert each.result(LONG)["event"]["success"]
    assert endpoint_of(one, "far") == "127.0.0.1"
    sources = [event.source for event in one.events()]
    assert sources == ["control"] * 3


def test_the_file_is_free_while_a_name_is_looked_up(
    one: End, names: Names, asking: Asking
) -> None:
    """What waits has no lock on it; both are saved."""
    waiting = asking.edit(add("slow", "dead.example:5"), save=True)
    one.control("edit", edits=[add("quick", "192.0.2.7:5")], save=True)
    names.answer(dead="192.0.2.9")
    assert waiting.result(LONG)["saved"]
    saved = json.loads(one.path.read_text())
    assert [peer["name"] for peer in saved["peers"]] == ["far", "quick", "slow"]
    assert saved["peers"][2]["endpoint"] == "dead.example:5"


def test_saves_side_by_side_are_no_change_of_the_file(
    one: End, clients: ThreadPoolExecutor
) -> None:
    """Who is not in the file stays, whoever saves, and however many at once."""
    one.control("edit", edits=[add("unsaved", "192.0.2.1:5")])

    def save(number: int) -> Any:
        edit = add(f"saved{number}", "192.0.2.7:5")
        return one.control("edit", edits=[edit], save=True)

    assert all(done["saved"] for done in clients.map(save, range(6)))
    time.sleep(0.5)
    assert not one.events("file")
    assert "unsaved" in one.peer_names()
    facts = json.loads(one.path.read_text())
    one.write(facts | {"keepalive": 25})  # and this one is
    eventually(lambda: one.events("file"))
    assert sorted(one.peer_names()) == ["far", *(f"saved{n}" for n in range(6))]


def test_a_name_without_an_address_refuses_its_own_change_only(
    one: End, names: Names, asking: Asking
) -> None:
    first = asking.edit(change("far", endpoint="dead.example:5"))
    second = asking.edit(change("far", persistentKeepalive=4))
    names.answer(dead=None)
    with pytest.raises(TunnelError, match="cannot resolve dead"):
        first.result(LONG)
    assert second.result(LONG)["event"]["success"]


def test_the_names_of_several_edits_are_looked_up_together(
    one: End, names: Names, asking: Asking
) -> None:
    both = asking.edit(add("a", "a.example:5"), add("b", "b.example:5"))
    eventually(lambda: sorted(names.asked) == ["a.example", "b.example"])
    names.answer(a="192.0.2.1", b="192.0.2.2")
    assert both.result(LONG)["event"]["success"]


def test_a_file_with_dead_names_holds_up_no_edit_and_counts_in_the_end(
    one: End, names: Names
) -> None:
    new = [
        {"name": n, "publicKey": new_key(), "endpoint": f"{n}.example:5"} for n in "ab"
    ]
    one.write(one.with_peers(*new))
    eventually(lambda: sorted(names.asked) == ["a.example", "b.example"])
    edit = add("edit", "192.0.2.7:5")
    one.control("edit", edits=[edit], save=True)
    assert one.peer_names() == ["far", "edit"]
    saved = json.loads(one.path.read_text())  # the file's news are not lost by it
    assert [peer["name"] for peer in saved["peers"]] == ["far", "a", "b", "edit"]
    names.answer(a="192.0.2.1", b="192.0.2.2")
    eventually(lambda: sorted(one.peer_names()) == ["a", "b", "edit", "far"])
    assert endpoint_of(one, "b") == "192.0.2.2"


def test_names_of_the_present_are_asked_again_when_the_file_is_read_ahead(
    one: End, names: Names
) -> None:
    """A peer that keeps its address while its name has none is not taken for done."""
    names.answer(a="192.0.2.1")
    named = {"name": "a", "publicKey": new_key(), "endpoint": "a.example:5"}
    one.write(one.with_peers(named))
    eventually(lambda: "a" in one.peer_names())
    names.answer(a="192.0.2.8")
    one.write(one.with_peers(named, {"name": "b", "publicKey": new_key()}))
    eventually(lambda: "b" in one.peer_names())
    assert endpoint_of(one, "a") == "192.0.2.8"


def test_a_tunnel_with_a_dead_name_ends_at_once(
    one: End, names: Names, asking: Asking
) -> None:
    waiting = asking.edit(add("slow", "dead.example:5"))
    one.served.engine.stop()
    one._thread.join(LONG)
    assert not one._thread.is_alive()
    assert names.table == {}  # it had no answer
    with pytest.raises((TunnelError, OSError)):
        waiting.result(LONG)
