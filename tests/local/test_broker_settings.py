"""The settings of embedded brokers."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftjm.local.broker_settings import Listener, Node, client_settings, server_properties

PASSWORD = "0123456789abcdef"
LINKED = Listener("LINKED", 40, 41)


@pytest.mark.parametrize("nodes", [1, 3])
def test_with_a_password_every_listener_asks_for_it(nodes: int) -> None:
    found = server_properties(Node(0, nodes, 19092, Path("/data"), (LINKED,), PASSWORD))
    listeners = [one.partition(":")[0] for one in found["listeners"].split(",")]
    assert listeners == ["SASL_PLAINTEXT", "CONTROLLER", "LINKED"]
    assert set(found["listener.security.protocol.map"].split(",")) == {f"{name}:SASL_PLAINTEXT" for name in listeners}
    for name in listeners:
        module = found[f"listener.name.{name.lower()}.plain.sasl.jaas.config"]
        assert f'user_ftjm="{PASSWORD}"' in module
    assert client_settings(PASSWORD)["sasl.password"] == PASSWORD


def test_without_a_password_none_does() -> None:
    found = server_properties(Node(0, 1, 19092, Path("/data"), (LINKED,)))
    assert "SASL" not in str(found)
    assert not [name for name in found if "sasl" in name]
    assert client_settings("") == {}


def test_a_password_is_in_no_repr() -> None:
    assert PASSWORD not in repr(Node(0, 1, 1, Path("/data"), password=PASSWORD))
