# SPDX-License-Identifier: MIT
# cython: language_level=3, boundscheck=False, wraparound=False
"""The packet pump: a worker thread between the TUN and the UDP sockets, and a helper
that takes the outbound direction over while both stay busy.

    outbound (tx.c)                              inbound (rx.c)
    1 drain the TUN                              3 drain the socket (recvmmsg, UDP_GRO)
    2 validate, complete checksums (vnet.c)        handshakes: mac1, to the ring
    3 route: longest prefix -> Path              4 receiver index -> Keypair
      split large packets (gso.c)                5 open the run (kernels/)
    4 header, padding, counter; seal the run     6 window, endpoint, facts, events
    5 send trains (send.c, UDP_SEGMENT)          7 source check; merge (gro.c), write

Each step is sequential within a worker; a batch is at most 128 datagrams. The worker
loads the snapshot (routes, sockets, MTU, keys for mac1) once per batch, so a packet
sees the configuration before a commit or after it. No Python object is touched and
no lock is taken between the two `epoch_` calls of `_work`; the control thread talks
to the worker through atomics, two intrusive stacks and one ring (worker.h).
"""

import os
import sys
import threading
from enum import IntFlag
from tunnel.digest import blake2s

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from tunnel._fastpath cimport aead as aead_module
from tunnel._fastpath.engine cimport *


cdef extern from "glue.h" nogil:
    void add_relaxed(uint64_t *counter, uint64_t n)
    uint32_t take_bits(uint32_t *bits)
    void acknowledge(engine *e)


from tunnel.constants import (
    KEEPALIVE_TIMEOUT,
    LABEL_MAC1,
    REJECT_AFTER_TIME,
    REKEY_AFTER_TIME,
    REKEY_TIMEOUT,
)
from tunnel.errors import DropReason

if sys.byteorder != "little":
    raise ImportError("the packet path needs a little-endian machine")


class PathEvent(IntFlag):
    """What the pump tells the control plane about one peer."""

    NEEDS_SESSION = 1
    REKEY = 2
    LAST_MINUTE = 4
    UNANSWERED = 8
    UNREPLIED = 16
    CONFIRMED = 32
    ROAMED = 64


# One extension, because the C code has state that must exist once (the keypair pool,
# the tombstone of the index table); the classes have files of their own.
include "path.pxi"
include "transaction.pxi"


cdef class Handshake:
    """A handshake message as it arrived; mac1 of types 1 and 2 is right."""

    cdef readonly bytes data
    cdef readonly object endpoint
    cdef readonly object source


