"""A worker on a host of its own: two network namespaces with a cable between them, which can be pulled.

Worker's namespace: its loopback, on which forwarders offer the ports of Kafka, PostgreSQL and the receiver. They lead over
the cable into the second namespace and from there, by Unix sockets, out to the real ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ops.parts import ROOT

HERE, THERE = "10.231.77.1", "10.231.77.2"
LISTEN_WITHIN_S: Final = 20.0


def available() -> bool:
    """Whether this system lets us make network namespaces."""
    name = f"wf{uuid.uuid4().hex[:8]}"
    try:
        made = (
            subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False, timeout=10).returncode == 0
        )
        if made:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return made


class Host:
    """`run` prefixes a command so that it runs there."""

    def __init__(self, folder: Path, ports: Mapping[str, int], health_port: int) -> None:
        """`ports`: name of a Unix socket in `folder`, `NAME.sock`, that leads to a server → the port that it has on the
        host's loopback. `health_port` of the worker is offered as `health.sock`."""
        tag = uuid.uuid4().hex[:6]
        self._near, self._far = f"wfn{tag}", f"wff{tag}"
        self._folder, self._ports, self._health_port = folder, ports, health_port
        self._forwarders: list[subprocess.Popen[str]] = []

    @property
    def run(self) -> list[str]:
        return ["ip", "netns", "exec", self._near]

    @property
    def health(self) -> Path:
        return self._folder / "health.sock"

    def up(self) -> None:
        """Make the namespaces, the cable and the forwarders."""
        near, far = self._near, self._far
        for name in (near, far):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("link", "add", near, "netns", near, "type", "veth", "peer", "name", far, "netns", far)
        for name, address in ((near, HERE), (far, THERE)):
            _ip("-n", name, "addr", "add", f"{address}/30", "dev", name)
            _ip("-n", name, "link", "set", name, "up")
        sockets = self._folder
        outside = [f"tcp:{THERE}:{port}=unix:{sockets}/{name}.sock" for name, port in self._ports.items()]
        inside = [f"tcp:127.0.0.1:{port}=tcp:{THERE}:{port}" for port in self._ports.values()]
        inside.append(f"unix:{self.health}=tcp:127.0.0.1:{self._health_port}")
        self._forward(far, outside)
        self._forward(near, inside)

    def cut(self) -> None:
        """Pull the cable: what is sent is gone, and no connection learns of it."""
        _ip("-n", self._near, "link", "set", self._near, "down")

    def mend(self) -> None:
        _ip("-n", self._near, "link", "set", self._near, "up")

    def close(self) -> None:
        for forwarder in self._forwarders:
            forwarder.kill()
            forwarder.wait()
        for name in (self._near, self._far):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False, timeout=10)

    def _forward(self, name: str, pairs: Sequence[str]) -> None:
        line = ["ip", "netns", "exec", name, sys.executable, "-P", "-m", "tests.harness.forward", *pairs]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(line, env=env, stdout=subprocess.PIPE, text=True)
        self._forwarders.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n", f"the forwarder in {name} ended with {process.poll()}"


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False, timeout=10)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr.strip()}"
