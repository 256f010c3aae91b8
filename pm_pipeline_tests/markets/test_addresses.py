import pytest

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.addresses import parse_address

ADDRESS = "0x" + "aB" * 20


@pytest.mark.parametrize("text", [ADDRESS, ADDRESS.upper().replace("0X", "0x"), f"  {ADDRESS}\n"])
def test_an_address_is_read_in_any_case(text: str) -> None:
    assert parse_address(text) == "0x" + "ab" * 20


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ab" * 20, "write 0x and forty"),
        ("", "write 0x and forty"),
        ("0x12", "2 digits after 0x, and must have 40"),
        ("0x" + "ab" * 21, "42 digits"),
        ("0x" + "zz" * 20, "'z' is no hexadecimal digit"),
        ("vitalik.eth", "as on the wallet's profile page"),
    ],
)
def test_what_is_no_address_is_refused_with_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        parse_address(text)
    assert caught.value.exit_status == 2
