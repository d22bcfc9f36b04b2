"""Starts and stops members of etcd and of kvorum alike, on free ports of 127.0.0.1.

Both take the same flags under the same names, which is half of what is being compared.
"""

import ctypes
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
READY_SECONDS_MAX = 60
STOP_SECONDS_MAX = 20
PR_SET_PDEATHSIG = 1


def free_ports(count):
    """Ports that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def clean_environment(**more):
    """The environment without settings meant for another etcd or kvorum."""
    prefixes = ("ETCD_", "ETCDCTL_", "KVORUM_", "KVORUMCTL_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(prefixes)}
    return {**kept, **more}


def die_with_parent():
    """A member must not outlive an interrupted comparison."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Member:
    """One server process. Its data stays in `folder` between `stop` and `start`."""

    def __init__(self, binary, name, folder, client_port, peer_port, flags):
        self.name = name
        self.folder = folder
        self.endpoint = f"127.0.0.1:{client_port}"
        self.peer_url = f"http://127.0.0.1:{peer_port}"
        self.argv = [str(binary), *flags]
        self.process = None

    def start(self):
        """Starts the process; its output is appended to a log beside its data."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=clean_environment(), preexec_fn=die_with_parent)

    def stop(self, how=signal.SIGTERM):
        """Ends the process and waits for it."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def log_tail(self):
        """The last lines of the log, for a message."""
        lines = (self.folder / "log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-15:])


class Cluster:
    """Members of one binary. Use with `with`; the data goes when the block ends."""

    def __init__(self, binary, folder, members=1, flags=(), log_level="warn"):
        self.folder = pathlib.Path(folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        ports = free_ports(2 * members)
        names = [f"m{number}" for number in range(1, members + 1)]
        peers = ",".join(f"{name}=http://127.0.0.1:{port}" for name, port in zip(names, ports[members:]))
        self.members = []
        for name, client_port, peer_port in zip(names, ports, ports[members:]):
            home = self.folder / name
            self.members.append(Member(binary, name, home, client_port, peer_port, [
                "--name", name,
                "--data-dir", str(home / "data"),
                "--listen-client-urls", f"http://127.0.0.1:{client_port}",
                "--advertise-client-urls", f"http://127.0.0.1:{client_port}",
                "--listen-peer-urls", f"http://127.0.0.1:{peer_port}",
                "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer_port}",
                "--initial-cluster", peers,
                "--log-level", log_level,
                *flags,
            ]))

    @property
    def endpoints(self):
        """All client endpoints, joined as clients take them."""
        return ",".join(member.endpoint for member in self.members)

    @property
    def pids(self):
        """The process ids of the members that run."""
        return [member.process.pid for member in self.members if member.process]

    def start(self, etcdctl):
        """Starts every member and waits until each answers a linearizable read."""
        for member in self.members:
            member.start()
        for member in self.members:
            self.wait_ready(etcdctl, member)

    def wait_ready(self, etcdctl, member):
        """Waits until `member` answers a linearizable read."""
        deadline = time.monotonic() + READY_SECONDS_MAX
        command = [str(etcdctl), "--endpoints", member.endpoint, "--command-timeout=2s", "get", "ready"]
        while subprocess.run(command, capture_output=True, env=clean_environment()).returncode != 0:
            if member.process.poll() is not None:
                raise SystemExit(f"{member.argv[0]} {member.name} ended early:\n{member.log_tail()}")
            if time.monotonic() > deadline:
                raise SystemExit(f"{member.argv[0]} {member.name} is not ready:\n{member.log_tail()}")
            time.sleep(0.05)

    def stop(self):
        """Ends every member."""
        for member in self.members:
            member.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