cdef class Pump:
    """Worker thread between one TUN descriptor and the UDP sockets; see pump.pyi."""

    cdef engine *e
    cdef worker *w
    cdef worker *helper
    cdef aip *table
    cdef list threads
    cdef dict paths  # address of the C path -> Path
    cdef object transaction
    cdef bint stopped
    cdef object __weakref__

    def __cinit__(self, int tun_fd, *,
                  unsigned long long rekey_after_time=REKEY_AFTER_TIME,
                  unsigned long long reject_after_time=REJECT_AFTER_TIME,
                  unsigned long long rekey_timeout=REKEY_TIMEOUT,
                  unsigned long long keepalive_timeout=KEEPALIVE_TIMEOUT,
                  bint tcp_offload=False, bint udp_offload=False):
        self.paths = {}
        self.stopped = True  # until everything is there
        self.e = <engine *>calloc(1, sizeof(engine))
        self.w = <worker *>calloc(1, sizeof(worker))
        self.helper = <worker *>calloc(1, sizeof(worker))
        self.threads = []
        self.table = aip_new()
        if not self.e or not self.w or not self.helper or not self.table:
            raise MemoryError
        tun = os.dup(tun_fd)
        os.set_blocking(tun, False)
        if (engine_init(self.e, tun) or worker_init(self.w, self.e, 0)
                or worker_init(self.helper, self.e, 1)):
            raise MemoryError
        self.e.aead = aead_module.selected()
        self.e.tun_gso = tcp_offload or udp_offload
        self.w.in_.gro.tcp = tcp_offload
        self.w.in_.gro.udp = udp_offload
        self.e.timing.rekey_after_time = rekey_after_time
        self.e.timing.reject_after_time = reject_after_time
        self.e.timing.rekey_timeout = rekey_timeout
        self.e.timing.last_minute = reject_after_time - min(
            reject_after_time, keepalive_timeout + rekey_timeout)
        self.stopped = False

    def __del__(self):
        self.stop()

    def __dealloc__(self):
        free(self.e)
        free(self.w)
        free(self.helper)
        if self.table:
            aip_free(self.table)

    @property
    def event_fd(self):
        return self.e.event_fd

    @property
    def generation(self):
        return self.e.snapshot.generation if not self.stopped else 0

    @property
    def retired(self):
        return self.e.epoch.waiting

    @property
    def retired_snapshots(self):
        return self.e.retired_snapshots

    @property
    def failure(self):
        return "the TUN device is gone" if self.e.tun_gone else ""

    @property
    def handshakes_waiting(self):
        return self.e.handshakes.head - self.e.handshakes.tail

    def start(self):
        if self.stopped:
            raise RuntimeError("the pump was stopped")
        if not self.threads:
            for name, helper in (("tunnel-pump", False), ("tunnel-helper", True)):
                thread = threading.Thread(target=run, args=(self, helper), name=name,
                                          daemon=True)
                thread.start()
                self.threads.append(thread)

    def stop(self):
        cdef Path path
        if self.stopped:
            return
        if self.transaction is not None:
            self.transaction.abort()
        self.e.stopping = True
        engine_wake(self.e)
        for thread in self.threads:
            thread.join()
        self.stopped = True
        for path in self.paths.values():
            path_purge(path.p, &self.e.staged_bytes)
            path.p.sending = path.p.next = NULL
        engine_finish(self.e)
        for path in self.paths.values():
            free(path.p)
            path.forget()
        self.paths.clear()
        worker_finish(self.w)
        worker_finish(self.helper)

    def add_peer(self, token):
        if self.stopped:
            raise RuntimeError("the pump was stopped")
        cdef Path path = Path.__new__(Path)
        path.p = path_new(<void *>path)
        if not path.p:
            raise MemoryError
        path.pump = self
        path.token = token
        path.keypairs = set()
        self.paths[<size_t>path.p] = path
        return path

    def begin(self):
        if self.stopped:
            raise RuntimeError("the pump was stopped")
        if self.transaction is not None:
            raise RuntimeError("a transaction is open already")
        cdef snapshot *next = <snapshot *>malloc(sizeof(snapshot))
        if not next or aip_begin(self.table):
            free(next)
            raise MemoryError
        memcpy(next, self.e.snapshot, sizeof(snapshot))
        next.garbage = NULL
        next.waiting = NULL
        next.owns_sockets = True
        cdef Transaction t = Transaction.__new__(Transaction)
        t.pump = self
        t.next = next
        t.removed = []
        self.transaction = t
        return t

    cdef void bury(self, Path path):
        """Unlink, mark dead, let the worker drop what is staged, free after grace."""
        cdef Keypair handle
        for handle in list(path.keypairs):
            path.drop_keypair(handle)
        path.p.dead = True
        path.p.owner = NULL
        path.command(COMMAND_PURGE)
        del self.paths[<size_t>path.p]
        epoch_retire(&self.e.epoch, &path.p.retired, path.p, path_release)
        path.forget()

    def drain(self):
        cdef path *p
        cdef path *next
        cdef uint32_t bits
        cdef handshake h
        cdef Handshake message
        cdef list events = []
        cdef list handshakes = []
        if self.stopped:
            return events, handshakes
        acknowledge(self.e)
        p = stack_take(&self.e.events)
        while p:
            next = p.event_next
            bits = take_bits(&p.events)
            if p.owner:
                events.append((<object>p.owner, bits))
            p = next
        while handshake_pop(self.e, &h):
            message = Handshake.__new__(Handshake)
            message.data = PyBytes_FromStringAndSize(<char *>h.data, h.length)
            message.endpoint = get_endpoint(&h.from_)
            message.source = get_source(&h.from_)
            handshakes.append(message)
        epoch_reclaim(&self.e.epoch)
        return events, handshakes

    def settle(self):
        cdef bint settled
        if self.stopped:
            return True
        with nogil:
            settled = engine_settle(self.e)
        return settled

    def counters(self):
        cdef counters *c = &self.w.counters
        cdef counters *h = &self.helper.counters
        result = {
            "tun_read": c.tun_read + h.tun_read,
            "tun_read_by_helper": h.tun_read,
            "tun_written": c.tun_written + h.tun_written,
            "tun_writes": c.tun_writes + h.tun_writes,
            "udp_received": c.udp_received + h.udp_received,
            "udp_receives": c.udp_receives + h.udp_receives,
            "udp_sent": c.udp_sent + h.udp_sent,
            "udp_sends": c.udp_sends + h.udp_sends,
        }
        for reason in DropReason:
            if reason:
                result["drop." + reason.name.lower()] = (
                    c.drops[<int>reason] + h.drops[<int>reason])
        return result


cdef void _begin(worker *w) noexcept nogil:
    epoch_enter(&w.engine.epoch, w.reader)
    w.snapshot = w.engine.snapshot
    w.now = clock_boottime()


cdef void _work(worker *w) noexcept nogil:
    """Both directions; the outbound one only while the helper does not have it."""
    cdef engine *e = w.engine
    cdef size_t came, went
    cdef int busy = 0
    while not e.stopping:
        _begin(w)
        went = 0
        came = inbound(w, 0)
        came += inbound(w, 1)
        if worker_sends(e):
            run_commands(w)
            went = outbound(w)
            busy = busy + 1 if came and went else 0
            if busy == BUSY_ROUNDS:
                busy = 0
                hand_over(e)
        if came + went == 0:
            worker_sleep(w)  # offline for the epoch
    epoch_leave(&e.epoch, w.reader)


cdef void _help(worker *w) noexcept nogil:
    """The outbound direction, from when it is handed over until it falls silent."""
    while helper_wait(w):
        while True:
            _begin(w)
            run_commands(w)
            if outbound(w) == 0 and not helper_rest(w):
                break
        hand_back(w.engine)
    epoch_leave(&w.engine.epoch, w.reader)


def run(Pump pump, bint helper):
    """Body of the worker's thread and of its helper's; returns when the pump stops."""
    with nogil:
        if helper:
            _help(pump.helper)
        else:
            _work(pump.w)
