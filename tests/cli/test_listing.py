import pytest

from tests.cli.cluster import Cluster


@pytest.fixture
def jobs(ftjm) -> None:
    for n in range(6):
        flags = ["--hold"] if n % 2 else []
        result = ftjm("submit", "--job-id", f"j{n}", "--label", f"n={n % 3}", *flags, "--", "true")
        assert result.exit_code == 0, result.output


def ids(rows) -> list[str]:
    return [row["job_id"] for row in rows]


def test_without_an_api_the_log_is_listed_newest_first(jobs, ftjm_json):
    assert ids(ftjm_json("list")) == ["j5", "j4", "j3", "j2", "j1", "j0"]
    assert ids(ftjm_json("list", "--limit", "2")) == ["j5", "j4"]
    assert ids(ftjm_json("list", "--state", "held")) == ["j5", "j3", "j1"]
    assert ids(ftjm_json("list", "--label", "n=1")) == ["j4", "j1"]
    assert ftjm_json("list", "--queue", "other") == []
    assert ftjm_json("list", "--until", "2020-01-01T00:00:00Z") == []
    assert len(ftjm_json("list", "--since", "2020-01-01T00:00:00Z")) == 6


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--state", "done"], "expected one of SCHEDULED"),
        (["--label", "x"], "name=value"),
        (["--since", "yesterday"], "a duration such as"),
        (["--api", "nonsense"], "an address such as http"),
        (["--api", "http://127.0.0.1:1"], "--from-log"),
    ],
)
def test_filters_that_make_no_sense_are_refused(ftjm, flags, message):
    result = ftjm("list", *flags)
    assert result.exit_code
    assert message in str(result.exception)


def test_why_a_job_waits(jobs, ftjm, ftjm_json, cluster: Cluster):
    assert ftjm_json("explain", "j0")["reason"] in ("", "NoScheduler")
    assert ftjm_json("explain", "j1")["reason"] == "NoScheduler"
    result = ftjm("explain", "nix")
    assert (result.exit_code, "expected a job default/nix" in result.stderr) == (1, True)
