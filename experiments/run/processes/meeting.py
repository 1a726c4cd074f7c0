"""How processes meet before JAX connects them: within a limit of our own, each number once.

JAX waits minutes for a process that does not come and ends in a stack of C++, and lets a second
one with a number that is taken end the run of the first. So all first meet at the coordinator's
address, where JAX listens only afterwards: process 0 waits for one line of each other process,
HELLO with its number and how many it expects, and answers GO to all when the last is there. Who
comes later finds JAX there, which does not answer like this, and is refused.
"""

import contextlib
import errno
import socket
import time

from truncated_weights.experiments.run import stop

HELLO, GO, TAKEN, COUNT = "truncated-weights", "go", "taken", "count"
# Seconds between two looks at the clock and at signals, and that a stranger may take for its line.
LOOK = 0.5


def meet(address: str, *, count: int, number: int, limit: float) -> None:
    """Return when all processes are there; ValueError, one line, where they are not in time.

    address: HOST:PORT of process 0. limit: seconds.
    """
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 65_536):
        raise ValueError(f"--coordinator={address} is not HOST:PORT")
    deadline = time.monotonic() + limit
    if number == 0:
        _wait_for_all(int(port), count, deadline, limit)
    else:
        _report(host.strip("[]"), int(port), count, number, deadline, limit)


def _wait_for_all(port: int, count: int, deadline: float, limit: float) -> None:
    there: dict[int, socket.socket] = {}
    try:
        with _server(port) as server:
            server.settimeout(LOOK)
            while len(there) < count - 1:
                stop.check()
                if time.monotonic() > deadline:
                    missing = sorted(set(range(1, count)) - set(there))
                    raise ValueError(
                        f"of {count} processes {_listed(missing)} did not come within {limit:g} "
                        "seconds (--meeting_time)"
                    )
                with contextlib.suppress(TimeoutError):
                    _receive(server.accept()[0], there, count)
                for number in [n for n, line in there.items() if _has_gone(line)]:
                    there.pop(number).close()
        for line in there.values():
            line.sendall(f"{GO}\n".encode())
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ValueError(
                f"at port {port} of this host a run is under way already, or something else is; "
                "nothing of it was touched"
            ) from error
        raise ValueError(f"process 0 cannot listen at port {port}: {error.strerror}") from error
    finally:
        for line in there.values():
            line.close()


def _server(port: int) -> socket.socket:
    """Listening at every address of this host."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
    return socket.create_server(("", port))


def _receive(line: socket.socket, there: dict[int, socket.socket], count: int) -> None:
    """Keep the line of a process that is missing; tell others why not, and strangers nothing."""
    line.settimeout(LOOK)
    words = _line(line).split()
    known = len(words) == 3 and words[0] == HELLO and words[1].isdecimal()
    answer = ""
    if known and words[2] != str(count):
        answer = f"{COUNT} {count}"
    elif known and not 0 < int(words[1]) < count:
        known = False
    elif known and int(words[1]) in there and not _has_gone(there[int(words[1])]):
        answer = TAKEN
    if known and not answer:
        there[int(words[1])] = line
        return
    with contextlib.suppress(OSError):
        line.sendall(f"{answer}\n".encode() if answer else b"")
    line.close()


def _report(host: str, port: int, count: int, number: int, deadline: float, limit: float) -> None:
    while (left := deadline - time.monotonic()) > 0:
        stop.check()
        with contextlib.suppress(OSError):
            with socket.create_connection((host, port), timeout=min(left, 5.0)) as line:
                line.sendall(f"{HELLO} {number} {count}\n".encode())
                line.settimeout(LOOK)
                answer = ""
                while not answer and not _has_gone(line) and time.monotonic() < deadline:
                    stop.check()
                    answer = _line(line)
            match answer.split():
                case [word] if word == GO:
                    return
                case [word] if word == TAKEN:
                    raise ValueError(f"another process of this run is --process={number} already")
                case [word, told] if word == COUNT:
                    raise ValueError(f"process 0 was started with --processes={told}, not {count}")
                case []:
                    pass
                case _:
                    raise ValueError(
                        f"at {host}:{port} a run is under way already, or something else is; "
                        "nothing of it was touched"
                    )
        time.sleep(min(0.2, max(left, 0.0)))
    raise ValueError(
        f"process 0 or another did not come to {host}:{port} within {limit:g} seconds "
        "(--meeting_time)"
    )


def _line(line: socket.socket) -> str:
    """What comes until the end of a line, 256 bytes at most; empty where nothing does in time."""
    said = b""
    with contextlib.suppress(TimeoutError, OSError):
        while len(said) < 256 and b"\n" not in said:
            more = line.recv(64)
            if not more:
                break
            said += more
    return said.decode("ascii", errors="replace")


def _has_gone(line: socket.socket) -> bool:
    """Whether the other end has closed a line on which nothing is said."""
    try:
        line.setblocking(False)
        return line.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        with contextlib.suppress(OSError):
            line.settimeout(LOOK)


def _listed(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return f"number {shown}" + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")
