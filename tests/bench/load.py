"""Runs `kvorumctl bench` against members of either server, and says what they run on."""

import json
import os
import pathlib
import platform
import subprocess
import sys
import time

from servers import clean_environment

VALUE_BYTES = 256
KEY_SPACE = 100_000


class Load:
    """Runs `kvorumctl bench` and reads its one JSON object."""

    def __init__(self, kvorumctl, seconds):
        self.kvorumctl = kvorumctl
        self.seconds = seconds

    def run(self, cluster, operation, clients, connections, *more, may_fail=False):
        """The figures of one run of `operation` against all members of `cluster`. One that fails has none, and one that
        finds watchers badly served has some all the same: with `may_fail` these are for the caller to judge."""
        command = [str(self.kvorumctl), "--endpoints", cluster.endpoints, "-w", "json", "bench", operation,
                   "--clients", str(clients), "--conns", str(connections), "--val-size", str(VALUE_BYTES),
                   "--pids", ",".join(map(str, cluster.pids)), *map(str, more)]
        if "--key-space-size" not in more:
            command += ["--key-space-size", str(KEY_SPACE)]
        if "--total" not in more:
            command += ["--duration", f"{self.seconds}s"]
        done = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
        if not done.stdout.startswith("{") or (done.returncode != 0 and not may_fail):
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        figures = json.loads(done.stdout)
        if figures["error_count"]:
            print(f"  {figures['error_count']} errors in {operation} with {clients} clients: {figures['errors']}",
                  file=sys.stderr)
        return figures


def resident_mb(pids):
    """What the processes hold in memory, in MB."""
    total_kib = 0
    for pid in pids:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        total_kib += next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    return total_kib * 1024 / 1e6


def cpu_seconds(pids):
    """What the processes have used of the processors so far."""
    ticks = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def wait_until_idle(pids, seconds_max=300):
    """Returns once the processes have done next to nothing for two seconds; what they were told to do may go on long after
    the answer."""
    end = time.monotonic() + seconds_max
    while time.monotonic() < end:
        before = cpu_seconds(pids)
        time.sleep(2)
        if cpu_seconds(pids) - before < 0.05:
            return
    raise SystemExit(f"the servers are still busy after {seconds_max} s")


def describe_machine():
    """What the figures were measured on, in a line."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    names = [line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]
    return (f"{os.cpu_count()} cores ({names[0] if names else platform.machine()}), {memory_gib:.0f} GiB, "
            f"Linux {platform.release()}")
