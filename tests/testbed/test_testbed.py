"""A study on a cluster of several hosts loses a worker, then the head, and is the same study.

`make testbed` runs this; the tests are the chapters of one story, in order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from bed import NAMES, SPEC, Bed
from client import JOBS, listening
from mlflow import MlflowClient
from namespaces import wait_until
from place import facts
from servers import MLFLOW, RESULTS

pytestmark = pytest.mark.testbed
Tell = Callable[[str], None]
ONE, TWO = "one", "two"
"""Names of the cluster files: before the head is lost, and after."""


@pytest.fixture(scope="module")
def bed(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with ExitStack() as ending:
        yield Bed(tmp_path_factory.mktemp("bed"), synthetic_store, ending)


@pytest.fixture
def token(bed: Bed) -> str:
    return bed.client_host.ask("cat ~/.ray/auth_token")


def test_hosts_share_nothing(bed: Bed, tell: Tell) -> None:
    """Five hosts have their own addresses, processes, homes and temporary folders."""
    for host in bed.hosts.all.values():
        for folder in ("~", "/tmp", "/dev/shm", "/var/tmp"):
            host.ask(f"touch {folder}/of-{host.name}")
    for host in bed.hosts.all.values():
        seen = host.ask("ls -d ~/of-* /tmp/of-* /dev/shm/of-* /var/tmp/of-*").split()
        assert seen and {Path(path).name for path in seen} == {f"of-{host.name}"}
        assert int(host.ask("ps -e --no-headers | wc -l")) < 10
    names = [bed.client.ssh(host, "hostname") for host in bed.hosts.all.values()]
    assert names == list(NAMES)
    tell(", ".join(f"{host.name} {host.address}" for host in bed.hosts.all.values()))


def test_ray_up(bed: Bed, token: str, tell: Tell) -> None:
    """`ray up` starts head and workers; the token is everywhere, for its owner's eyes only."""
    nodes = bed.client.up(ONE, bed.head, [bed.worker1, bed.worker2])
    tell(", ".join(f"{name} is node {node[:8]}" for name, node in sorted(nodes.items())))
    for host in (bed.head, bed.worker1, bed.worker2):
        for secret in ("~/.ray/auth_token", "~/.aws/credentials"):
            assert host.ask(f"stat -c %a {secret}") == "600", (host.name, secret)
        assert host.ask("cat ~/.ray/auth_token") == token


def test_dashboard_on_loopback(bed: Bed, tell: Tell) -> None:
    """The dashboard, which takes jobs, listens on the head's loopback only."""
    sockets = listening(bed.head)
    assert f"127.0.0.1:{JOBS}" in sockets
    assert [s for s in sockets if s.endswith(f":{JOBS}")] == [f"127.0.0.1:{JOBS}"]
    tell(f"head: {' '.join(sorted(sockets))}")


def test_wrong_token_for_a_worker(bed: Bed, token: str, tell: Tell) -> None:
    """A host with another token cannot join."""
    bed.spare.write("~/.ray/auth_token", token[::-1], 0o600)
    join = f"ray start --address={bed.head.address}:6379 --num-cpus=1 --disable-usage-stats"
    ended = bed.spare.run(f"RAY_AUTH_MODE=token timeout 90 {join}; echo code $?; ray stop")
    assert "code 0" not in ended.stdout
    assert "spare" not in bed.client.nodes(bed.head)
    said = [line for line in ended.stderr.splitlines() if "uthenticat" in line]
    assert said, ended.stderr[-3000:]
    tell(said[0][-150:])
    bed.spare.ask("rm ~/.ray/auth_token")


def test_wrong_token_for_a_job(bed: Bed, token: str, tell: Tell) -> None:
    """The job API refuses whoever has no token, or another one."""
    with bed.client.tunnel(bed.head):
        codes = {
            "none": bed.client.job_api(None),
            "another": bed.client.job_api(token[::-1]),
            "the token": bed.client.job_api(token),
        }
    assert codes["none"] == 401
    assert codes["another"] in (401, 403)
    assert codes["the token"] == 200
    tell(f"HTTP status by token: {codes}")


def test_spec_that_is_not_there(bed: Bed) -> None:
    """A spec that was not sent to the head is refused, with the command that sends it."""
    ended = bed.client.submit(ONE, "run", "search_spaces/other.yaml", "--results", RESULTS)
    assert ended.returncode != 0
    assert "ray rsync-up CLUSTER.yaml" in ended.stdout


def test_ray_submit_outlives_its_connection(bed: Bed, tell: Tell) -> None:
    """`ray submit` starts a study that goes on when the client's connection is gone."""
    log = bed.folder / "submit.log"
    with bed.client.submitting(ONE, *bed.study("run"), log=log) as submit:
        wait_until(lambda: submit.poll() is not None or bed.begun(), "the study to begin", 240)
        assert submit.poll() is None, log.read_text()
        bed.wait_for_reports(1)
    bed.client_host.ask("! pgrep -x ssh")
    bed.wait_for_reports(2)
    tell(f"{bed.reports()} epochs are logged, the client has no connection")


def test_trials_on_both_workers(bed: Bed, tell: Tell) -> None:
    """Both workers train, by the event log; the head does not."""
    wait_until(lambda: len(bed.workers_of(bed.events())) == 2, "jobs on two workers", 120)
    workers = bed.workers_of(bed.events())
    assert set(workers) == {"worker1", "worker2"}
    tell(f"jobs taken up: {dict(workers)}")


