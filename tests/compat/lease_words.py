"""Words for ids of leases, which servers draw at random."""

import base64
import re

# One drawn from 63 bits is smaller once in eight million draws.
DRAWN_MIN = 1 << 40
MAX = (1 << 63) - 1
# As text, padded or at the end of a key, and as a number.
HEXADECIMAL = r"(?<![0-9a-zA-Z-])[0-9a-f]{11,16}(?![0-9a-zA-Z])"
DECIMAL = r"(?<![0-9a-zA-Z.])\d{13,19}(?![0-9a-zA-Z.])"
# A key that bears an id, in JSON.
BASE64 = r'"([A-Za-z0-9+/]{16,}={0,2})"'
# What is left of the 600 seconds that leases are granted for here.
LEFT = r"(?<![\w.])5[5-9]\d(?=s?(?!\w))"
# What stands for an id in commands.
WORD = r"LEASE\d+"


class LeaseWords:
    """The ids that a server has given, in the order in which they were first seen: LEASE1, LEASE2, ..."""

    def __init__(self):
        self.seen = []

    def word(self, lease):
        """The word for an id."""
        if lease not in self.seen:
            self.seen.append(lease)
        return f"LEASE{self.seen.index(lease) + 1}"

    def word_of(self, text, base):
        """The word for an id as text; the small ones that commands make up stay as they are."""
        lease = int(text, base)
        return self.word(lease) if DRAWN_MIN <= lease < MAX else text

    def hide(self, line):
        """`line` with words for ids and for the seconds that are left. Other long numbers have been replaced before."""
        line = re.sub(BASE64, self.hide_in_key, line)
        line = re.sub(DECIMAL, lambda match: self.word_of(match[0], 10), line)
        line = re.sub(HEXADECIMAL, lambda match: self.word_of(match[0], 16), line)
        return re.sub(LEFT, "LEFT", line)

    def hide_in_key(self, match):
        """What JSON has in base64, as text if it bears an id."""
        try:
            text = base64.b64decode(match[1], validate=True).decode()
        except ValueError:
            return match[0]
        hidden = re.sub(HEXADECIMAL, lambda match: self.word_of(match[0], 16), text)
        return match[0] if hidden == text else f'base64 of "{hidden}"'

    def fill_in(self, text):
        """`text` with ids for the words."""
        return re.sub(WORD, lambda match: self.id(int(match[0].removeprefix("LEASE"))), text)

    def id(self, number):
        """The id of that number, as etcdctl takes it."""
        return f"{self.seen[number - 1]:016x}" if number <= len(self.seen) else f"no-LEASE{number}"
