from __future__ import annotations

import copy
import json
import pickle
import traceback

import msgspec
import pytest

from bot.core.secret import Secret

TEXT = "correct horse battery staple"


def test_a_secret_is_shown_only_on_request() -> None:
    secret = Secret(TEXT)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r:>9}", f"{secret:>9}", "%s" % secret, repr([secret])]  # noqa: UP031
    assert not any(TEXT in text for text in shown)
    assert str(secret) == "***"
    assert secret.reveal() == TEXT


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_is_never_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(Secret(TEXT), protocol)


@pytest.mark.parametrize("encode", [json.dumps, msgspec.json.encode, msgspec.msgpack.encode])
def test_a_secret_is_never_encoded(encode: object) -> None:
    assert callable(encode)
    with pytest.raises(TypeError):
        encode(Secret(TEXT))


def test_a_secret_has_no_dictionary_and_is_no_key_of_one() -> None:
    with pytest.raises(TypeError):
        vars(Secret(TEXT))
    with pytest.raises(TypeError):
        hash(Secret(TEXT))


def test_a_copy_is_the_same_secret() -> None:
    secret = Secret(TEXT)
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret


def test_secrets_are_equal_when_their_texts_are() -> None:
    assert Secret(TEXT) == Secret(TEXT)
    assert Secret(TEXT) != Secret("other")
    assert Secret("\udc80") != Secret("\u00e9")
    assert Secret(TEXT) != TEXT


def test_a_traceback_with_locals_does_not_show_it() -> None:
    secret = Secret(TEXT)
    with pytest.raises(TypeError) as error:
        hash(secret)
    shown = "".join(traceback.TracebackException.from_exception(error.value, capture_locals=True).format())
    assert "***" in shown
    assert f"'{TEXT}'" not in shown


def test_an_empty_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Secret("")
