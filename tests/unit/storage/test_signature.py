"""Held to the worked examples of Amazon's S3 API reference ("Signature Calculations ... Examples")."""

from datetime import UTC, datetime

import pytest

from dumont.storage.signature import sign

KEY_ID = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
AT = datetime(2013, 5, 24, tzinfo=UTC)
HOST = "https://examplebucket.s3.amazonaws.com"


@pytest.mark.parametrize(
    ("url", "headers", "signature"),
    [
        (
            f"{HOST}/test.txt",
            {"Range": "bytes=0-9"},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            f"{HOST}/?lifecycle",
            None,
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            f"{HOST}/?max-keys=2&prefix=J",
            None,
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_gives_the_documented_signature(
    url: str, headers: dict[str, str] | None, signature: str
) -> None:
    signed = sign(
        method="GET",
        url=url,
        access_key_id=KEY_ID,
        secret_access_key=SECRET,
        at=AT,
        headers=headers,
    )
    assert signed["authorization"].endswith(f"Signature={signature}")


def test_the_secret_is_in_no_header() -> None:
    signed = sign(method="GET", url=HOST, access_key_id=KEY_ID, secret_access_key=SECRET)
    assert not [value for value in signed.values() if SECRET in value]
