"""`tunnel=1` on the control socket: what our own command line asks a running tunnel.

A request is one line of JSON, `{"do": NAME, ...}`, between `tunnel=1` and a blank line.
The answer is `result=JSON` or `error={"message", "hint", "exit_code"}`, then `errno=N`
and a blank line. What takes long runs in another thread, and the answer comes late.
"""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from tunnel.api.control_request import (
    Request,
    confirm_within,
    peer_edit,
    prepare_request,
)
from tunnel.errors import NotPermitted, TunnelError
from tunnel.manager import Manager
from tunnel.prepared import Prepared, PreparedEdits
from tunnel.reloads import ReloadEvent
from tunnel.report import peers_json
from tunnel.state.plan import Plan
from tunnel.state.render import plan_json, plan_summary
from tunnel.state.unified import unified_diff

__all__ = ["ControlDoor"]

log = logging.getLogger("tunnel.control")

Reply = Callable[[bytes], None]
_SOURCE = "control"


class ControlDoor:
    """Answers requests; see `uapi.Control`. Control thread."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._quick: dict[str, Callable[[Request], object]] = {
            "state": lambda _: manager.state(),
            "history": lambda _: manager.history.json(),
            "peers": lambda _: peers_json(manager.engine.device.status()),
            "rollback": lambda _: manager.trial.rollback().json(),
        }
        self._slow: dict[str, Callable[[Request, Reply], None]] = {
            "plan": self._plan,
            "apply": self._apply,
            "edit": self._edit,
            "reload": self._reload,
            "confirm": self._confirm,
        }

    def __call__(self, line: bytes, reply: Reply) -> None:
        try:
            request = json.loads(line)
            do = request.get("do") if isinstance(request, dict) else None
            if do in self._quick:
                reply(_result(self._quick[do](request)))
            elif do in self._slow:
                self._slow[do](request, reply)
            else:
                raise TunnelError(f"this tunnel does not know how to {do!r}")
        except Exception as error:  # noqa: BLE001 - a client must not end the tunnel
            reply(_refusal(error))

    def _then(
        self,
        job: Callable[[], Prepared | PreparedEdits],
        finish: Callable[[Any], object],
        reply: Reply,
    ) -> None:
        """`job` in the other thread, `finish` with its result here, then the answer,
        once what was saved is on the disk."""

        def done(outcome: Future[Any]) -> None:
            prepared = None
            try:
                prepared = outcome.result()
                answer = _result(finish(prepared))
            except Exception as error:  # noqa: BLE001 - as above
                if prepared is not None:
                    prepared.discard()
                answer = _refusal(error)
            self._manager.background(lambda: None, lambda _: reply(answer))

        self._manager.background(job, done)

    # --- whole configurations

    def _plan(self, request: Request, reply: Reply) -> None:
        job = partial(prepare_request, self._manager, dict(request) | {"save": False})
        self._then(job, lambda prepared: self._planned(prepared, request), reply)

    def _planned(self, prepared: Prepared, request: Request) -> dict[str, object]:
        manager = self._manager
        prune = bool(request.get("prune", True))
        target = manager.target(prepared.desired, prune=prune)
        plan = manager.engine.plan(target)
        told = self._told(plan) | {"warnings": prepared.warnings}
        if request.get("diff"):
            names = ("running", str(request.get("source") or manager.file.path))
            told["diff"] = unified_diff(manager.engine.device.observe(), target, names)
        return told

    def _told(self, plan: Plan) -> dict[str, Any]:
        manager = self._manager
        observed = manager.engine.device.observe()
        summary = plan_summary(plan, len(observed.peers))
        return {
            "success": True,
            "interface": observed.interface.name,
            "file": str(manager.file.path) if manager.file.path else None,
            "current_peers": summary["current_peers"],
            "target_peers": summary["target_peers"],
            **plan_json(plan),
            "summary": summary,
            "text": plan.text(),
        }

    def _apply(self, request: Request, reply: Reply) -> None:
        job = partial(prepare_request, self._manager, request)
        self._then(job, lambda prepared: self._applied(prepared, request), reply)

    def _applied(self, prepared: Prepared, request: Request) -> dict[str, Any]:
        manager = self._manager
        prune = bool(request.get("prune", True))
        told = self._told(manager.plan_for(prepared.desired, prune=prune))
        told["warnings"] = prepared.warnings
        event = manager.apply(
            prepared,
            source=_SOURCE,
            prune=prune,
            confirm_within=confirm_within(request.get("confirm")),
            expect=str(request.get("expect") or ""),
        )
        return self._done(told, event, bool(request.get("save")))

    def _done(
        self, told: dict[str, Any], event: ReloadEvent | None, saved: bool
    ) -> dict[str, Any]:
        left = self._manager.trial.left
        told["event"] = None if event is None else event.json()
        told["pending_confirmation"] = left
        told["saved"] = saved and event is not None and left is None
        return told

    # --- single peers

    def _edit(self, request: Request, reply: Reply) -> None:
        dry_run = bool(request.get("dry_run"))
        save = bool(request.get("save")) and not dry_run
        edits = [peer_edit(item) for item in request["edits"]]

        def finish(prepared: PreparedEdits) -> dict[str, Any]:
            before = len(self._manager.engine.device.observe().peers)
            plan, event = self._manager.edit_peers(
                prepared,
                source=_SOURCE,
                dry_run=dry_run,
                expect=str(request.get("expect") or ""),
            )
            told = self._told(plan) | {"summary": plan_summary(plan, before)}
            return self._done(told, event, save)

        job = partial(self._manager.prepare_edits, edits, save=save)
        self._then(job, finish, reply)

    # --- the rest

    def _reload(self, _: Request, reply: Reply) -> None:
        def then(result: ReloadEvent | TunnelError) -> None:
            if isinstance(result, TunnelError):
                reply(_refusal(result))
            else:
                reply(_result(result.json()))

        self._manager.reload_soon(_SOURCE, then)

    def _confirm(self, _: Request, reply: Reply) -> None:
        def told(error: Exception | None) -> None:
            reply(_refusal(error) if error else _result({"confirmed": True}))

        self._manager.trial.confirm_soon(told)


def _result(value: object) -> bytes:
    return f"result={json.dumps(value)}\nerrno=0\n\n".encode()


def _refusal(error: Exception) -> bytes:
    """Nothing of the request is repeated: it may hold secrets."""
    if isinstance(error, TunnelError):
        failure = error
    else:
        log.error("a request failed", exc_info=error)
        failure = TunnelError(f"not a request of this version ({type(error).__name__})")
    told = {
        "message": failure.message,
        "hint": failure.hint,
        "exit_code": failure.exit_code,
    }
    code = errno.EPERM if isinstance(failure, NotPermitted) else errno.EINVAL
    return f"error={json.dumps(told)}\nerrno=-{code}\n\n".encode()
