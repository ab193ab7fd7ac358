"""Which tests may be skipped."""

from __future__ import annotations

import re

import pytest

from tests.paths import ROOT
from tests.skips import ALLOWED, allowed


def test_every_allowed_reason_is_one_that_a_test_gives() -> None:
    texts = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py") if path.name != "skips.py"
    )
    for reason in ALLOWED:
        assert reason in texts or reason == "TAG_DATASETS", reason


def test_every_reason_that_a_test_gives_is_allowed() -> None:
    """Where such a test is skipped, which may be nowhere that it has run so far."""
    found = []
    for path in (ROOT / "tests").rglob("*.py"):
        if path.name != "test_skips.py":
            found += re.findall(r'(?:reason=|pytest\.skip\()f?"([^"]+)"', path.read_text(encoding="utf-8"))
    assert len(found) > 15
    for reason in found:
        assert allowed(reason.replace("{local.VARIABLE}", "TAG_DATASETS")), reason


@pytest.mark.parametrize("reason", ["", "slow today", "needs a GPU"])
def test_no_other_reason_is_allowed(reason: str) -> None:
    assert not allowed(reason)


def test_a_test_that_skips_for_another_reason_fails(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest("from tests.skips import pytest_runtest_makereport  # noqa: F401")
    pytester.makepyfile(
        "import pytest\ndef test_one(): pytest.skip('slow today')\ndef test_two(): pytest.skip('needs a CUDA GPU')\n"
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist").assert_outcomes(failed=1, skipped=1)
