# SPDX-License-Identifier: MIT
"""The C side of the packet path, as pump.pyx sees it."""

from tunnel._fastpath.aead cimport aead_kernel

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "aip.h" nogil:
    struct aip_root:
        pass
    struct aip:
        pass
    struct aip_garbage:
        pass
    aip *aip_new()
    void aip_free(aip *table)
    int aip_begin(aip *table)
    int aip_insert(aip *table, int family, const uint8_t *address, unsigned cidr,
                   void *value, void **old)
    int aip_remove(aip *table, int family, const uint8_t *address, unsigned cidr,
                   void **old)
    void *aip_exact(aip *table, int family, const uint8_t *address, unsigned cidr)
    void aip_commit(aip *table, aip_root *root, aip_garbage **garbage)
    void aip_abort(aip *table)
    void aip_garbage_free(aip_garbage *garbage)


cdef extern from "path.h" nogil:
    enum: EVENT_UNANSWERED, EVENT_UNREPLIED, EVENT_SOURCE
    enum: COMMAND_FLUSH, COMMAND_KEEPALIVE, COMMAND_PURGE
    struct endpoint:
        uint8_t address[16]
        uint8_t source[16]
        uint32_t scope_id
        uint32_t source_ifindex
        uint16_t port
        uint8_t family
        uint8_t source_family
    struct retired:
        pass
    struct replay_window:
        pass
    void replay_init(replay_window *window)
    struct keypair:
        uint8_t send_key[32]
        uint8_t receive_key[32]
        path *path
        uint64_t created
        uint32_t local_index
        uint32_t remote_index
        bint initiator
        bint sending_invalid
        bint awaiting_confirmation
        uint64_t send_counter
        replay_window window
        retired retired
    struct path:
        keypair *sending
        keypair *next
        uint64_t unanswered_since
        uint64_t unreplied_since
        uint64_t last_sent
        uint64_t last_received
        uint64_t rx_bytes
        uint64_t tx_bytes
        bint unreplied_again
        bint dead
        uint32_t events
        uint32_t staged_count
        path *event_next
        void *owner
        unsigned lane
        retired retired
    struct path_stack:
        pass
    struct epoch:
        size_t waiting
    struct index_table:
        pass
    bint endpoint_read(path *p, endpoint *out)
    void endpoint_write(path *p, const endpoint *e)
    uint32_t endpoint_learn(path *p, const endpoint *e)
    void endpoint_clear_source(path *p)
    void endpoint_forget_source(path *p)
    bint endpoint_judge_source(path *p, const endpoint *e, bint good)
    unsigned endpoint_questions(path *p, endpoint *out)
    bint events_push(path_stack *s, path *p, uint32_t bits)
    bint commands_push(path_stack *s, path *p, uint32_t bits)
    path *stack_take(path_stack *s)
    path *path_new(void *owner, unsigned lane)
    int path_release(void *p)
    void path_send_with(path *p, keypair *k)
    void path_send_without(path *p, keypair *k)
    uint32_t path_sent(path *p, uint64_t now, bint data)
    void path_received(path *p, uint64_t now)
    uint64_t path_rearm(path *p, uint64_t *fact, uint32_t event)
    uint32_t path_purge(path *p, uint64_t *budget)
    keypair *keypair_new()
    int keypair_release(void *k)
    int index_insert(index_table *t, epoch *e, keypair *k)
    void index_remove(index_table *t, keypair *k)
    void epoch_retire(epoch *e, retired *r, void *object,
                      int (*release)(void *) noexcept)
    void epoch_reclaim(epoch *e)
    void epoch_enter(epoch *e, unsigned reader)
    void epoch_leave(epoch *e, unsigned reader)


cdef extern from "cookies.h" nogil:
    struct awaited_cookie:
        pass
    struct awaited_cookies:
        pass
    awaited_cookie *cookie_await(awaited_cookies *t, uint32_t index,
                                 const uint8_t *mac1, const uint8_t *key)
    void cookie_forget(awaited_cookies *t, epoch *e, awaited_cookie *c)


cdef extern from "worker.h" nogil:
    enum: DROP_REASON_COUNT
    struct own_address:
        uint8_t length
        uint8_t bytes[16]
    struct isolation:
        retired retired
        own_address own[1]
    isolation *isolation_new(uint32_t count)
    int isolation_release(void *isolation)
    struct snapshot:
        uint64_t generation
        aip_root routes
        isolation *isolation
        uint64_t rekey_after_time
        uint64_t rekey_after_messages
        int fd[16][2]
        bint owns_sockets
        bint connected
        endpoint far_end
        uint32_t mtu
        bint has_key
        uint8_t mac1_key[32]
        aip_garbage *garbage
        size_t *waiting
    struct timing:
        uint64_t rekey_after_time
        uint64_t reject_after_time
        uint64_t rekey_timeout
        uint64_t last_minute
    struct handshake:
        endpoint from_ "from"
        uint16_t length
        uint8_t data[148]
    struct handshake_ring:
        uint64_t head
        uint64_t tail
    enum: LANES_MAX
    struct lane:
        int tun_fd
        bint reads
        path_stack commands
    struct engine:
        int event_fd
        unsigned lanes
        lane *lane
        bint stopping
        bint event_signalled
        bint tun_gone
        bint tun_gso
        bint uneven_trains
        bint gso_off[2]
        timing timing
        const aead_kernel *aead
        epoch epoch
        snapshot *snapshot
        index_table index
        path_stack events
        handshake_ring handshakes
        awaited_cookies cookies
        uint64_t staged_bytes
        size_t retired_snapshots
    struct counters:
        uint64_t tun_read
        uint64_t tun_written
        uint64_t udp_received
        uint64_t udp_sent
        uint64_t tun_writes
        uint64_t udp_receives
        uint64_t udp_sends
        uint64_t handed
        uint64_t drops[1]
    struct gro:
        bint tcp
        bint udp
    struct inbox:
        gro gro
    struct worker:
        inbox in_ "in"
        engine *engine
        unsigned reader
        uint64_t now
        uint32_t look
        uint64_t carried
        uint64_t waited
        snapshot *snapshot
        counters counters
    uint64_t clock_boottime()
    int sockets_copy(int (*fd)[2])
    void engine_signal(engine *e)
    void engine_wake(engine *e)
    void lane_wake(lane *l, bint helper_too)
    unsigned lane_of_address(const uint8_t *address, unsigned bytes, unsigned lanes)
    uint32_t lane_index(uint32_t index, unsigned lane, unsigned lanes)
    bint handshake_waits(engine *e)
    bint handshake_pop(engine *e, handshake *out)
    int engine_init(engine *e, unsigned lanes)
    void engine_finish(engine *e)
    int worker_init(worker *w, engine *e, unsigned lane, unsigned reader)
    void worker_finish(worker *w)
    void worker_slices(worker *w)
    void worker_begin(worker *w)
    void worker_sleep(worker *w)
    enum: BUSY_ROUNDS
    enum: LITTLE
    enum: LOOK_ALL
    bint worker_sends(const worker *w)
    void hand_over(worker *w)
    void hand_back(worker *w)
    bint helper_wait(worker *w)
    bint helper_rest(worker *w)
    size_t outbound(worker *w)
    size_t run_commands(worker *w)
    size_t inbound(worker *w, int family)
    size_t inbound_handed(worker *w)
    void snapshot_close(snapshot *s)
    void engine_publish(engine *e, snapshot *next)
    void engine_hold_back(engine *e)
    bint engine_settle(engine *e)
