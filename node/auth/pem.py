"""Public keys out of a PEM file: one block after the other, as public keys or as the certificates that hold them."""

import re

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate

from node.auth.keys import Key, UnfitKey, public_key

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----.*?-----END \1-----", re.DOTALL)
_PUBLIC = (b"PUBLIC KEY", b"RSA PUBLIC KEY")
_SILENT = (b"EC PARAMETERS",)  # some tools write it before a key; the key itself names its curve


def keys_of_pem(content: bytes) -> tuple[Key, ...]:
    """The keys of all blocks, none with a `kid`; of a certificate only its key counts, not its dates or its chain.

    Raises `UnfitKey` with the number of the block that is not one, or when there is none.
    """
    found = []
    blocks = [match for match in _BLOCK.finditer(content) if match[1] not in _SILENT]
    for number, match in enumerate(blocks, 1):
        try:
            found.append(public_key(_loaded(match[1], match[0])))
        except (ValueError, UnsupportedAlgorithm) as error:
            reason = str(error) if isinstance(error, UnfitKey) else "it cannot be read"
            raise UnfitKey(f"block {number}: {reason}") from None
    if not found:
        raise UnfitKey("no PEM block of a public key in it")
    return tuple(found)


def _loaded(label: bytes, block: bytes) -> object:
    if label == b"CERTIFICATE":
        return load_pem_x509_certificate(block).public_key()
    if label not in _PUBLIC:
        raise UnfitKey("it is neither a public key nor a certificate")
    return load_pem_public_key(block)
