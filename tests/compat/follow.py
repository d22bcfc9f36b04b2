"""Runs a command that does not end by itself, and what happens meanwhile."""

import dataclasses
import os
import selectors
import signal
import subprocess
import time

WAIT_SECONDS_MAX = 15
END_SECONDS_MAX = 5
# Between two tries at something that has not shown yet.
KNOCK_SECONDS = 0.05
# `watches` explains them.
STEP_SIGNS = ("$", "*", "<", ">", "!", "^", ".")
# Begins what is told when a step failed.
STUCK = "stuck: "


@dataclasses.dataclass(frozen=True)
class Step:
    """What happens next: one of `STEP_SIGNS` and the text behind it."""

    sign: str
    text: str


@dataclasses.dataclass
class Followed:
    """What a command printed. `code` is None if it ran until it was interrupted."""

    stdout: bytes
    stderr: bytes
    code: int | None


class Follower:
    """A running command, and how far its output has been looked at."""

    def __init__(self, argv, environment, is_text):
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=environment, bufsize=0)
        # Bytes have no lines.
        self.is_text = is_text
        self.printed = {">": b"", "!": b""}
        self.seen = {">": 0, "!": 0}
        self.pipes = selectors.DefaultSelector()
        self.pipes.register(self.process.stdout, selectors.EVENT_READ, ">")
        self.pipes.register(self.process.stderr, selectors.EVENT_READ, "!")

    def read(self, seconds_max):
        """Takes what has been printed; waits for something at most so long. False after the end of all output."""
        for key, _ in self.pipes.select(max(seconds_max, 0)):
            chunk = os.read(key.fd, 65536)
            self.printed[key.data] += chunk
            if not chunk:
                self.pipes.unregister(key.fileobj)
        return bool(self.pipes.get_map())

    def find(self, sign, text):
        """Whether a line with the text has been printed whole since the last one that was found."""
        printed = self.printed[sign]
        at = printed.find(text.encode(), self.seen[sign])
        end = printed.find(b"\n", at) + 1 if self.is_text else len(printed)
        if at < 0 or end == 0:
            return False
        self.seen[sign] = end
        return True

    def wait_for(self, sign, text):
        """Waits for a line with the text. False if it does not come."""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not self.find(sign, text):
            left = deadline - time.monotonic()
            if left <= 0 or not self.read(left):
                return self.find(sign, text)
        return True

    def knock(self, run):
        """Does something again and again until it shows. False if it never does."""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        before = len(self.printed[">"])
        while len(self.printed[">"]) == before:
            if time.monotonic() > deadline:
                return False
            run()
            if not self.read(KNOCK_SECONDS):
                return False
        return True

    def type(self, line):
        """Sends a line to standard input; a command that has ended does not hear it."""
        try:
            self.process.stdin.write(line.encode() + b"\n")
        except BrokenPipeError:
            pass

    def wait_for_end(self):
        """Waits until the command has ended by itself. False if it does not."""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while self.read(deadline - time.monotonic()):
            if time.monotonic() > deadline:
                return False
        self.process.wait(END_SECONDS_MAX)
        return True

    def interrupt(self):
        """Interrupts the command, takes the rest of its output, and gives its exit code."""
        self.process.send_signal(signal.SIGINT)
        self.wait_for_end()
        return self.process.returncode

    def close(self):
        """Leaves nothing behind, whatever has happened."""
        self.process.kill()
        self.process.wait()
        self.pipes.close()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()


def follow(argv, environment, steps, run, is_text=True):
    """Runs `argv` and takes the steps in turn, until one fails, which is then told on standard error. `run` runs another
    command, given as text, and returns what went wrong."""
    follower = Follower(argv, environment, is_text)
    try:
        complaint = ""
        for step in steps:
            complaint = take(follower, step, run)
            if complaint:
                break
        if steps[-1].sign == "." and not complaint:
            return Followed(follower.printed[">"], follower.printed["!"], follower.process.returncode)
        code = follower.interrupt()
        stdout, stderr = follower.printed[">"], follower.printed["!"]
        if complaint:
            stderr += f"\n{STUCK}{complaint}\n".encode()
        else:
            # What comes after the last line that was waited for comes at some time or never.
            stdout = stdout[:follower.seen[">"]]
        for step in steps:
            if step.sign == "*":
                stdout = stdout.rpartition(f"{step.text.split()[-1]}\n".encode())[2]
        return Followed(stdout, stderr, None if code == -signal.SIGINT else code)
    finally:
        follower.close()


def take(follower, step, run):
    """Takes one step. What went wrong, or nothing."""
    match step.sign:
        case "$":
            return run(step.text)
        case "<":
            return follower.type(step.text)
        case "*":
            return "" if follower.knock(lambda: run(step.text)) else f"not heard: {step.text}"
        case "^":
            return follower.process.stdin.close()
        case ".":
            return "" if follower.wait_for_end() else "did not end"
        case _:
            return "" if follower.wait_for(step.sign, step.text) else f"not printed: {step.text}"
