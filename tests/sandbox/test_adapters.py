"""Servers that bubblewrap, Podman or Docker start.

Podman and Docker are stood for by a script that refuses arguments it does not know, and makes with
bubblewrap what the real ones would make: so all of our side runs, and nothing of theirs.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from astraios import languages, registry
from astraios.checkers.unittests import checker
from astraios.errors import MissingToolError
from astraios.records import Execution, Outcome, Program
from astraios.sandbox import Job, Limits, Recipe, Sandbox, adapters, levels, open_sandbox, probe
from astraios.sandbox.server import Server

LIMITS = Limits(cpu_s=1.0, wall_s=10.0, memory_mib=1024, disk_mib=8, n_tasks=8)
JOB = Job("assert f(1) == 2\n", LIMITS, ("numpy",))
RIGHT, WRONG = "def f(x): return x + 1", "def f(x): return x"

FAKE = """#!{python} -P
import json, os, sys
arguments = sys.argv[1:]
Path = __import__("pathlib").Path
log = Path({log!r})
with log.open("a") as file:
    file.write(json.dumps(arguments) + "\\n")
if arguments[0] == "rm":
    sys.exit(0)
assert arguments.pop(0) == "run", arguments
FLAGS = {{"--rm", "--interactive", "--read-only", "--no-healthcheck", "--init=false",
         "--read-only-tmpfs=false"}}
flags, options, views = set(), {{}}, []
while arguments[0].startswith("--"):
    name = arguments.pop(0)
    if name in FLAGS:
        flags.add(name)
    elif name.startswith("--volume="):
        source, target, mode = name.removeprefix("--volume=").split(":")
        assert mode == "ro"
        views += ["--ro-bind", source, target]
    elif name.startswith("--env="):
        views += ["--setenv", *name.removeprefix("--env=").split("=", 1)]
    else:
        options.setdefault(name, []).append(arguments.pop(0))
image = arguments.pop(0)
assert flags >= FLAGS - {{"--read-only-tmpfs=false"}}, flags
assert options["--network"] == ["none"] and options["--cap-drop"] == ["ALL"], options
assert "no-new-privileges" in options["--security-opt"], options
user, group = options["--user"][0].split(":")
place, _, tmpfs = options["--tmpfs"][0].partition(":")
size = next(one for one in tmpfs.split(",") if one.startswith("size="))
n_bytes = int(size.removeprefix("size=").removesuffix("m")) << 20
{extra}
library = ["--ro-bind", {prefix!r}, "/image"]
for path in ("/usr", "/etc"):
    library += ["--ro-bind", path, path]
for path in ("/lib", "/lib64", "/bin"):
    library += ["--symlink", "usr" + path, path] if os.path.islink(path) else []
os.execv({bwrap!r}, [{bwrap!r}, "--unshare-all", "--unshare-user", "--uid", user, "--gid", group,
    "--die-with-parent", "--as-pid-1", "--cap-drop", "ALL", "--clearenv", *library, "--proc",
    "/proc", "--dev-bind", "/dev/null", "/dev/null", "--dev-bind", "/dev/zero", "/dev/zero",
    "--dev-bind", "/dev/urandom", "/dev/urandom", "--perms", "1777", "--size", str(n_bytes),
    "--tmpfs", place, *views, "--remount-ro", "/", "--chdir", options["--workdir"][0], "--",
    "/image/bin/" + options["--entrypoint"][0], *arguments])
