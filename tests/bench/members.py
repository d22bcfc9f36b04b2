"""What members say of themselves, and how long they need when one of them is killed."""

import json
import signal
import subprocess
import time

from servers import clean_environment

FAILOVER_SECONDS_MAX = 60
# A request that finds no leader waits at the server; another one is therefore tried after so long.
ATTEMPT_SECONDS = 0.1


def member_status(etcdctl, member):
    """What `member` says of itself."""
    command = [str(etcdctl), "--endpoints", member.endpoint, "-w", "json", "endpoint", "status"]
    answer = subprocess.run(command, capture_output=True, check=True, env=clean_environment()).stdout
    return json.loads(answer)[0]["Status"]


def is_leader(etcdctl, member):
    """Whether `member` says that it leads."""
    status = member_status(etcdctl, member)
    return status["header"]["member_id"] == status["leader"]


def find_leader(etcdctl, cluster):
    """The member that leads."""
    return next(member for member in cluster.members if is_leader(etcdctl, member))


def failover_seconds(cluster, leader, etcdctl, *request):
    """From the kill of `leader` to the first `request`, of etcdctl, that one of the others answers."""
    others = [member for member in cluster.members if member is not leader]
    begun = time.monotonic()
    leader.stop(signal.SIGKILL)
    while time.monotonic() - begun < FAILOVER_SECONDS_MAX:
        for member in others:
            if is_answered([str(etcdctl), "--endpoints", member.endpoint, *request]):
                return time.monotonic() - begun
    raise SystemExit(f"no answer within {FAILOVER_SECONDS_MAX} s of the kill:\n{others[0].log_tail()}")


def is_answered(command):
    """Whether `command` succeeds soon."""
    try:
        return subprocess.run(command, capture_output=True, env=clean_environment(), timeout=ATTEMPT_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def restart_seconds(cluster, member, etcdctl):
    """From the start of `member`, which was killed, to its first linearizable read."""
    begun = time.monotonic()
    member.start()
    cluster.wait_ready(etcdctl, member)
    return time.monotonic() - begun