def test_worker_is_cut_off(bed: Bed, tell: Tell) -> None:
    """The network cable of a worker is pulled: its trial goes on elsewhere."""
    lost = len(bed.events("lost"))
    bed.hosts.cut(bed.worker1)
    bed.start_undisturbed()  # while there is little else to do than to wait
    wait_until(lambda: len(bed.events("lost")) > lost, "the loss to be noticed", 240)
    key = bed.events("lost")[-1]["key"]
    later = wait_until(lambda: bed.taken_up_after_loss(key), f"{key} to be taken up", 240)
    assert later["worker"]["host"] == "worker2"
    tell(f"{key} was lost with worker1 and went on with epoch {later['epoch']} on worker2")


def test_second_submit_follows(bed: Bed, tell: Tell) -> None:
    """The same `ray submit` again follows the study that runs, and starts no other."""
    log = bed.folder / "again.log"
    with bed.client.submitting(ONE, *bed.study("run"), log=log) as again:
        wait_until(lambda: "follows" in log.read_text() or again.poll() is not None, "an answer")
        assert f"{SPEC}, which runs" in log.read_text(), log.read_text()
        bed.wait_for_reports(1)
    assert len(bed.events("launch")) == 1
    assert not bed.events("test_read"), "the study is too short for what comes"


def test_head_is_lost(bed: Bed, tell: Tell) -> None:
    """The head's power fails; `ray up` makes the spare host the head of what is left."""
    bed.hosts.lose(bed.head)
    epochs = bed.reports()
    bed.hosts.mend(bed.worker1)
    assert bed.spare.ask("ls -A ~ | grep -c study || true") == "0"
    bed.client.up(TWO, bed.spare, [bed.worker1, bed.worker2])
    assert bed.reports() == epochs
    tell(f"the log in S3 knows {epochs} epochs; nothing of the study is on the head")


def test_ray_job_submit_goes_on(bed: Bed, tell: Tell) -> None:
    """`ray job submit` of the same study goes on with it, by the results' place alone, and ends."""
    words = " ".join(bed.study("run"))
    job = f"ray job submit --address http://127.0.0.1:{JOBS} --working-dir search_spaces"
    before = bed.reports()
    with bed.client.tunnel(bed.spare):
        told = bed.client.ask(
            f"RAY_AUTH_MODE=token {job} -- study {words.replace(SPEC, Path(SPEC).name)} "
            "--address auto",
            seconds=600,
        )
    assert "succeeded" in told
    launches = bed.events("launch")
    assert [event["host"] for event in launches] == ["head", "spare"]
    tell(f"driven on head, then on spare; {bed.reports() - before} epochs after the head's loss")


def test_finished_study_is_told(bed: Bed, tell: Tell) -> None:
    """`ray submit` of a finished study trains nothing, prints its report and ends with 0."""
    before = bed.reports()
    ended = bed.client.submit(TWO, *bed.study("run"))
    assert ended.returncode == 0, ended.stdout[-3000:]
    assert "lstm-snow" in ended.stdout
    assert bed.reports() == before


def test_it_is_the_same_study(bed: Bed, tell: Tell) -> None:
    """The undisturbed study of one host: same trials, decisions, scores, weights bit for bit."""
    undisturbed, disturbed = facts(bed.undisturbed()), facts(bed.place)
    for fact, expected in undisturbed.items():
        assert disturbed[fact] == expected, fact
    networks = [key for key in undisturbed["files"] if key.startswith("trials/")]
    assert networks
    tell(
        f"{len(undisturbed['hyperparameters'])} jobs, {len(undisturbed['decided'])} decisions, "
        f"{len(undisturbed['scores'])} epochs, {len(networks)} networks, "
        f"{len(undisturbed['files'])} files are identical"
    )


def test_mlflow_knows_every_job_once(bed: Bed, tell: Tell) -> None:
    """MLflow has one run for every job, arm and study, whoever drove it."""
    client = MlflowClient(tracking_uri=MLFLOW)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    told = Counter(run.data.tags["study.identity"] for run in runs)
    assert set(told.values()) == {1}
    assert len(runs) == 1 + 2 + len(bed.events("asked"))
    assert {run.info.status for run in runs} == {"FINISHED"}
    tell(f"{len(runs)} runs, each finished, none twice")


def test_no_secret_is_told(bed: Bed, token: str, tell: Tell) -> None:
    """The token and the keys of S3 are in no log, result or command line."""
    secrets = (token, bed.s3.secret_key)
    logs = {path.name: path.read_text() for path in bed.folder.glob("*.log")}
    for host in (bed.client_host, bed.spare, bed.worker1, bed.worker2):
        logs[f"{host.name}: processes"] = host.ask("ps -eww -o args")
        logs[f"{host.name}: logs"] = host.ask(
            "cat ~/.study/launch/*/* /tmp/ray/session_latest/logs/* 2> /dev/null || true"
        )
    storage = bed.place.storage
    keys = storage.keys("")
    logs |= {
        key: content.decode("latin-1")
        for key, content in zip(keys, storage.read_all(keys), strict=True)
    }
    assert [name for name, text in logs.items() if any(s in text for s in secrets)] == []
    tell(f"{len(logs)} logs, objects and process lists")


def test_ray_down(bed: Bed, tell: Tell) -> None:
    """`ray down` ends the cluster; the results stay."""
    bed.client.ask(f"ray down -y {bed.client.path(TWO)}")
    for host in (bed.spare, bed.worker1, bed.worker2):
        wait_until(lambda host=host: not bed.ray_processes(host), f"Ray's end on {host.name}", 240)
    assert bed.events("evaluated")
    tell("no process of Ray is left on its hosts")
