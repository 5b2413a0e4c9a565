"""The hostile programs again, graded by somebody who is not root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UID = 50_000 + os.getpid() % 10_000
"""A user for each test worker: below level `landlock` programs reach others of their user."""
COMPILED = ("cpp", "go", "java", "js", "rust")
FEW = "namespaces and (-js- or -cpp-)"
"""One with a runtime and one without; slow tests run these and then all, at all levels."""

# In a mount namespace of its own, the interpreter becomes reachable where it was, even below a
# home that only root may enter; then the command runs without any privilege.
SCRIPT = """
set -e
mount --make-rprivate /
for folder in "$@"; do
    test "$folder" = -- && break
    top=/$(echo "$folder" | cut -d/ -f2)
    mkdir -p "$STASH" && mount --bind "$folder" "$STASH"
    if ! setpriv --reuid=$ID --regid=$ID --clear-groups test -r "$folder"; then
        mount -t tmpfs -o mode=755 none "$top"
        mkdir -p "$folder"
        mount --move "$STASH" "$folder"
    else
        umount "$STASH"
    fi
done
while test "$1" != --; do shift; done
shift
exec setpriv --reuid=$ID --regid=$ID --clear-groups --inh-caps=-all --bounding-set=-all "$@"
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root on Linux")
@pytest.mark.skipif(
    not all(map(shutil.which, ("unshare", "setpriv", "mount"))), reason="needs util-linux"
)
@pytest.mark.parametrize(
    "marked, named",
    [
        pytest.param("not slow", "-python-", id="python"),
        pytest.param("not slow", FEW, id="a-few"),
        *(pytest.param("", f"-{language}-", id=language) for language in COMPILED),
    ],
)
def test_the_hostile_programs_are_held_for_an_ordinary_user(
    marked: str, named: str, tmp_path: Path
) -> None:
    stash, scratch = tmp_path / "stash", Path("/tmp") / f"astraios-user-{os.getpid()}"
    stash.mkdir()
    scratch.mkdir(mode=0o777)
    scratch.chmod(0o777)
    suite = Path(__file__).with_name("test_hostile.py")
    try:
        done = subprocess.run(
            ["unshare", "-m", "bash", "-c", SCRIPT, "run", sys.base_prefix, "--", sys.executable,
             "-m", "pytest", str(suite), "-q", "-m", marked, f"-k{named}", "-p",
             "no:cacheprovider", f"--basetemp={scratch}/t", f"--rootdir={suite.parents[2]}"],
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "ID": str(UID), "STASH": str(stash),
                 "HOME": str(scratch), "TMPDIR": str(scratch), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=suite.parents[2],
            capture_output=True,
            text=True,
            timeout=1800,
        )  # fmt: skip
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if "Permission denied" in done.stderr and "passed" not in done.stdout:
        pytest.skip(f"this checkout cannot be read by an ordinary user: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    if " passed" not in done.stdout:
        reasons = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
        pytest.skip(f"nothing of it runs for an ordinary user: {reasons[-1]}")