"""

needs_bubblewrap = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("bwrap"), reason="needs bubblewrap"
)


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[], list[list[str]]]:
    """Arguments of every call of a stand-in so far."""
    log = tmp_path / "calls"
    log.touch()
    return lambda: [json.loads(line) for line in log.read_text().splitlines()]


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a script on the path, before everything else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv(adapters.IMAGE_VARIABLE, raising=False)

    def put(name: str, text: str) -> None:
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)

    return put


@pytest.fixture
def stand_in(tool: Callable[[str, str], None], tmp_path: Path, calls: Any) -> Callable[..., None]:
    def put(name: str, extra: str = "") -> None:
        text = FAKE.format(
            python=sys.executable, log=str(tmp_path / "calls"), prefix=sys.base_prefix,
            bwrap=shutil.which("bwrap"), extra=extra,
        )  # fmt: skip
        tool(name, text)

    return put


def outcomes(sandbox: Sandbox, *codes: str, job: Job = JOB) -> list[Execution]:
    return [one for _, one in sorted(sandbox.run((n, job, c) for n, c in enumerate(codes)))]


# --- command lines -----------------------------------------------------------------------------


@pytest.mark.parametrize("level", adapters.CONTAINERS)
def test_a_container_gets_no_network_no_privilege_and_one_small_folder(
    level: str, tool: Callable[[str, str], None]
) -> None:
    tool(level, "#!/bin/sh\n")
    launch = adapters.launch(level, {"numpy": ["/x/numpy"]}, None, 7, "/own")
    text = " ".join(launch.command)
    for expected in (
        "run --rm --interactive", "--network none", "--ipc none", "--read-only ", "--cap-drop ALL",
        "--security-opt no-new-privileges", "--pids-limit 256", "--memory 6g --memory-swap 6g",
        "--pull never", "--log-driver none", "--entrypoint python3", "--init=false",
        "--volume=/own/inside:/astraios/inside:ro", "size=256m,mode=1777", "noexec",
    ):  # fmt: skip
        assert expected in text
    user = launch.command[launch.command.index("--user") + 1]
    assert all(20000 <= int(part) < 60000 for part in user.split(":"))
    assert ("nr_inodes=8192" in text) == (level == "docker")
    assert ("--read-only-tmpfs=false" in text) == (level == "podman")
    assert launch.by_streams
    assert launch.removal[1:3] == ("rm", "--force")
    assert launch.removal[3] in launch.command


def test_each_container_has_another_user_and_another_name(tool: Callable[[str, str], None]) -> None:
    tool("docker", "#!/bin/sh\n")
    one, other = (adapters.launch("docker", {}, None, 7, "/own").command for _ in range(2))
    for option in ("--user", "--name"):
        assert one[one.index(option) + 1] != other[other.index(option) + 1]


def test_the_image_is_that_of_this_interpreter_unless_named(
    monkeypatch: pytest.MonkeyPatch, tool: Callable[[str, str], None]
) -> None:
    tool("docker", "#!/bin/sh\n")
    assert adapters.image() == "python:{}.{}-slim".format(*sys.version_info[:2])
    monkeypatch.setenv("ASTRAIOS_SANDBOX_IMAGE", "registry.example/mine:2")
    launch = adapters.launch("docker", {"numpy": ["/x/numpy"]}, None, 7, "/own")
    assert "registry.example/mine:2" in launch.command
    assert "numpy" not in " ".join(launch.command)  # compiled for another interpreter, perhaps
    assert launch.detail["image"] == "registry.example/mine:2"


def test_packages_of_another_platform_are_not_offered(
    monkeypatch: pytest.MonkeyPatch, tool: Callable[[str, str], None]
) -> None:
    tool("docker", "#!/bin/sh\n")
    monkeypatch.setattr(sys, "platform", "darwin")
    launch = adapters.launch("docker", {"numpy": ["/x/numpy"]}, None, 7, "/own")
    assert "/x/numpy" not in " ".join(launch.command)
    assert launch.detail["numpy"] == "none"


def test_toolchains_are_the_images_and_our_own_folders_are_bound(
    tool: Callable[[str, str], None],
) -> None:
    tool("docker", "#!/bin/sh\n")
    recipe = Recipe("x", "x", ("run",), folders=(("jdk", "/usr/lib/jvm"), ("made", "/home/a/b")))
    text = " ".join(adapters.launch("docker", {}, recipe, 7, "/own").command)
    assert "--volume=/home/a/b:/toolchain/made:ro" in text
    assert "/usr/lib/jvm" not in text
    assert "nodev,exec,size" in text


# --- the whole path ----------------------------------------------------------------------------


@needs_bubblewrap
@pytest.mark.parametrize("level", adapters.CONTAINERS)
def test_programs_are_judged_in_a_container(
    level: str, stand_in: Callable[..., None], calls: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    stand_in(level)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with open_sandbox(level, jobs=2) as sandbox:
        found = outcomes(
            sandbox, RIGHT, WRONG, "while True: pass", "import os\nos._exit(0)",
            "import numpy\ndef f(x): return int(numpy.sum([x, 1]))",
            "import os\nassert os.getuid() >= 20000\n" + RIGHT,
            "import pathlib\npathlib.Path('left').write_text('x')\n" + RIGHT,
            "import pathlib\nassert not list(pathlib.Path().iterdir())\n" + RIGHT,
        )  # fmt: skip
        assert sandbox.describe()["sandbox_image"] == adapters.image()
        assert sandbox.describe()["sandbox_tool"] == level
    passed, failed, late, crashed = (
        Outcome.PASSED, Outcome.FAILED, Outcome.TIMED_OUT, Outcome.CRASHED,
    )  # fmt: skip
    expected = [passed, failed, late, crashed, passed, passed, passed, passed]
    assert [one.outcome for one in found] == expected, found
    assert 1.0 <= found[2].cpu_s < 2.0
    assert list(scratch.iterdir()) == []
    assert all(arguments[0] == "run" for arguments in calls())


@needs_bubblewrap
@pytest.mark.parametrize(
    ("code", "held"),
    [
        ("print(open('/etc/passwd').read())", True),
        ("print(open('/proc/1/cmdline').read())", True),
        ("import os; os.listdir('/proc')", True),
        ("import socket; socket.socket()", True),
        ("import inside", True),
        ("import sys; sys.path.insert(0, '/astraios'); import inside.boot", True),
        ("open('/dev/shm/x', 'w')", True),
        ("import json, decimal, sqlite3", False),
    ],
)
def test_a_container_hides_more_than_it_does_by_itself(
    code: str, held: bool, stand_in: Callable[..., None]
) -> None:
    stand_in("docker")
    with open_sandbox("docker", jobs=1) as sandbox:
        if sandbox.describe()["sandbox_landlock"] == "none":
            pytest.skip("no Landlock")
        hostile, honest = outcomes(sandbox, f"{code}\n{RIGHT}", RIGHT)
    assert hostile.outcome is (Outcome.FAILED if held else Outcome.PASSED), hostile
    assert honest.outcome is Outcome.PASSED


@needs_bubblewrap
def test_too_many_files_end_a_program_and_are_gone(stand_in: Callable[..., None]) -> None:
    stand_in("docker")
    code = (
        "while True: open(f'{id(object())}{__import__(\"time\").time()}', 'w').write('x' * 1000000)"
    )
    with open_sandbox("docker", jobs=1) as sandbox:
        full, honest = outcomes(sandbox, code, RIGHT)
    assert full.outcome is not Outcome.PASSED
    assert honest.outcome is Outcome.PASSED


@needs_bubblewrap
@pytest.mark.parametrize("name", ["js", "java", "cpp"])
@pytest.mark.parametrize("level", ["bubblewrap", "docker"])
def test_other_languages_are_built_and_run(
    level: str, name: str, stand_in: Callable[..., None]
) -> None:
    if level == "docker":
        stand_in(level)
    language = registry.load(languages, "language", name)
    try:
        language.toolchain()
        programs = [
            Program(language=name, code=language.candidate(code), tests=PROGRAMS[name][1])
            for code in PROGRAMS[name][0]
        ]
        with open_sandbox(level, jobs=1) as sandbox:
            limits = replace(language.limits, cpu_s=2.0)
            found = [one for _, one in sorted(checker.check(programs, sandbox, limits=limits))]
    except MissingToolError as error:
        pytest.skip(str(error))
    assert [one.outcome for one in found] == [Outcome.PASSED, Outcome.FAILED, Outcome.PASSED], found


PROGRAMS = {
    "js": (
        ["const f = (x) => x + 1", "const f = (x) => x", "const f = (x) => 1 + x"],
        "\nconst testF = () => {\n  console.assert(f(1) === 2)\n}\n\ntestF()\n",
    ),
    "java": (
        [
            f"class Solution {{\n    public int f(int x) {{ return {body}; }}\n}}"
            for body in ("x + 1", "x", "1 + x")
        ],
        "\npublic class Main {\n    public static void main(String[] args) {\n"
        "        Solution s = new Solution();\n        if (s.f(1) != 2) {\n"
        "            throw new AssertionError();\n        }\n    }\n}\n",
    ),
    "cpp": (
        [f"#include<stdio.h>\nint f(int x) {{ return {body}; }}" for body in ("x + 1", "x", "1+x")],
        "\n#undef NDEBUG\n#include<assert.h>\nint main(){\n    assert (f(1) == 2);\n}\n",
    ),
}


# --- what does not work ------------------------------------------------------------------------


def test_a_tool_that_is_not_there_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_: None)
    found = {report.level: report for report in probe()}
    for level, remedy in (
        ("bubblewrap", "bwrap is not on the path; install it (Debian: apt install bubblewrap)"),
        ("podman", "podman is not on the path; install Podman and get the image: podman pull "),
        ("docker", "docker is not on the path; install Docker, start its service"),
    ):
        if levels.unavailable_by_platform(level):
            continue
        assert not found[level].works
        assert found[level].reason.startswith(remedy)
    with pytest.raises(MissingToolError, match="docker is not on the path"):
        open_sandbox("docker")


def test_a_service_that_does_not_run_is_said(tool: Callable[[str, str], None]) -> None:
    tool(
        "docker",
        "#!/bin/sh\necho 'docker: Cannot connect to the Docker daemon.' >&2\necho >&2\n"
        "echo \"Run 'docker run --help' for more information\" >&2\nexit 125\n",
    )
    with pytest.raises(
        MissingToolError, match=r"Cannot connect to the Docker daemon\.\).*start its"
    ):
        open_sandbox("docker")


@pytest.mark.skipif(sys.platform != "linux", reason="the server's level needs Linux")
def test_a_container_that_is_none_is_refused(tool: Callable[[str, str], None]) -> None:
    # It drops what stands before the interpreter's options, and mounts nothing.
    folder = Path(adapters.__file__).parent
    tool(
        "docker",
        f'#!/bin/sh\nwhile [ "$1" != -P ]; do shift; done\nfor last; do :; done\n'
        f"code=$(printf %s \"$last\" | sed 's#/astraios#{folder}#')\n"
        f'exec {sys.executable} -P -s -S -c "$code"\n',
    )
    with pytest.raises(MissingToolError, match="not process 1"):
        open_sandbox("docker")


@needs_bubblewrap
def test_a_toolchain_that_the_image_lacks_is_named(stand_in: Callable[..., None]) -> None:
    stand_in("docker")
    recipe = Recipe("x", "x", ("run",), folders=(("jdk", "/opt/nowhere/jdk"),))
    with (
        open_sandbox("docker", jobs=1) as sandbox,
        pytest.raises(MissingToolError, match="the image has no /opt/nowhere/jdk"),
    ):
        outcomes(sandbox, "x", job=Job("", LIMITS, recipe=recipe))


@needs_bubblewrap
def test_a_client_that_has_to_be_killed_leaves_no_container(
    stand_in: Callable[..., None], calls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in("docker", "import time; print('busy', file=sys.stderr); time.sleep(60)")
    whole = adapters.launch
    monkeypatch.setattr(adapters, "launch", lambda *given: replace(whole(*given), patience_s=0.2))
    server = Server("docker", {})
    server.close()
    run, removal = calls()
    assert removal == ["rm", "--force", run[run.index("--name") + 1]]


def test_an_old_bubblewrap_is_said(tool: Callable[[str, str], None]) -> None:
    tool("bwrap", "#!/bin/sh\necho bubblewrap 0.6.1\n")
    assert "is version 0.6.1, 0.7 or later is needed" in adapters.missing("bubblewrap")


@needs_bubblewrap
def test_a_bubblewrap_without_rights_is_said(tool: Callable[[str, str], None]) -> None:
    tool(
        "bwrap",
        '#!/bin/sh\ntest "$1" = --version && echo bubblewrap 0.8.0 && exit\n'
        "echo 'bwrap: No permissions to create new namespace' >&2\nexit 1\n",
    )
    with pytest.raises(MissingToolError, match=r"No permissions to create.*apt install bubblewrap"):
        open_sandbox("bubblewrap")


# --- bubblewrap --------------------------------------------------------------------------------


@needs_bubblewrap
def test_a_program_under_bubblewrap_sees_what_it_sees_at_level_namespaces(
    working_levels: dict[str, str],
) -> None:
    code = (
        "import os, sys\n"
        "found = {p: sorted(os.listdir(p)) for p in ('/dev', '/packages', '/tmp') }\n"
        "raise Exception(found, sys.path, [os.stat(p).st_mode for p in found], len(os.environ))"
    )
    said = {}
    for level in ("namespaces", "bubblewrap"):
        if working_levels[level]:
            pytest.skip(working_levels[level])
        with open_sandbox(level, jobs=1) as sandbox:
            (found,) = outcomes(sandbox, code)
        said[level] = found.stderr
        assert found.outcome is Outcome.FAILED
    assert said["bubblewrap"] == said["namespaces"]


@needs_bubblewrap
def test_a_bubblewrap_with_privileges_of_its_own_is_asked_for_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / "bwrap"
    shutil.copy(shutil.which("bwrap") or "", own)
    own.chmod(0o755 | stat.S_ISUID)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "--cap-add" not in adapters._namespaces_and_rights(str(own))
    own.chmod(0o755)
    assert "--cap-add" in adapters._namespaces_and_rights(str(own))


@needs_bubblewrap
def test_without_capabilities_bubblewrap_is_one_user_with_a_bounded_folder(
    monkeypatch: pytest.MonkeyPatch, working_levels: dict[str, str]
) -> None:
    if working_levels["bubblewrap"]:
        pytest.skip(working_levels["bubblewrap"])
    whole = adapters._namespaces_and_rights

    def fewer(path: str) -> list[str]:
        with monkeypatch.context() as patch:
            patch.setattr(os, "geteuid", lambda: 1000)
            patch.setattr(adapters, "_CAPABILITIES", ())
            return whole(path)

    monkeypatch.setattr(adapters, "_namespaces_and_rights", fewer)
    with open_sandbox("bubblewrap", jobs=1) as sandbox:
        found = outcomes(sandbox, RIGHT, WRONG, "open('x', 'w').write('x' * (16 << 20))", RIGHT)
        assert "sandbox_landlock" in sandbox.describe()
    assert [one.outcome for one in found][0::3] == [Outcome.PASSED] * 2
    assert Outcome.PASSED not in [one.outcome for one in found][1:3]


def test_the_manifest_names_the_tool(working_levels: dict[str, str]) -> None:
    if working_levels["bubblewrap"]:
        pytest.skip(working_levels["bubblewrap"])
    said = subprocess.run(["bwrap", "--version"], capture_output=True, text=True, check=True)
    with open_sandbox("bubblewrap", jobs=1) as sandbox:
        assert sandbox.describe()["sandbox_tool"] == said.stdout.strip()
