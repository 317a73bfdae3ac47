# SPDX-License-Identifier: MIT
# Part of pump.pyx: one peer and its keypairs as the control thread handles them.

cdef class Keypair:
    """One session's keys; made by `Path.add_keypair`, inert once dropped."""

    cdef keypair *k
    cdef readonly unsigned int local_index
    cdef readonly unsigned int remote_index
    cdef readonly unsigned long long created
    cdef readonly bint initiator

    def __repr__(self):
        return f"<Keypair {self.local_index:08x}>"

    @property
    def send_counter(self):
        return self.k.send_counter if self.k else 0

    @property
    def confirmed(self):
        return self.k != NULL and not self.k.awaiting_confirmation

    def set_send_counter(self, unsigned long long value):
        if self.k:
            self.k.send_counter = value

    def invalidate_sending(self):
        if self.k:
            self.k.sending_invalid = True


cdef class Path:
    """The packet path's record of one peer; see pump.pyi. Control thread only."""

    cdef path *p
    cdef Pump pump
    cdef public object token
    cdef set keypairs
    cdef awaited_cookie *awaited

    @property
    def unanswered_since(self):
        return self.p.unanswered_since if self.p else 0

    @property
    def unreplied_since(self):
        return self.p.unreplied_since if self.p else 0

    @property
    def unreplied_again(self):
        return self.p != NULL and self.p.unreplied_again

    @property
    def last_sent(self):
        return self.p.last_sent if self.p else 0

    @property
    def last_received(self):
        return self.p.last_received if self.p else 0

    @property
    def rx_bytes(self):
        return self.p.rx_bytes if self.p else 0

    @property
    def tx_bytes(self):
        return self.p.tx_bytes if self.p else 0

    @property
    def worker(self):
        return self.p.lane if self.p else 0

    def own_index(self, unsigned int index):
        if not self.p:
            return index
        return lane_index(index, self.p.lane, self.pump.workers)

    @property
    def staged(self):
        return self.p.staged_count if self.p else 0

    @property
    def endpoint(self):
        cdef endpoint e
        if not self.p or not endpoint_read(self.p, &e):
            return None
        return get_endpoint(&e)

    @property
    def source(self):
        cdef endpoint e
        if not self.p or not endpoint_read(self.p, &e):
            return None
        return get_source(&e)

    def set_endpoint(self, where):
        cdef endpoint e
        put_endpoint(&e, where)
        if self.p:
            endpoint_write(self.p, &e)

    def clear_source(self):
        if self.p:
            endpoint_clear_source(self.p)

    def forget_source(self):
        if self.p:
            endpoint_forget_source(self.p)

    def source_questions(self):
        cdef endpoint[2] e
        cdef unsigned int n = 0
        if self.p:
            n = endpoint_questions(self.p, e)
        return [(get_endpoint(&e[i]), get_source(&e[i])) for i in range(n)]

    def judge_source(self, source, bint good):
        cdef endpoint e
        memset(&e, 0, sizeof(endpoint))
        put_source(&e, source)
        return self.p != NULL and endpoint_judge_source(self.p, &e, good)

    def note_sent(self, unsigned long long now, unsigned long long size):
        if self.p:
            path_sent(self.p, now, False)
            add_relaxed(&self.p.tx_bytes, size)

    def note_received(self, unsigned long long now, unsigned long long size, where,
                      source):
        cdef endpoint e
        put_endpoint(&e, where)
        put_source(&e, source)
        if not self.p:
            return
        path_received(self.p, now)
        add_relaxed(&self.p.rx_bytes, size)
        if not e.family:
            return
        if endpoint_learn(self.p, &e) & EVENT_SOURCE and self.pump.on_sources:
            self.pump.on_sources([self], True)

    def check_unanswered(self):
        if not self.p:
            return 0
        return path_rearm(self.p, &self.p.unanswered_since, EVENT_UNANSWERED)

    def clear_unanswered(self):
        if self.p:
            self.p.unanswered_since = 0
            path_rearm(self.p, &self.p.unanswered_since, EVENT_UNANSWERED)

    def check_unreplied(self):
        if not self.p:
            return 0, False
        since = path_rearm(self.p, &self.p.unreplied_since, EVENT_UNREPLIED)
        return since, self.p.unreplied_again

    def clear_unreplied(self):
        if self.p:
            self.p.unreplied_since = 0
            path_rearm(self.p, &self.p.unreplied_since, EVENT_UNREPLIED)

    def clear_unreplied_again(self):
        if self.p:
            self.p.unreplied_again = False

    def add_keypair(self, unsigned int local_index, unsigned int remote_index,
                    bytes send_key, bytes receive_key, *, unsigned long long created,
                    bint initiator, bint await_confirmation):
        if len(send_key) != 32 or len(receive_key) != 32:
            raise ValueError("send_key, receive_key: must be 32 bytes each")
        if not self.p:
            raise RuntimeError("the peer was removed")
        cdef Keypair handle = Keypair.__new__(Keypair)
        cdef keypair *k = NULL
        try:
            self.keypairs.add(handle)
            k = keypair_new()
            if not k:
                raise MemoryError
        except MemoryError:  # a set keeps what it finds no memory to grow for
            self.keypairs.discard(handle)
            raise
        memcpy(k.send_key, PyBytes_AS_STRING(send_key), 32)
        memcpy(k.receive_key, PyBytes_AS_STRING(receive_key), 32)
        k.path = self.p
        k.created = created
        k.local_index = local_index
        k.remote_index = remote_index
        k.initiator = initiator
        k.awaiting_confirmation = await_confirmation
        replay_init(&k.window)
        if index_insert(&self.pump.e.index, &self.pump.e.epoch, k):
            keypair_release(k)
            self.keypairs.discard(handle)
            raise MemoryError
        if await_confirmation:
            self.p.next = k
        handle.k = k
        handle.local_index = local_index
        handle.remote_index = remote_index
        handle.created = created
        handle.initiator = initiator
        return handle

    def use_for_sending(self, Keypair which):
        if self.p:
            path_send_with(self.p, which.k if which is not None else NULL)

    def drop_keypair(self, Keypair which):
        if not self.p or not which.k or which not in self.keypairs:
            return
        self.keypairs.discard(which)
        self.drop(which)

    cdef void drop(self, Keypair which) noexcept:
        path_send_without(self.p, which.k)
        index_remove(&self.pump.e.index, which.k)
        epoch_retire(&self.pump.e.epoch, &which.k.retired, which.k, keypair_release)
        which.k = NULL

    def expect_cookie(self, unsigned int index, bytes mac1, bytes key):
        if len(mac1) != 16 or len(key) != 32:
            raise ValueError("mac1, key: must be 16 and 32 bytes")
        self.expect_no_cookie()
        if self.p:
            self.awaited = cookie_await(
                &self.pump.e.cookies, index, packed(mac1), packed(key))
            if not self.awaited:
                raise MemoryError

    def expect_no_cookie(self):
        if self.awaited:
            cookie_forget(&self.pump.e.cookies, &self.pump.e.epoch, self.awaited)
        self.awaited = NULL

    def flush(self, *, bint keepalive):
        self.command(COMMAND_FLUSH | (COMMAND_KEEPALIVE if keepalive else 0))

    def purge_staged(self):
        self.command(COMMAND_PURGE)

    cdef void command(self, uint32_t bits):
        cdef lane *owner
        if self.p:
            owner = &self.pump.e.lane[self.p.lane]
            if commands_push(&owner.commands, self.p, bits):
                if self.pump.held:
                    self.pump.wanted |= 1 << self.p.lane
                else:
                    lane_wake(owner, False)

    cdef void forget(self):
        cdef Keypair handle
        if self.pump.stopped:  # freed with the table
            self.awaited = NULL
        self.expect_no_cookie()
        for handle in self.keypairs:
            handle.k = NULL
        self.keypairs.clear()
        self.p = NULL
