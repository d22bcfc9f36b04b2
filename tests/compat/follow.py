"""Runs commands that do not end by themselves, and what happens meanwhile."""

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
STEP_SIGNS = ("$", "*", "<", ">", "!", "^", ".", "?", "&", "@", "x")
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
        self.has_ended = False
        self.knocks = []
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

    def knock(self, run, text):
        """Does something again and again until it shows. False if it never does."""
        self.knocks.append(f"{text.split()[-1]}\n".encode())
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        before = len(self.printed[">"])
        while len(self.printed[">"]) == before:
            if time.monotonic() > deadline:
                return False
            run(text)
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
        self.has_ended = True
        return True

    def interrupt(self, name=""):
        """Interrupts the command, or sends it the signal of that name, and takes the rest of its output. False if it does
        not end."""
        self.process.send_signal(signal.Signals[f"SIG{name or 'INT'}"])
        return self.wait_for_end()

    def finish(self, complaint):
        """What the command has printed; one that still runs is interrupted. `complaint` is what went wrong, or nothing."""
        had_ended = self.has_ended
        if not had_ended:
            self.interrupt()
        code, stdout, stderr = self.process.returncode, self.printed[">"], self.printed["!"]
        if complaint:
            stderr += f"\n{STUCK}{complaint}\n".encode()
        elif not had_ended:
            # What comes after the last line that was waited for comes at some time or never.
            stdout = stdout[:self.seen[">"]]
        for end in self.knocks:
            stdout = stdout.rpartition(end)[2]
        return Followed(stdout, stderr, None if code == -signal.SIGINT and not had_ended else code)

    def close(self):
        """Leaves nothing behind, whatever has happened."""
        self.process.kill()
        self.process.wait()
        self.pipes.close()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()


class Scene:
    """All commands that run at once. Steps are about one of them."""

    def __init__(self, client, argv, environment, is_text):
        self.client = client
        self.environment = environment
        self.is_text = is_text
        self.followers = []
        self.add(argv)

    def add(self, argv):
        """Starts a command; steps are about it from now on."""
        self.followers.append(Follower(argv, self.environment, self.is_text))
        self.current = self.followers[-1]

    def take(self, step):
        """Takes one step. What went wrong, or nothing."""
        follower = self.current
        match step.sign:
            case "$":
                return self.client.change(step.text)
            case "<":
                return follower.type(step.text)
            case "*":
                return "" if follower.knock(self.client.change, step.text) else f"not heard: {step.text}"
            case "?":
                return self.ask(*step.text.split(" => "))
            case "&":
                return self.add(self.client.argv(step.text))
            case "@":
                self.current = self.followers[int(step.text) - 1]
            case "^":
                return follower.process.stdin.close()
            case ".":
                return "" if follower.wait_for_end() else "did not end"
            case "x":
                return "" if follower.interrupt(step.text) else "did not end when it was interrupted"
            case _:
                if not follower.wait_for(step.sign, step.text):
                    return f"not printed: {step.text}"
                if self.is_text:
                    self.client.note(follower.printed[step.sign].decode())

    def ask(self, text, line):
        """Runs a command again and again until it prints that line. What went wrong, or nothing."""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while line not in self.client.output(text).splitlines():
            if time.monotonic() > deadline:
                return f"not true: {text} => {line}"
            time.sleep(KNOCK_SECONDS)
        return ""


def follow(client, argv, environment, steps, is_text=True):
    """Runs `argv` and takes the steps in turn, until one fails, which is then told on standard error. What each of the
    commands printed, in the order in which they were started. `client` runs the commands in the steps."""
    scene = Scene(client, argv, environment, is_text)
    try:
        complaint = ""
        for step in steps:
            complaint = scene.take(step)
            if complaint:
                break
        return [follower.finish(complaint if follower is scene.current else "") for follower in scene.followers]
    finally:
        for follower in scene.followers:
            follower.close()
