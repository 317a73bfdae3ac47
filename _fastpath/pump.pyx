# SPDX-License-Identifier: MIT
# cython: language_level=3, boundscheck=False, wraparound=False
"""The packet pump: lanes between the TUN and the UDP sockets. A lane is a worker thread
and a helper that takes the outbound direction over while both stay busy; each peer has
one lane for its life.

    outbound (tx.c)                              inbound (rx.c)
    1 drain the TUN                              3 drain the socket (recvmmsg, UDP_GRO)
    2 validate, complete checksums (vnet.c)        handshakes: mac1, to the ring
    3 route: longest prefix -> Path              4 receiver index -> Keypair
      split large packets (gso.c)                5 open the run (kernels/)
    4 header, padding, counter; seal the run     6 window, endpoint, facts, events
    5 send trains (send.c, UDP_SEGMENT)          7 source check; merge (gro.c), write

Each step is sequential within a worker; a batch is at most 128 datagrams. With several
lanes, what one reads for a peer of another is handed over after 3 (lane.c). A worker
loads the snapshot (routes, sockets, MTU, keys for mac1) once per batch, so a packet
sees the configuration before a commit or after it. No Python object is touched and
no lock is taken in the loops of run.pxi; the control thread talks to a worker through
atomics, two intrusive stacks and one ring (worker.h).
"""

import os
import sys
import threading
import time
from enum import IntFlag
from tunnel.digest import blake2s

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from posix.unistd cimport getpid

from tunnel._fastpath cimport aead as aead_module
from tunnel._fastpath.engine cimport *


cdef extern from "glue.h" nogil:
    void add_relaxed(uint64_t *counter, uint64_t n)
    uint32_t take_bits(uint32_t *bits)
    void acknowledge(engine *e)
    void *zeroed_lines(size_t bytes)


