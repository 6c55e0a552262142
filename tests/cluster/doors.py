"""Doors: ports of the loopback behind which are sshds of a lab, as a cloud's machines are behind their addresses."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from calico_lab.cluster.lab import LabCluster

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass
class Door:
    """A port that leads to a node's sshd.

    Parameters
    ----------
    lab, node, port_there
    address, port
        Where it is, on the loopback; by default at any free port.
    after_bytes : int
        How much the server may say until `then` comes into force; none from the start.
    then : "", "silence", "reset" or "drip"
        Say nothing more, end the connection as a dead machine's router does, or give a byte now and then.
    """

    lab: LabCluster
    node: str
    then: str = ""
    after_bytes: int = 0
    port_there: int = 22
    address: str = "127.0.0.1"
    port: int = 0

    def __post_init__(self) -> None:
        self._ends = ExitStack()
        self._listener = self._ends.enter_context(socket.create_server((self.address, self.port)))
        self.port = self._listener.getsockname()[1]
        self._closing = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """From now on nobody listens at the port."""
        self._closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._ends.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                outside, _ = self._listener.accept()
                inside = self.lab.host.connect(self.node, self.port_there)
                threading.Thread(target=self._pump, args=(outside, inside), daemon=True).start()
                threading.Thread(target=self._answer, args=(inside, outside), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        _end(source, sink)

    def _answer(self, source: socket.socket, sink: socket.socket) -> None:
        said = 0
        with suppress(OSError):
            while data := source.recv(65536):
                said += len(data)
                if not self.then or said <= self.after_bytes:
                    sink.sendall(data)
                elif self.then == "silence":
                    self._closing.wait()
                elif self.then == "reset":
                    sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                    sink.shutdown(socket.SHUT_RD)  # closing takes effect when nobody waits in it any more
                    sink.close()
                    break
                else:
                    for byte in data:
                        sink.sendall(bytes([byte]))
                        time.sleep(0.05)  # what the fault is
        _end(source, sink)


def _end(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
