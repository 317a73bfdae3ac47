# SPDX-License-Identifier: MIT
# Part of pump.pyx: changes that take effect at one instant.

cdef int prefix_family(bytes address, unsigned int cidr) except -1:
    if len(address) not in (4, 16):
        raise ValueError(f"address: has {len(address)} bytes, not 4 or 16")
    if cidr > 8 * len(address):
        raise ValueError(f"cidr: {cidr} is more than {8 * len(address)}")
    return 4 if len(address) == 4 else 6


cdef const uint8_t *packed(bytes address):
    return <const uint8_t *>PyBytes_AS_STRING(address)


cdef object path_owner(void *value):
    if value == NULL or (<path *>value).owner == NULL:
        return None
    return <object>(<path *>value).owner


cdef class Transaction:
    """Changes that take effect at one instant; see pump.pyi."""

    cdef Pump pump
    cdef snapshot *next
    cdef dict removed  # its keys: Path
    cdef bint sockets_set
    cdef bint isolation_set

    cdef int check(self) except -1:
        if self.next == NULL:
            raise RuntimeError("the transaction is over")
        return 0

    def insert_prefix(self, bytes address, unsigned int cidr, Path path):
        cdef void *old = NULL
        self.check()
        family = prefix_family(address, cidr)
        if path.p == NULL or path.pump is not self.pump:
            raise ValueError("path: belongs to no peer of this pump")
        if aip_insert(self.pump.table, family, packed(address), cidr, path.p, &old):
            raise MemoryError
        return path_owner(old)

    def remove_prefix(self, bytes address, unsigned int cidr):
        cdef void *old = NULL
        self.check()
        family = prefix_family(address, cidr)
        if aip_remove(self.pump.table, family, packed(address), cidr, &old):
            raise MemoryError
        return path_owner(old)

    def set_sockets(self, int ipv4, int ipv6, *, connected=None, more=()):
        cdef int[LANES_MAX][2] own
        cdef endpoint far_end
        self.check()
        pairs = [(ipv4, ipv6), *more]
        if len(pairs) > self.pump.workers:
            raise ValueError("more: there are not so many workers")
        put_endpoint(&far_end, connected)
        memset(own, -1, sizeof(own))
        for i, (ipv4, ipv6) in enumerate(pairs):
            own[<int>i][0] = ipv4
            own[<int>i][1] = ipv6
        if sockets_copy(own):
            raise OSError(errno, os.strerror(errno))
        self.close_new_sockets()
        memcpy(self.next.fd, own, sizeof(own))
        self.sockets_set = True
        self.next.connected = connected is not None
        self.next.far_end = far_end

    def set_mtu(self, unsigned int mtu):
        self.check()
        self.next.mtu = mtu

    def set_public_key(self, public_key):
        self.check()
        self.next.has_key = public_key is not None
        memset(self.next.mac1_key, 0, 32)
        if public_key is not None:
            if len(public_key) != 32:
                raise ValueError("public_key: must be 32 bytes")
            mac1_key = blake2s(LABEL_MAC1 + public_key).digest()
            memcpy(self.next.mac1_key, PyBytes_AS_STRING(mac1_key), 32)

    def set_rekey_limits(self, unsigned long long after_time,
                         unsigned long long after_messages):
        self.check()
        self.next.rekey_after_time = min(
            after_time, self.pump.e.timing.rekey_after_time)
        self.next.rekey_after_messages = min(after_messages, REKEY_AFTER_MESSAGES)

    def set_isolation(self, own):
        cdef isolation *i = NULL
        self.check()
        if own is not None:
            i = isolation_new(len(own))
            if not i:
                raise MemoryError
            for n, address in enumerate(own):
                if len(address) not in (4, 16):
                    isolation_release(i)
                    raise ValueError("own: addresses have 4 or 16 bytes")
                i.own[<int>n].length = len(address)
                memcpy(i.own[<int>n].bytes, packed(address), len(address))
        self.free_new_isolation()
        self.next.isolation = i
        self.isolation_set = True

    cdef void free_new_isolation(self) noexcept:
        if self.isolation_set:
            isolation_release(self.next.isolation)
        self.isolation_set = False

    def remove_peer(self, Path path):
        self.check()
        if path.p != NULL and path.pump is self.pump:
            self.removed[path] = None

    def commit(self):
        cdef aip_garbage *garbage = NULL
        cdef snapshot *old
        cdef isolation *unused
        cdef engine *e = self.pump.e
        cdef Path path
        self.check()
        old = e.snapshot
        self.next.generation = old.generation + 1
        generation = self.next.generation
        # from here on nothing asks for memory
        aip_commit(self.pump.table, &self.next.routes, &garbage)
        old.garbage = garbage
        old.owns_sockets = self.sockets_set  # else the next one has them
        unused = old.isolation if self.isolation_set else NULL
        engine_publish(e, self.next)
        if unused != NULL:
            epoch_retire(&e.epoch, &unused.retired, unused, isolation_release)
        self.next = NULL
        self.pump.transaction = NULL
        if self.removed:  # a batch under way with the table before still sends to them
            with nogil:
                engine_settle(e)
        for path in self.removed:
            self.pump.bury(path)
        with nogil:
            engine_hold_back(e)
        return generation

    def abort(self):
        self.take_back()

    def __del__(self):
        self.take_back()  # nobody holds it any more, so nobody else can

    cdef void take_back(self) noexcept:
        if self.next == NULL:
            return
        aip_abort(self.pump.table)
        self.close_new_sockets()
        self.free_new_isolation()
        free(self.next)
        self.next = NULL
        self.pump.transaction = NULL

    cdef void close_new_sockets(self) noexcept:
        if self.sockets_set:
            snapshot_close(self.next)
        self.sockets_set = False

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is None and self.next != NULL:
            self.commit()
        else:
            self.take_back()
