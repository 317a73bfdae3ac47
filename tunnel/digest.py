"""hashlib's BLAKE2s and hmac's constant-time comparison, from where CPython has them.

`import hashlib` and `import hmac` also load OpenSSL for other hashes: 3.4 MB of an idle
`tunnel-wg` that has no use for them.
"""

from __future__ import annotations

from _blake2 import blake2s
from _operator import _compare_digest as compare_digest

__all__ = ["blake2s", "compare_digest"]
