"""How greenlets of one process give way to the event loop."""

import gevent

LAST = -2  # libev's lowest priority: what the sockets brought is handled before


def let_the_loop_look() -> None:
    """Come back when the loop has looked once for what its sockets bring, and has handled it, and wait for nothing.

    `gevent.sleep(0)` comes back before it looks.
    """
    hub = gevent.get_hub()
    never_idle = hub.loop.idle()
    never_idle.start(int)  # while there is one, looking does not wait
    try:
        hub.wait(hub.loop.check(priority=LAST))
    finally:
        never_idle.close()
