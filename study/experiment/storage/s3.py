"""Results in a bucket of S3, or of a server that speaks its language (AWS_ENDPOINT_URL).

Credentials, region, endpoint and certificates are found as by every other tool of AWS: variables,
profile, role. boto3 fetches them anew before they expire; none is kept here, and no message shows
one. Every object carries its SHA-256 as metadata, which a reader compares.
"""

from __future__ import annotations

import hashlib
import io
import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore import exceptions as boto
from botocore.config import Config

from study.errors import StorageError
from study.experiment.storage.s3_errors import REFUSED, code_of, explained

PART_BYTES = 16 * 2**20
"""Larger objects go up in parts of this size, several at a time."""
READERS = 16
"""Objects that are fetched at a time."""
ATTEMPTS = 10
"""Of one request, with growing pauses: about a minute in which a server may be away."""
CONFLICT = ("ConditionalRequestConflict", "409")
"""Another conditional write of the same key is under way."""
CONFLICTS = 10
"""Times that a conditional write is tried against others."""
EXISTS = ("PreconditionFailed", "412")
BROKEN_READS = 5
"""Times that an object is fetched whose content does not come, or is not what was put."""
SHA256 = "sha256"
WRITER = "writer"
"""Names of metadata: an object's digest, and which call created it."""


class S3Storage:
    """Objects below `s3://bucket/prefix`."""

    def __init__(self, uri: str):
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        prefix = prefix.strip("/")
        if not bucket:
            raise StorageError(f"{uri}: names no bucket; give s3://bucket/prefix")
        self.bucket = bucket
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        with explained(self.uri):
            self._client = _connect(ATTEMPTS)

    def check(self) -> None:
        """Refuse at once a bucket that cannot be used.

        Raises:
            StorageError: Says which of endpoint, bucket and credentials to mend.
        """
        with explained(self.uri):
            hasty = _connect(2, connect_timeout=5, read_timeout=15)
            hasty.list_objects_v2(Bucket=self.bucket, Prefix=self._prefix, MaxKeys=1)

    def read(self, key: str) -> bytes:
        with explained(f"{self.uri}/{key}"):
            for attempt in range(1, BROKEN_READS + 1):
                try:
                    return self._read(key)
                except _BrokenReadError as error:
                    broken = error
                _pause(attempt)
        raise StorageError(
            f"{self.uri}/{key}: could not be read whole in {BROKEN_READS} attempts ({broken}); "
            "restore it from a copy if it is damaged"
        )

    def _read(self, key: str) -> bytes:
        found = self._call("get_object", key)
        try:
            content: bytes = found["Body"].read()
        except (
            boto.HTTPClientError,
            boto.IncompleteReadError,
            boto.FlexibleChecksumError,
        ) as error:
            raise _BrokenReadError(type(error).__name__) from None
        if found["Metadata"].get(SHA256) not in (None, _sha256(content)):
            raise _BrokenReadError("its content differs from its SHA-256")
        return content

    def read_all(self, keys: Sequence[str]) -> Iterator[bytes]:
        with ThreadPoolExecutor(READERS) as pool:
            yield from pool.map(self.read, keys)

    def write(self, key: str, content: bytes) -> None:
        metadata = {SHA256: _sha256(content)}
        with explained(f"{self.uri}/{key}"):
            if len(content) <= PART_BYTES:
                self._call("put_object", key, Body=content, Metadata=metadata)
                return
            parts = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES)
            self._with_client(
                lambda client: client.upload_fileobj(
                    io.BytesIO(content),
                    self.bucket,
                    self._prefix + key,
                    ExtraArgs={"Metadata": metadata},
                    Config=parts,
                )
            )

    def create(self, key: str, content: bytes) -> None:
        # The answer to a request that succeeded may be lost: the next attempt then finds an object
        # there, and knows it for its own by this.
        writer = uuid.uuid4().hex
        metadata = {SHA256: _sha256(content), WRITER: writer}
        with explained(f"{self.uri}/{key}"):
            for attempt in range(1, CONFLICTS + 1):
                try:
                    self._call("put_object", key, Body=content, Metadata=metadata, IfNoneMatch="*")
                    return
                except boto.ClientError as error:
                    if code_of(error) in EXISTS:
                        break
                    if code_of(error) not in CONFLICT:
                        raise
                _pause(attempt)
            else:
                raise StorageError(
                    f"{self.uri}/{key}: others write it all the time; see who else uses this place"
                )
            if self._call("head_object", key)["Metadata"].get(WRITER) != writer:
                raise FileExistsError(f"{self.uri}/{key}")

    def delete(self, key: str) -> None:
        with explained(f"{self.uri}/{key}"):
            self._call("delete_object", key)

    def keys(self, prefix: str) -> list[str]:
        found: list[str] = []
        with explained(self.uri):
            place = {"Prefix": self._prefix + prefix}
            while True:
                page = self._request("list_objects_v2", **place)
                found += [o["Key"].removeprefix(self._prefix) for o in page.get("Contents", ())]
                if not page["IsTruncated"]:
                    return sorted(found)
                place["ContinuationToken"] = page["NextContinuationToken"]

    def digest(self, key: str) -> str | None:
        try:
            with explained(f"{self.uri}/{key}"):
                metadata = self._call("head_object", key)["Metadata"]
        except FileNotFoundError:
            return None
        return metadata[SHA256] if SHA256 in metadata else _sha256(self.read(key))

    def _call(self, operation: str, key: str, **arguments: Any) -> Any:
        """Answer of the server to a request about an object."""
        return self._request(operation, Key=self._prefix + key, **arguments)

    def _request(self, operation: str, **arguments: Any) -> Any:
        """Answer of the server to a request."""
        return self._with_client(
            lambda client: getattr(client, operation)(Bucket=self.bucket, **arguments)
        )

    def _with_client(self, act: Callable[[Any], Any]) -> Any:
        """What comes of an act; a second time with fresh credentials, if those at hand are refused:
        they may have been replaced where they are kept, which boto3 looks at only once."""
        try:
            return act(self._client)
        except boto.ClientError as error:
            if code_of(error) not in REFUSED:
                raise
        self._client = _connect(ATTEMPTS)
        return act(self._client)


class _BrokenReadError(Exception):
    """An answer began well, and its content is not what was put."""


def _connect(attempts: int, *, connect_timeout: int = 10, read_timeout: int = 20) -> Any:
    """A client with the credentials that are there now; safe to share between threads."""
    config = Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        max_pool_connections=READERS,
        tcp_keepalive=True,
    )
    return boto3.session.Session().client("s3", config=config)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _pause(attempt: int) -> None:
    time.sleep(random.uniform(0.0, min(0.1 * 2**attempt, 5.0)))
