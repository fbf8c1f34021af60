import os
import signal
from collections.abc import Callable

from service.models.catalog import Catalog
from service.models.shared_catalog import SharedCatalog


def forked(function: Callable[[], object]) -> int:
    """Call a function in a process that goes on after it, and return its process id and what the function returned."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, repr(function()).encode())
        signal.pause()
    returned = os.read(read, 100)
    os.close(read)
    os.close(write)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return int(returned)


def test_a_generation_is_active_after_it_was_published() -> None:
    shared = SharedCatalog()
    assert (shared.active, shared.latest) == (0, 0)
    assert shared.publish(lambda _: Catalog(fingerprint="a")) == 1
    assert (shared.active, shared.latest) == (0, 1)
    assert shared.activate(1)
    assert not shared.activate(1)
    assert shared.publish(lambda latest: Catalog(fingerprint=latest.fingerprint + "b")) == 2
    assert [shared.read(number).fingerprint for number in (1, 2)] == ["a", "ab"]
    assert not shared.activate(0)
    assert shared.active == 1


def test_other_processes_see_it() -> None:
    shared = SharedCatalog()
    assert forked(lambda: shared.publish(lambda _: Catalog(fingerprint="a" * 5000))) == 1
    assert shared.read(1).fingerprint == "a" * 5000
    assert forked(lambda: len(shared.read(1).fingerprint)) == 5000


def test_one_process_leads_until_it_ends() -> None:
    shared = SharedCatalog()

    def lead() -> int:
        return int(shared.try_lead() and shared.try_lead())

    assert forked(lead) == 1  # and is killed
    assert lead() == 1
    assert forked(lead) == 0
    assert forked(lambda: shared.publish(lambda _: Catalog())) == 1  # the leader holds up no other
