"""A client that watches and does not read what comes: the least of HTTP/2 and of gRPC, by hand, so that nothing reads for it.

Its socket's buffer is as small as the system allows, so that what it does not read waits at the server. It can allow the
server little or much by HTTP/2's windows: with little the server must not send, with much it can not.
"""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, WINDOW_UPDATE = 0, 1, 4, 8
END_HEADERS = 4
INITIAL_WINDOW_SIZE = 4
WINDOW_BYTES_DEFAULT, WINDOW_BYTES_MAX = 65_535, 2**31 - 1
FRAME_HEADER_BYTES = 9
MESSAGE_HEADER_BYTES = 5
STREAM = 1
RECEIVE_BUFFER_BYTES = 4096
READ_SECONDS_MAX = 60
# Of etcd's messages, the fields that are needed.
CREATE_REQUEST, KEY, RANGE_END = 1, 1, 2
RESPONSE_CREATED, RESPONSE_EVENTS, EVENT_KV, MOD_REVISION = 3, 11, 2, 3


def frame(kind, flags, stream, payload):
    """A frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header(name, value):
    """A header, not compressed."""
    return b"".join([b"\0", *(bytes([len(text)]) + text.encode() for text in (name, value))])


def field(tag, payload):
    """A field of bytes, shorter than 128, of a message of protobuf."""
    return bytes([tag << 3 | 2, len(payload)]) + payload


def fields(message):
    """The fields of a message of protobuf, as pairs of a tag and a number or bytes."""
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        value, at = varint(message, at)
        if key & 7 == 2:
            value, at = message[at:at + value], at + value
        yield key >> 3, value


def varint(message, at):
    """The number at `at`, and where it ends."""
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at


class SilentWatcher:
    """One watcher of a prefix. Nothing is read until `read`."""

    def __init__(self, endpoint, prefix, window_bytes):
        host, port = endpoint.rsplit(":", 1)
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self.socket.settimeout(READ_SECONDS_MAX)
        self.socket.connect((host, int(port)))
        self.received = bytearray()
        self.message = bytearray()
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        watch = field(CREATE_REQUEST, field(KEY, prefix.encode()) + field(RANGE_END, end.encode()))
        headers = [(":method", "POST"), (":scheme", "http"), (":path", "/etcdserverpb.Watch/Watch"),
                   (":authority", endpoint), ("te", "trailers"), ("content-type", "application/grpc")]
        self.socket.sendall(PREFACE)
        self.send(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, window_bytes))
        if window_bytes > WINDOW_BYTES_DEFAULT:
            self.send(WINDOW_UPDATE, 0, 0, struct.pack(">I", window_bytes - WINDOW_BYTES_DEFAULT))
        self.send(HEADERS, END_HEADERS, STREAM, b"".join(header(*one) for one in headers))
        self.send(DATA, 0, STREAM, struct.pack(">BI", 0, len(watch)) + watch)
        while not any(tag == RESPONSE_CREATED for tag, _ in fields(self.next_message())):
            pass

    def send(self, kind, flags, stream, payload):
        """Sends a frame."""
        self.socket.sendall(frame(kind, flags, stream, payload))

    def read(self, count):
        """Reads until `count` events have come; returns their revisions."""
        revisions = []
        while len(revisions) < count:
            for tag, value in fields(self.next_message()):
                if tag == RESPONSE_EVENTS:
                    kv = dict(fields(dict(fields(value))[EVENT_KV]))
                    revisions.append(kv[MOD_REVISION])
        return revisions

    def next_message(self):
        """The next message of the stream."""
        while True:
            if len(self.message) >= MESSAGE_HEADER_BYTES:
                end = MESSAGE_HEADER_BYTES + struct.unpack_from(">I", self.message, 1)[0]
                if len(self.message) >= end:
                    message = bytes(self.message[MESSAGE_HEADER_BYTES:end])
                    del self.message[:end]
                    return message
            kind, payload = self.next_frame()
            if kind == DATA and payload:
                self.message += payload
                for stream in (0, STREAM):
                    self.send(WINDOW_UPDATE, 0, stream, struct.pack(">I", len(payload)))

    def next_frame(self):
        """The kind and the payload of the next frame, whatever stream it is of: there is one."""
        head = self.exactly(FRAME_HEADER_BYTES)
        return head[3], self.exactly(int.from_bytes(head[:3], "big"))

    def exactly(self, count):
        """The next `count` bytes."""
        while len(self.received) < count:
            more = self.socket.recv(1 << 20)
            if not more:
                raise SystemExit("the server closed the connection of the silent watcher")
            self.received += more
        taken = bytes(self.received[:count])
        del self.received[:count]
        return taken

    def close(self):
        """Goes away without a word."""
        self.socket.close()
