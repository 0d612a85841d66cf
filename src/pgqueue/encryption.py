"""Payloads that the database cannot read: a codec over Fernet, of `cryptography`.

Needs the extra `encryption`. What stays readable, and how keys are rotated: docs/security.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pgqueue import jsontext
from pgqueue.arguments import number_array
from pgqueue.codec import Codec, PlainCodec
from pgqueue.errors import ConfigurationError, DecryptionError
from pgqueue.statements import Statement

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

    from pgqueue.client import Client
    from pgqueue.jsontext import Json

_MARK = "$encrypted"
_TABLES = (
    ("schedule", "order by j.id limit %s for update"),
    # Locked until they are written, so that no claim hands out what is about to be replaced.
    ("job", "and j.lease_until is null order by j.id limit %s for update skip locked"),
)
"""Where payloads are, with which of them are found, and how they are locked."""


class EncryptedCodec:
    """Encrypts payloads in this process, and decrypts them in the worker's.

    A payload is stored as `{"$encrypted": {"key": ..., "data": ...}}`: the id of its key, and a
    Fernet token (AES-128-CBC, HMAC-SHA256), which has a third more bytes. Payloads that are stored
    as they are, because they were enqueued without this codec, stay readable to the handler. It
    decrypts for kinds without a declared type, too.

    Args:
        keys: of `new_key`. The first encrypts, all decrypt: so a key is replaced by putting the new
            one behind the old, everywhere, and then before it.
        inner: makes JSON of payloads, and values of JSON; `PlainCodec` by default.

    Raises:
        ConfigurationError: a key is none, or `cryptography` is not installed.
    """

    untyped = True

    def __init__(self, keys: Sequence[str | bytes], *, inner: Codec | None = None) -> None:
        if isinstance(keys, (str, bytes)) or not keys:
            raise ConfigurationError(
                "keys is no list of keys; pass one or more of EncryptedCodec.new_key()"
            )
        self._inner: Codec = inner or PlainCodec()
        self._keys: dict[str, Fernet] = {}
        for key in keys:
            name, made = _key(key)
            self._keys.setdefault(name, made)
        self._first = next(iter(self._keys))

    @staticmethod
    def new_key() -> str:
        """A new, random key. Keep it where secrets are kept, and for as long as its jobs."""
        return _fernet().generate_key().decode()

    @property
    def key_ids(self) -> Sequence[str]:
        """The ids of the keys, in their order: what stands beside each payload."""
        return tuple(self._keys)

    def encode(self, value: Any) -> Json:  # noqa: ANN401
        """What `inner` makes of `value`, encrypted with the first key.

        Raises:
            PayloadError: it is not JSON.
        """
        return self._encrypted(jsontext.dumps(self._inner.encode(value)))

    def decode(self, payload: Json, wanted: type[Any]) -> Any:  # noqa: ANN401
        """What `inner` makes of the decrypted payload.

        Raises:
            DecryptionError: its key is not among ours, or it is not what was encrypted.
        """
        if not isinstance(payload, dict) or _MARK not in payload:
            return self._inner.decode(payload, wanted)
        plain: Json = jsontext.loads(self._decrypted(payload[_MARK]))
        return self._inner.decode(plain, wanted)

    def same(self, stored: Json, payload: Json) -> bool:
        """Whether both are encrypted with the first key, and have the same text in them."""
        boxes = [each.get(_MARK) if isinstance(each, dict) else None for each in (stored, payload)]
        if any(not isinstance(box, dict) or box.get("key") != self._first for box in boxes):
            return False
        try:
            return self._decrypted(boxes[0]) == self._decrypted(boxes[1])
        except DecryptionError:
            return False

    def renewed(self, payload: Json) -> Json:
        """An encrypted payload under the first key.

        Raises:
            DecryptionError: as in `decode`.
        """
        stored: Any = payload
        return self._encrypted(self._decrypted(stored[_MARK]))

    def _encrypted(self, text: str) -> Json:
        data = self._keys[self._first].encrypt(text.encode())
        return {_MARK: {"key": self._first, "data": data.decode()}}

    def _decrypted(self, box: Any) -> str:  # noqa: ANN401 - whatever is stored
        key = str(box.get("key")) if isinstance(box, dict) else ""
        if key not in self._keys:
            raise DecryptionError(
                key, f"none of this codec's keys ({', '.join(self._keys)}) is the payload's ({key})"
            )
        from cryptography.fernet import InvalidToken  # noqa: PLC0415 - an extra

        try:
            return self._keys[key].decrypt(str(box.get("data")).encode()).decode()
        except InvalidToken:
            raise DecryptionError(key, f"the payload is not what key {key} encrypted") from None


def reencrypt(client: Client, codec: EncryptedCodec, *, batch: int = 500) -> int:
    """Gives the first key to the payloads of schedules and of jobs that wait.

    In transactions of `batch` of them. It passes over jobs that run, and what has a key that is not
    among the codec's: when it returns 0, no schedule and no waiting job has one of the older keys.
    Finished jobs keep theirs. Needs the access `worker`.

    Returns:
        How many had another key.
    """
    # First the schedules: they make jobs.
    return sum(_reencrypted(client, codec, batch, *table) for table in _TABLES)


def _reencrypted(
    client: Client, codec: EncryptedCodec, batch: int, table: str, condition: str
) -> int:
    s, done, last = client.statements.quoted, 0, -1
    find = (
        f"select j.id, j.payload::text from {s}.{table} j where j.id > %s "
        f"and j.payload -> '{_MARK}' ->> 'key' = any(%s::text[]) "
        f"{condition}"
    )
    store = (
        f"update {s}.{table} j set payload = c.payload "
        "from unnest(%s::bigint[], %s::text[]::jsonb[]) c (id, payload) where j.id = c.id "
        "returning j.id"
    )
    older = list(codec.key_ids[1:])
    while True:
        with client.driver.transaction() as conn:
            found = client.driver.execute(Statement(find, (last, older, batch), list), conn)
            if not found:
                return done
            last = found[-1][0]
            renewed = {job: text for job, payload in found if (text := _renewed(codec, payload))}
            params = (number_array(renewed), list(renewed.values()))
            done += len(client.driver.execute(Statement(store, params, list), conn))


def _renewed(codec: EncryptedCodec, payload: str) -> str | None:
    """A payload's text under the first key; None if it cannot be read."""
    try:
        return jsontext.dumps(codec.renewed(jsontext.loads(payload)))
    except DecryptionError:
        return None


def _key(key: str | bytes) -> tuple[str, Fernet]:
    try:
        made = _fernet()(key)
    except (ValueError, TypeError):
        # Its text would quote the key.
        raise ConfigurationError(
            "a key is not 32 bytes in URL-safe base64; make one with EncryptedCodec.new_key()"
        ) from None
    raw = key.encode() if isinstance(key, str) else key
    return hashlib.sha256(b"pgqueue key id " + raw).hexdigest()[:8], made


def _fernet() -> type[Fernet]:
    try:
        from cryptography.fernet import Fernet  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError(
            "cryptography is not installed; pip install 'pgqueue-jobs[encryption]'"
        ) from error
    return Fernet
