"""The reasons for which a test may be skipped. A skip for any other reason is a failure (`pytest_runtest_makereport`)."""

from __future__ import annotations

from collections.abc import Generator

import pytest

#: The beginning of a reason -> why the test cannot run everywhere, and where it does.
ALLOWED = {
    "cannot be portable": "another architecture, or one without AVX2",
    "needs a CUDA GPU": "there is nothing to test without one",
    "no Chromium here": ".ci/run installs it",
    "no qemu-x86_64 here": ".ci/run installs it",
    "no MkDocs here": "the extra docs installs it",
    "no curvlinops here": "the extra oracles installs it",
    "no hessian_eigenthings here": "the extra oracles installs it",
    "root may write everywhere": "runs for everybody else",
    "this user may not mount a tmpfs": "runs as root, and where user namespaces are allowed",
    "needs a tmpfs": "Linux alone has it",
    "no /dev/full here": "Linux alone has it",
    "reads the peak of the memory from Linux": "other systems have no /proc",
    "TAG_DATASETS": "names a folder with the real MNIST, which the project does not ship",
    "stages are forked on Linux alone": "other systems have no pidfd; there every command is a process of its own",
    "only glibc's allocator is set": "nothing is set elsewhere",
    "this kernel hands out memory in huge pages": "there the faults that the test counts do not happen",
}


def allowed(reason: str) -> bool:
    """Whether a test may be skipped for it."""
    return reason.removeprefix("Skipped: ").startswith(tuple(ALLOWED))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skip is a failure where its reason is not among these: it would hide that nothing is tested."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if not allowed(reason):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid}: skipped for a reason that tests/skips.py does not allow: {reason}"
    return report
