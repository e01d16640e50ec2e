"""Keys that are handed out wrong, because a test wants to see who notices.

The true operation is done in any case, so that nothing else about its answer tells.
"""

import os

WRONG = ("swap_keys", "same_key", "short_key", "long_key", "zero_key")


class Plaintexts:
    """The plaintexts that one service saw."""

    def __init__(self):
        self.forget()

    def forget(self):
        self.last, self.before, self.always = None, None, {}

    def new(self, call, size):
        """A data key, of which the wrap will be: `same_key` hands one out again and again."""
        if not call.spoils("same_key"):
            return self._seen(os.urandom(size))
        return self._seen(self.always.setdefault(size, os.urandom(size)))

    def taken(self, call, plaintext):
        """What a client wants to have wrapped; `swap_keys` wraps another one in its place."""
        self._seen(plaintext)
        return self._another(plaintext) if call.spoils("swap_keys") else plaintext

    def shown(self, call, plaintext):
        """What a client is told that its wrap holds."""
        self._seen(plaintext)
        if call.spoils("swap_keys"):
            return self._another(plaintext)
        if call.spoils("same_key"):
            return self.always.setdefault(len(plaintext), plaintext)
        if call.spoils("short_key"):
            return plaintext[:-1]
        if call.spoils("long_key"):
            return plaintext + plaintext[:1]
        return bytes(len(plaintext)) if call.spoils("zero_key") else plaintext

    def _seen(self, plaintext):
        if plaintext != self.last:
            self.last, self.before = plaintext, self.last
        return plaintext

    def _another(self, plaintext):
        """The one before, as somebody else's; a made-up one when there was none."""
        if self.before is not None and len(self.before) == len(plaintext):
            return self.before
        return os.urandom(len(plaintext))
