# SPDX-License-Identifier: MIT
# Part of pump.pyx: the threads and the memory they share, from the first to the last.

cdef void add_counters(dict total, list reasons, counters *c, bint helper):
    total["tun_read"] += c.tun_read
    if helper:
        total["tun_read_by_helper"] += c.tun_read
    total["tun_written"] += c.tun_written
    total["tun_writes"] += c.tun_writes
    total["udp_received"] += c.udp_received
    total["udp_receives"] += c.udp_receives
    total["udp_sent"] += c.udp_sent
    total["udp_sends"] += c.udp_sends
    total["handed_over"] += c.handed
    for name, reason in reasons:
        total[name] += c.drops[<int>reason]


cdef class Workers:
    """Worker threads between TUN queues and UDP sockets, two for each lane."""

    cdef engine *e
    cdef worker *w  # of each lane, then its helper
    cdef readonly unsigned int workers
    cdef bint steered  # each lane reads a queue of its own
    cdef list threads
    cdef unsigned int running
    cdef bint stopped
    cdef int process  # whose threads they are

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
        self.stopped = True  # until everything is there
        self.process = getpid()
        self.workers = workers
        self.steered = len(more_queues) > 0
        self.e = <engine *>zeroed_lines(sizeof(engine))
        self.w = <worker *>zeroed_lines(2 * workers * sizeof(worker))
        self.threads = []
        if not self.e or not self.w:
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

    def __dealloc__(self):
        # else its pump was never made
        if self.e != NULL and not self.stopped and not self.forked():
            self.take_apart()
        free(self.e)
        free(self.w)

    @property
    def event_fd(self):
        return self.e.event_fd

    @property
    def failure(self):
        return "the TUN device is gone" if self.e.tun_gone else ""

    def start(self):
        if self.stopped:
            raise RuntimeError("the pump was stopped")
        for n in range(len(self.threads), 2 * self.workers):
            name = "tunnel-helper" if n % 2 else "tunnel-pump"
            thread = threading.Thread(target=run, args=(self, n), daemon=True,
                                      name=f"{name}-{n // 2}" if n > 1 else name)
            self.threads.append(thread)
            try:
                thread.start()
            except BaseException:
                self.threads.pop()
                raise

    cdef bint forked(self) noexcept:
        """A child has neither the threads nor the keys, and shares all descriptors."""
        return getpid() != self.process

    cdef void end(self):
        """The threads; what they worked on is still there."""
        self.e.stopping = True
        engine_wake(self.e)
        for thread in self.threads:
            thread.join()
        while self.running:  # one that began although its start failed
            time.sleep(0.001)
        self.stopped = True

    def settle(self):
        cdef bint settled
        if self.stopped:
            return True
        if not self.threads:
            epoch_reclaim(&self.e.epoch)
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