from tunnel.constants import (
    HANDSHAKE_QUEUE,
    KEEPALIVE_TIMEOUT,
    LABEL_MAC1,
    REJECT_AFTER_TIME,
    REKEY_AFTER_MESSAGES,
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
include "endpoint.pxi"
include "path.pxi"
include "transaction.pxi"
include "run.pxi"
include "workers.pxi"


cdef class Handshake:
    """A handshake message as it arrived; mac1 of types 1 and 2 is right."""

    cdef handshake h  # thousands may wait: no objects before their turn

    @property
    def data(self):
        return PyBytes_FromStringAndSize(<char *>self.h.data, self.h.length)

    @property
    def endpoint(self):
        return get_endpoint(&self.h.from_)

    @property
    def source(self):
        return get_source(&self.h.from_)


cdef class Pump(Workers):
    """Their peers, what they are told, and what they tell; see pump.pyi."""

    cdef unsigned int[LANES_MAX] peers  # how many each lane has
    cdef aip *table
    cdef set paths
    cdef void *transaction  # the open one, which who began it holds
    cdef public object on_sources
    cdef bint held  # wake-ups wait for `release`
    cdef uint32_t wanted  # by which lanes, as bits
    cdef object __weakref__

    def __cinit__(self, *_, **__):
        self.paths = set()
        self.table = aip_new()
        if not self.table:
            raise MemoryError

    def __del__(self):
        if self.paths is not None:
            self.stop()

    def __dealloc__(self):
        if self.table:
            aip_free(self.table)

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
    def handshakes_waiting(self):
        return self.e.handshakes.head - self.e.handshakes.tail

    def stop(self):
        cdef Path path
        if self.stopped or self.e == NULL:  # NULL: wrong arguments, nothing was made
            return
        if self.transaction != NULL:
            (<Transaction>self.transaction).take_back()
        if self.forked():
            self.stopped = True
            for path in self.paths:
                path.forget()
            return
        self.end()
        for path in self.paths:
            path_purge(path.p, &self.e.staged_bytes)
            path.p.sending = path.p.next = NULL
        self.take_apart()
        for path in self.paths:
            free(path.p)
            path.forget()
        self.paths.clear()

    def add_peer(self, token, address=None):
        cdef unsigned int lane
        if self.stopped:
            raise RuntimeError("the pump was stopped")
        if address is not None and self.steered:
            lane = lane_of_address(packed(address), len(address), self.workers)
        else:
            lane = self.emptiest_lane()
        cdef Path path = Path.__new__(Path)
        path.pump = self
        path.token = token
        path.keypairs = set()
        try:
            self.paths.add(path)
            path.p = path_new(<void *>path, lane)
            if not path.p:
                raise MemoryError
        except MemoryError:  # a set keeps what it finds no memory to grow for
            self.paths.discard(path)
            raise
        self.peers[lane] += 1
        return path

    def forget_peer(self, Path path not None):
        if path.p != NULL and path.pump is self:
            self.bury(path)

    cdef unsigned int emptiest_lane(self):
        cdef unsigned int lane, found = 0
        for lane in range(self.workers):
            if self.peers[lane] < self.peers[found]:
                found = lane
        return found

    def begin(self):
        if self.stopped:
            raise RuntimeError("the pump was stopped")
        if self.transaction != NULL:
            raise RuntimeError("a transaction is open already")
        cdef Transaction t = Transaction.__new__(Transaction)
        t.pump = self
        t.removed = {}
        t.next = <snapshot *>malloc(sizeof(snapshot))
        if not t.next:
            raise MemoryError
        memcpy(t.next, self.e.snapshot, sizeof(snapshot))
        t.next.garbage = NULL
        t.next.waiting = NULL
        t.next.owns_sockets = True
        aip_begin(self.table)  # none is open
        self.transaction = <void *>t
        return t

    def hold(self):
        self.held = True

    def release(self):
        self.held = False
        wanted, self.wanted = self.wanted, 0
        for i in range(self.workers):
            if wanted & (1 << i) and not self.stopped:
                lane_wake(&self.e.lane[i], False)

    cdef void bury(self, Path path):
        """Unlink, mark dead, let the worker drop what is staged, free after grace.
        Needs no memory: the change is published."""
        while path.keypairs:
            path.drop(path.keypairs.pop())
        path.p.dead = True
        path.p.owner = NULL
        self.peers[path.p.lane] -= 1
        path.command(COMMAND_PURGE)
        self.paths.discard(path)
        epoch_retire(&self.e.epoch, &path.p.retired, path.p, path_release)
        path.forget()

    def drain(self, Py_ssize_t most=HANDSHAKE_QUEUE):
        cdef list events = []
        cdef list handshakes = []
        cdef list learned = []
        result = events, handshakes
        if self.stopped:
            return result
        acknowledge(self.e)
        try:
            self.take_events(events, learned)
            self.take_handshakes(handshakes, most)
        except MemoryError:
            engine_signal(self.e)  # there is more
            if not events and not handshakes and not learned:
                raise
        epoch_reclaim(&self.e.epoch)
        if learned and self.on_sources:
            self.on_sources(learned, False)
        return result

    cdef int take_events(self, list events, list learned) except -1:
        """What finds no memory is put back."""
        cdef path *p = stack_take(&self.e.events)
        cdef path *next
        cdef uint32_t bits
        cdef bint full = False
        while p:
            next = p.event_next
            bits = take_bits(&p.events)
            try:
                if p.owner != NULL and bits & EVENT_SOURCE and not full:
                    learned.append(<object>p.owner)
                    bits ^= EVENT_SOURCE
                if p.owner != NULL and bits and not full:
                    events.append((<object>p.owner, bits))
            except MemoryError:
                full = True
            if full:
                events_push(&self.e.events, p, bits)
            p = next
        if full:
            raise MemoryError
        return 0

    cdef int take_handshakes(self, list handshakes, Py_ssize_t most) except -1:
        """Each has its place before it is taken."""
        cdef Handshake message
        while len(handshakes) < most and handshake_waits(self.e):
            message = Handshake.__new__(Handshake)
            handshakes.append(message)
            handshake_pop(self.e, &message.h)
        return 0
