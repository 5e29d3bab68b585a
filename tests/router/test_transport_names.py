"""Which transport a name stands for."""

from __future__ import annotations

from typing import Any

import pytest

from router.errors import ConfigurationError
from router.httpx_transport import HttpxTransport
from seawall import transports
from seawall.transports import NAMES, transport_named
from seawall.transports.httptools_transport import HttptoolsTransport
from seawall.transports.pyreqwest_transport import PyreqwestTransport


def test_each_name_is_a_transport_and_auto_is_the_first() -> None:
    """Every name of the setting makes its transport; `auto` makes the fastest."""
    kinds = [HttptoolsTransport, HttptoolsTransport, PyreqwestTransport, HttpxTransport]
    assert [type(transport_named(name)) for name in NAMES] == kinds


@pytest.mark.parametrize(
    ("missing", "kind"), [({"httptools"}, PyreqwestTransport), ({"httptools", "pyreqwest"}, HttpxTransport)]
)
def test_what_is_not_installed_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, missing: set[str], kind: type[Any]
) -> None:
    """`auto` takes what is there; a name whose package is not there is refused with the extra that brings it."""
    monkeypatch.setattr(transports, "find_spec", lambda name: None if name in missing else object())
    assert isinstance(transport_named("auto"), kind)
    with pytest.raises(ConfigurationError, match=r"TRANSPORT=httptools needs .* 'seawall\[gateway\]'"):
        transport_named("httptools")
