from ftjm.runtime.network import is_loopback


def test_loopback_addresses():
    assert [host for host in ("127.0.0.1", "::1", "localhost", "127.3.2.1", "[::1]") if not is_loopback(host)] == []
    assert [host for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", "") if is_loopback(host)] == []
