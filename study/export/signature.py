"""Who vouches for a bundle: an Ed25519 signature of its manifest, which holds all checksums.

Keys are PEM files as `openssl genpkey -algorithm ed25519` makes them, and the signature is the bare
64 bytes, so that an auditor needs nothing of this platform:

    openssl pkeyutl -verify -pubin -inkey KEY.pub -rawin -in manifest.json -sigfile manifest.sig
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from study.errors import BundleError, InputError


def sign(manifest: bytes, key: Path) -> bytes:
    """The signature of a manifest by a private key.

    Raises:
        InputError: The file holds no private Ed25519 key without a passphrase.
    """
    private = _load(key, "private")
    assert isinstance(private, Ed25519PrivateKey)
    return private.sign(manifest)


def check(manifest: bytes, signature: bytes | None, key: Path, uri: str) -> None:
    """Refuse a manifest that the owner of a key did not sign.

    Raises:
        InputError: The file holds no public Ed25519 key.
        BundleError: The bundle is not signed, or not by this key.
    """
    public = _load(key, "public")
    assert isinstance(public, Ed25519PublicKey)
    if signature is None:
        raise BundleError(f"{uri}: is not signed, but --key asks for it; ask for a signed bundle")
    try:
        public.verify(signature, manifest)
    except InvalidSignature:
        raise BundleError(
            f"{uri}: was not signed with the key of {key}, or was changed since; fetch it again "
            "from its source, or give the signer's --key"
        ) from None


def _load(path: Path, kind: str) -> Ed25519PrivateKey | Ed25519PublicKey:
    try:
        content = path.read_bytes()
        key = (
            load_pem_private_key(content, None)
            if kind == "private"
            else load_pem_public_key(content)
        )
        if not isinstance(key, Ed25519PrivateKey | Ed25519PublicKey):
            raise ValueError("another algorithm")
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        make = "openssl genpkey -algorithm ed25519 -out FILE"
        if kind == "public":
            make = "openssl pkey -in PRIVATE -pubout -out FILE"
        raise InputError(
            f"{path}: is no {kind} Ed25519 key in PEM ({error}); `{make}` makes one"
        ) from None
    return key
