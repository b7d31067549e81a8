"""Context classes: their order, and what methods and claims say of a login."""

from itertools import product

import pytest

from authapi.domain.factors.authentication_context import (
    ACR_VALUES,
    METHODS,
    acr_of,
    acr_of_claims,
    meets_acr,
    strongest,
)

ONE, TWO, PHR = ACR_VALUES


@pytest.mark.parametrize(
    ("amr", "acr"),
    [
        ((), None),
        (("pwd",), ONE),
        (("fed",), ONE),
        (("pop", "user"), ONE),
        (("pwd", "otp"), ONE),
        (("pwd", "otp", "mfa"), TWO),
        (("mfa",), TWO),
        (("pop", "user", "mfa"), PHR),
        (("mfa", "hwk", "pop"), PHR),
    ],
)
def test_methods_of_our_logins(amr: tuple[str, ...], acr: str | None) -> None:
    assert acr_of(amr) == acr


def test_each_class_has_methods() -> None:
    assert tuple(METHODS) == ACR_VALUES
    assert all(acr_of(amr) == acr for acr, amr in METHODS.items())


@pytest.mark.parametrize(
    ("claims", "amr", "acr"),
    [
        ({}, (), None),
        ({}, ("pwd",), ONE),
        ({}, ("pwd", "mfa"), TWO),
        ({}, ("pop", "mfa"), TWO),
        ({"acr": None}, ("pwd", "mfa"), TWO),
        ({"acr": ONE}, ("pwd", "mfa"), ONE),
        ({"acr": PHR}, ("pwd",), PHR),
        ({"acr": PHR}, (), None),
        ({"acr": "0"}, ("pwd", "mfa"), None),
        ({"acr": "Phr"}, ("pwd", "mfa"), None),
        ({"acr": ("phr",)}, ("pwd", "mfa"), None),
    ],
)
def test_claims_of_other_issuers(
    claims: dict[str, object], amr: tuple[str, ...], acr: str | None
) -> None:
    assert acr_of_claims(claims, amr) == acr


def test_a_stronger_class_meets_a_weaker_one() -> None:
    for (place, acr), (other_place, other) in product(enumerate(ACR_VALUES), repeat=2):
        assert meets_acr(acr, other) is (place >= other_place)
        assert strongest(acr, other) == ACR_VALUES[max(place, other_place)]
    for acr in ACR_VALUES:
        assert not meets_acr(None, acr)
        for unknown in ("", "0", "PHR"):
            with pytest.raises(ValueError, match="not in"):
                meets_acr(acr, unknown)
            with pytest.raises(ValueError, match="not in"):
                strongest(acr, unknown)
