"""What is sent of a study to a cluster, and what is refused; no cluster, no Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.job import Job, Request
from cluster.secrets import VARIABLE, decrypt
from orchestrator.cli.main import execute
from orchestrator.study import Study, StudyError, load_study
from orchestrator.submission import check_paths, for_job, in_ray_job, make_request, needed_files
from orchestrator.submission.paths import local_paths

TOKEN = "0123456789abcdef"
SHARED = "storage=/shared/studies"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def demo(*overrides: str) -> Study:
    return load_study("demo", [SHARED, *overrides])


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["storage=runs"], "storage"),
        (["tracking.uri=sqlite:///mlflow.db"], "tracking.uri"),
        (["dataset={name: folder, root: images}"], "dataset.root"),
        (["dataset={name: folder, store: prepared}"], "dataset.store"),
        (["backbone.model=local-dir:clip"], "backbone.model"),
        (["backbone={model: ViT-B-16-quickgelu, pretrained: weights/clip.pt}"], "backbone.pretrained"),
    ],
)
def test_places_that_only_mean_something_here_are_refused(overrides: list[str], key: str) -> None:
    with pytest.raises(StudyError, match="is relative to the folder") as raised:
        check_paths(demo(*overrides))
    assert raised.value.where == key and raised.value.fix


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["storage=s3://bucket/studies"],
        ["tracking.uri=sqlite:////shared/mlflow.db"],
        ["tracking.uri=http://mlflow:5000"],
        ["dataset={name: folder, root: /shared/images}"],
        ["dataset={name: folder, store: /shared/prepared}"],
        ["dataset={name: folder, store: s3://bucket/prepared}"],
        ["backbone.model=local-dir:/shared/clip"],
        ["backbone={model: ViT-B-16-quickgelu, pretrained: openai}"],
    ],
)
def test_places_that_all_nodes_see_pass(overrides: list[str]) -> None:
    check_paths(demo(*overrides))


def test_a_prepared_store_is_looked_for_on_every_node() -> None:
    places = local_paths(demo("dataset={name: folder, root: s3://bucket/images, store: /shared/prepared}"))
    assert places == {"dataset.store": "/shared/prepared"}


def test_runs_of_a_job_go_beside_its_records_unless_said_otherwise() -> None:
    assert for_job(demo(), {}).tracking.uri == "sqlite:////shared/studies/mlflow.db"
    assert for_job(demo("tracking.uri=http://a"), {}).tracking.uri == "http://a"
    assert for_job(demo(), {"MLFLOW_TRACKING_URI": "http://b"}).tracking.uri is None
    with pytest.raises(StudyError, match="temporary folder of this job"):
        for_job(demo("storage=s3://bucket"), {})


@pytest.mark.parametrize("command", ["sweep demo", "confirm demo", "compare symbols"])
def test_a_command_that_is_a_job_refuses_places_that_go_with_it(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    assert not in_ray_job({}) and in_ray_job({"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"})
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert execute(command.split()) == 2
    shown = capsys.readouterr().err
    assert "/shared/studies" in shown and "'runs' is relative" in shown
    assert not (here / "runs").exists()


def test_a_job_saves_before_it_is_killed() -> None:
    from orchestrator.driver.interrupt import DEADLINE

    variables = make_request("demo", demo(), [SHARED], token=TOKEN, environment={}).variables
    assert variables["RAY_JOB_STOP_SIGNAL"] == "SIGTERM"
    assert DEADLINE + 5 < int(variables["RAY_JOB_STOP_WAIT_TIME_S"]) < 60
    assert VARIABLE not in variables


def test_the_id_follows_from_name_and_storage_alone() -> None:
    def stem(*overrides: str) -> str:
        return make_request("demo", demo(*overrides), [], token=TOKEN, environment={}).stem

    assert stem() == stem("search.trials=20") != stem("storage=/shared/other")
    assert stem("name=other").startswith("other-") and stem().startswith("demo-")


def test_settings_of_a_request_follow_from_all_that_the_study_says() -> None:
    def settings(*overrides: str) -> str:
        return make_request("demo", demo(*overrides), [], token=TOKEN, environment={}).settings

    assert settings() == settings("search.trials=10") != settings("search.trials=20")


def test_credentials_are_encrypted_and_stand_nowhere_else() -> None:
    environment = {
        "MLFLOW_TRACKING_USERNAME": "somebody",
        "MLFLOW_TRACKING_PASSWORD": "hunter2hunter2",
        "MLFLOW_TRACKING_URI": "https://u:pw@mlflow.example",
        "AWS_SECRET_ACCESS_KEY": "bucket-key",
        "OTHER_SECRET": "stays here",
    }
    request = make_request(
        "demo", demo(), [SHARED], token=TOKEN, secrets=["AWS_SECRET_ACCESS_KEY"], environment=environment
    )
    opened = decrypt(request.variables[VARIABLE], TOKEN)
    assert opened == {name: environment[name] for name in environment if name != "OTHER_SECRET"}
    assert not [value for value in environment.values() if value in repr(request)] and TOKEN not in repr(
        request
    )


def test_the_addresses_of_those_who_are_told_are_encrypted_and_must_be_set() -> None:
    environment = {"TEAM_URL": "slack://T1/B2/t0psecret", "OTHER_URL": "json://stays.here"}
    study = demo("notify=TEAM_URL")
    request = make_request("demo", study, [SHARED], token=TOKEN, environment=environment)
    assert decrypt(request.variables[VARIABLE], TOKEN) == {"TEAM_URL": "slack://T1/B2/t0psecret"}
    assert "t0psecret" not in repr(request)
    with pytest.raises(StudyError, match="TEAM_URL is not set"):
        make_request("demo", study, [SHARED], token=TOKEN, environment={})


def test_a_tracking_server_without_credentials_is_passed_as_it_is() -> None:
    environment = {"MLFLOW_TRACKING_URI": "https://mlflow.example"}
    variables = make_request("demo", demo(), [], token=None, environment=environment).variables
    assert variables["MLFLOW_TRACKING_URI"] == "https://mlflow.example"
    own = make_request("demo", demo("tracking.uri=http://a"), [], token=None, environment=environment)
    assert "MLFLOW_TRACKING_URI" not in own.variables


def test_credentials_are_not_sent_to_a_cluster_without_a_token() -> None:
    with pytest.raises(StudyError, match="MLFLOW_TRACKING_TOKEN cannot be sent"):
        make_request("demo", demo(), [], token=None, environment={"MLFLOW_TRACKING_TOKEN": "x"})
    with pytest.raises(StudyError, match="HF_TOKEN is not set"):
        make_request("demo", demo(), [], token=TOKEN, secrets=["HF_TOKEN"], environment={})


@pytest.mark.parametrize("override", ["storage=s3://key:secret@bucket/x", "tracking.uri=http://u:p@host"])
def test_credentials_in_a_study_are_refused_without_repeating_them(override: str) -> None:
    with pytest.raises(StudyError, match="credentials") as raised:
        make_request("demo", demo(override), [override], token=TOKEN, environment={})
    assert "secret@" not in str(raised.value) and "u:p" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("dataset: {name: folder, root: /shared/x, store: 's3://AKIA:12/3@4@bucket/x'}", "dataset.store"),
        ("dataset: {name: folder, root: 'https://me:hunter22@host/x'}", "dataset.root"),
        (
            "backbone: {model: ViT-B-32, pretrained: 'https://me:hunter22@host/clip.pt'}",
            "backbone.pretrained",
        ),
    ],
)
def test_credentials_anywhere_in_a_study_file_are_refused(here: Path, text: str, key: str) -> None:
    (here / "mine.yaml").write_text(f"name: mine\nstorage: /shared/runs\n{text}\n")
    with pytest.raises(StudyError, match="credentials") as raised:
        make_request("mine.yaml", load_study("mine.yaml"), [], token="t" * 16)
    assert key in str(raised.value)
    assert "hunter22" not in str(raised.value) and "AKIA" not in str(raised.value)


def test_the_study_file_and_its_own_spaces_are_sent(here: Path) -> None:
    space = "import dataclasses\nfrom search_spaces import Space\n"
    (here / "mine").mkdir()
    (here / "mine" / "__init__.py").touch()
    (here / "mine" / "spaces.py").touch()
    (here / "near.py").write_text(space)
    study = demo().model_copy(
        update={
            "method": "own.py:Method",
            "space": (
                demo().space[0].model_copy(update={"name": "near.py:MySpace"}),
                demo().space[0].model_copy(update={"name": "mine.spaces:Other"}),
                demo().space[0].model_copy(update={"name": "installed_elsewhere:Third"}),
            ),
        }
    )
    files = needed_files(str(here / "sub" / "birds.yaml"), study, include=["near.py"])
    assert set(files) == {"birds.yaml", "near.py", "mine", "own.py"}
    assert files["birds.yaml"] == here / "sub" / "birds.yaml"
    assert needed_files("demo", demo()) == {}
    command = make_request(
        "sub/birds.yaml", demo(), ["a=1"], token=None, retry_failed=True, environment={}
    ).command
    assert list(command) == ["python", "-m", "orchestrator", "sweep", "--retry-failed", "birds.yaml", "a=1"]


def test_submit_without_a_token_or_a_cluster_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    monkeypatch.setenv("HOME", str(here))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    assert execute(["submit", "demo", SHARED, "--address", "http://127.0.0.1:1"]) == 2
    assert "no token to authenticate with" in capsys.readouterr().err
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    assert execute(["submit", "demo", SHARED, "--address", "http://127.0.0.1:1"]) == 2
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "ssh -N -L 8265" in shown and TOKEN not in shown


class Running:
    """A cluster on which the study runs already, started by ``command``."""

    address = "http://head:8265"

    def __init__(self, command: str) -> None:
        self.command = command

    def submit(self, request: Request, working_dir: object) -> tuple[Job, bool]:
        fields = {"study": request.study, "storage": request.storage, "settings": request.settings}
        return Job(id="demo-1a2b3c4d-1", command=self.command, state="running", **fields), False


@pytest.mark.parametrize(
    ("started_with", "options", "unused"),
    [
        ("", ["--retry-failed"], "--retry-failed"),
        ("--retry-failed", ["--retry-failed"], ""),
        ("", ["--secret", "HF_TOKEN", "--include", "mine.py"], "--secret HF_TOKEN, --include mine.py"),
        ("", [], ""),
    ],
)
def test_options_that_a_running_job_does_not_heed_are_named(
    started_with: str,
    options: list[str],
    unused: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    running = Running(f"python -m orchestrator sweep {started_with} demo {SHARED}")
    monkeypatch.setattr("cluster.connect.connect", lambda address: running)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("COLUMNS", "400")
    assert execute(["submit", "demo", SHARED, *options]) == 0
    captured = capsys.readouterr()
    assert "running already; attached, nothing was started" in captured.out
    if unused:
        assert f"No effect on it: {unused}. " in captured.err
        assert "orchestrator stop demo-1a2b3c4d-1" in captured.err
    else:
        assert "No effect" not in captured.err
