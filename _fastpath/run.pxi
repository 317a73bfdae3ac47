# SPDX-License-Identifier: MIT
# Part of pump.pyx: the bodies of the threads.

cdef void _work(worker *w) noexcept nogil:
    """Both directions; the outbound one only while the helper does not have it."""
    cdef engine *e = w.engine
    cdef size_t came, went
    cdef int busy = 0
    while not e.stopping:
        worker_begin(w)
        went = 0
        came = inbound_handed(w) if e.lanes > 1 else 0
        came += inbound(w, 0)
        came += inbound(w, 1)
        if worker_sends(w):
            run_commands(w)
            went = outbound(w)
        worker_slices(w)
        if w.waited:  # for room in a socket: from now on that is the helper's part
            busy = 0
            w.look = LOOK_ALL
            hand_over(w)
            continue
        if w.carried <= LITTLE:
            busy = 0
            worker_sleep(w)
            continue
        w.look = LOOK_ALL
        busy = busy + 1 if came and went else 0
        if busy == BUSY_ROUNDS:
            busy = 0
            hand_over(w)
    epoch_leave(&e.epoch, w.reader)


cdef void _help(worker *w) noexcept nogil:
    """The outbound direction, from when it is handed over until it falls silent."""
    cdef size_t ran
    while helper_wait(w):
        while not w.engine.stopping:
            worker_begin(w)
            ran = run_commands(w)
            if outbound(w) + ran == 0 and not helper_rest(w):
                break
        hand_back(w)
    epoch_leave(&w.engine.epoch, w.reader)


def run(Workers pump, int number):
    """Body of a worker's thread or of its helper's; returns when the pump stops."""
    if pump.stopped:
        return
    pump.running += 1
    with nogil:
        if number % 2:
            _help(&pump.w[number])
        else:
            _work(&pump.w[number])
    pump.running -= 1
