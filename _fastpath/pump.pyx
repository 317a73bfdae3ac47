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
from enum import IntFlag
from tunnel.digest import blake2s

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

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
include "path.pxi"
include "transaction.pxi"
include "run.pxi"


cdef class Pump:
    """Worker threads between TUN queues and UDP sockets; see pump.pyi."""

    cdef engine *e
    cdef worker *w  # of each lane, then its helper
    cdef readonly unsigned int workers
    cdef bint steered  # each lane reads a queue of its own
    cdef list peers  # how many each lane has
    cdef aip *table
    cdef list threads
    cdef dict paths  # address of the C path -> Path
    cdef object transaction
    cdef public object on_sources
    cdef bint stopped
    cdef bint held  # wake-ups wait for `release`
    cdef uint32_t wanted  # by which lanes, as bits
    cdef object __weakref__

    def __cinit__(self, int tun_fd, *,
                  unsigned long long rekey_after_time=REKEY_AFTER_TIME,
                  unsigned long long reject_after_time=REJECT_AFTER_TIME,
                  unsigned long long rekey_timeout=REKEY_TIMEOUT,
                  unsigned long long keepalive_timeout=KEEPALIVE_TIMEOUT,
                  bint tcp_offload=False, bint udp_offload=False,
                  unsigned int workers=1, more_queues=(), bint trains=True,
                  bint equal_trains=True):
        if not 1 <= workers <= LANES_MAX:
            raise ValueError(f"workers: {workers} is not 1..{LANES_MAX}")
        if len(more_queues) not in (0, workers - 1):
            raise ValueError("more_queues: one for each further worker, or none")
        self.paths = {}
        self.stopped = True  # until everything is there
        self.workers = workers
        self.steered = len(more_queues) > 0
        self.peers = [0] * workers
        self.e = <engine *>zeroed_lines(sizeof(engine))
        self.w = <worker *>zeroed_lines(2 * workers * sizeof(worker))
        self.threads = []
        self.table = aip_new()
        if not self.e or not self.w or not self.table:
            raise MemoryError
        try:
            self.prepare([tun_fd, *more_queues])
        except BaseException:
            self.take_apart()
            raise
        for i in range(2 * workers):
            self.w[i].in_.gro.tcp = tcp_offload
            self.w[i].in_.gro.udp = udp_offload
        self.e.gso_off[0] = self.e.gso_off[1] = not trains
        self.e.uneven_trains = not equal_trains
        self.e.aead = aead_module.selected()
        self.e.tun_gso = tcp_offload or udp_offload
        self.e.timing.rekey_after_time = rekey_after_time
        self.e.snapshot.rekey_after_time = rekey_after_time
        self.e.timing.reject_after_time = reject_after_time
        self.e.timing.rekey_timeout = rekey_timeout
        self.e.timing.last_minute = reject_after_time - min(
            reject_after_time, keepalive_timeout + rekey_timeout)
        self.stopped = False

    cdef prepare(self, list queues):
        """Descriptors and memory of all lanes and their workers."""
        if engine_init(self.e, self.workers):
            raise MemoryError
        for i in range(self.workers):
            own = i < len(queues)
            tun = os.dup(queues[i if own else 0])
            self.e.lane[i].tun_fd = tun
            self.e.lane[i].reads = own
            os.set_blocking(tun, False)
        for i in range(2 * self.workers):
            if worker_init(&self.w[i], self.e, i // 2, i):
                raise MemoryError

    cdef void take_apart(self):
        """Gives back what `prepare` made, or the part of it that there was."""
        engine_finish(self.e)
        for i in range(2 * self.workers):
            worker_finish(&self.w[i])

    def __del__(self):
        self.stop()

    def __dealloc__(self):
        free(self.e)
        free(self.w)
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
            for n in range(2 * self.workers):
                name = "tunnel-helper" if n % 2 else "tunnel-pump"
                thread = threading.Thread(target=run, args=(self, n), daemon=True,
                                          name=f"{name}-{n // 2}" if n > 1 else name)
                thread.start()
                self.threads.append(thread)

    def stop(self):
        cdef Path path
        if self.stopped or self.e == NULL:  # NULL: wrong arguments, nothing was made
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
        self.take_apart()
        for path in self.paths.values():
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
            lane = self.peers.index(min(self.peers))
        cdef Path path = Path.__new__(Path)
        path.p = path_new(<void *>path, lane)
        if not path.p:
            raise MemoryError
        path.pump = self
        path.token = token
        path.keypairs = set()
        self.paths[<size_t>path.p] = path
        self.peers[lane] += 1
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
        t.removed = {}
        self.transaction = t
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
        """Unlink, mark dead, let the worker drop what is staged, free after grace."""
        cdef Keypair handle
        for handle in list(path.keypairs):
            path.drop_keypair(handle)
        path.p.dead = True
        path.p.owner = NULL
        self.peers[path.p.lane] -= 1
        path.command(COMMAND_PURGE)
        del self.paths[<size_t>path.p]
        epoch_retire(&self.e.epoch, &path.p.retired, path.p, path_release)
        path.forget()

    def drain(self, Py_ssize_t most=HANDSHAKE_QUEUE):
        cdef path *p
        cdef path *next
        cdef uint32_t bits
        cdef Handshake message
        cdef list events = []
        cdef list handshakes = []
        cdef list learned = []
        if self.stopped:
            return events, handshakes
        acknowledge(self.e)
        p = stack_take(&self.e.events)
        while p:
            next = p.event_next
            bits = take_bits(&p.events)
            if p.owner and bits & EVENT_SOURCE:
                learned.append(<object>p.owner)
                bits ^= EVENT_SOURCE
            if p.owner and bits:
                events.append((<object>p.owner, bits))
            p = next
        while len(handshakes) < most:
            message = Handshake.__new__(Handshake)
            if not handshake_pop(self.e, &message.h):
                break
            handshakes.append(message)
        epoch_reclaim(&self.e.epoch)
        if learned and self.on_sources:
            self.on_sources(learned, False)
        return events, handshakes

    def settle(self):
        cdef bint settled
        if self.stopped:
            return True
        with nogil:
            settled = engine_settle(self.e)
        return settled

    def counters(self):
        names = ("tun_read", "tun_read_by_helper", "tun_written", "tun_writes",
                 "udp_received", "udp_receives", "udp_sent", "udp_sends", "handed_over")
        result = dict.fromkeys(names, 0)
        reasons = [(f"drop.{r.name.lower()}", <int>r) for r in DropReason if r]
        result.update((name, 0) for name, _ in reasons)
        for i in range(2 * self.workers):
            add_counters(result, reasons, &self.w[i].counters, i % 2)
        return result
