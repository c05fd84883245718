"""The command: its verbs, its help, its exit codes."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from importlib import import_module
from pathlib import Path

import pytest
from command import sanderling

import sanderling as package
from sanderling import cli
from sanderling.errors import BudgetTooSmallError, CheckFailedError, DriftError, InputError, InternalError
from sanderling.verb import Outcome, Verb

FILES = [
    (where, module.name)
    for where in cli.VERB_PACKAGES
    for module in pkgutil.iter_modules(import_module(where).__path__)
]
HEAVY = ("torch", "onnx", "onnxruntime", "openvino", "matplotlib", "PIL", "tokenizers", "yaml", "safetensors")


def fake(monkeypatch: pytest.MonkeyPatch, result: Outcome | BaseException) -> None:
    """Make `sanderling fake` the only verb; it returns or raises what is given."""

    def run(arguments: Namespace) -> Outcome:
        if isinstance(result, BaseException):
            raise result
        return result

    verb = Verb("a fake", "Example:\n  sanderling fake", lambda parser: None, run)
    monkeypatch.setattr(cli, "find_verbs", lambda: {"fake": verb})


@pytest.mark.parametrize(("where", "name"), FILES, ids=[name for _, name in FILES])
def test_every_verb_file_exports_a_verb_that_teaches(where: str, name: str) -> None:
    verb = import_module(f"{where}.{name}").VERB
    assert isinstance(verb, Verb)
    assert verb.help
    assert verb.help[-1] != "."
    assert f"\n  sanderling {name} " in verb.description
    verb.configure(ArgumentParser())


@pytest.mark.parametrize("name", [name for _, name in FILES])
def test_help_of_every_verb_shows_an_example_json_and_the_exit_codes(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = sanderling(capsys, name, "--help")
    assert result.code == 0
    assert all(word in result.out for word in ("Example", "--json", "exit codes", "3  our mistake"))


def test_the_verbs_are_those_that_were_promised() -> None:
    promised = "compare compile diff doctor inspect plan profile report run verify"
    assert " ".join(cli.find_verbs()) == promised


def test_no_verb_prints_the_help_and_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    result = sanderling(capsys)
    assert (result.code, result.out) == (2, "")
    assert "exit codes:" in result.err
    assert "doctor" in result.err


@pytest.mark.parametrize(
    "arguments",
    [["sing"], ["inspect"], ["plan", "a.sand", "--latency-ms", "soon"], ["inspect", "a.sand", "--loud"]],
    ids=["unknown verb", "no bundle", "not a number", "unknown option"],
)
def test_arguments_that_cannot_be_read_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    result = sanderling(capsys, *arguments)
    assert result.code == 2
    assert "usage:" in result.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert sanderling(capsys, "--version").out == f"sanderling {package.__version__}\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("wrong shape"), 2),
        (BudgetTooSmallError("too little", 3.0), 2),
        (CheckFailedError("no"), 1),
        (DriftError("moved"), 1),
        (InternalError("impossible"), 3),
        (ZeroDivisionError("division by zero"), 3),
        (OSError("disk gone"), 3),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_exit_code_of_an_error(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, error)
    result = sanderling(capsys, "fake")
    assert (result.code, result.out) == (code, "")
    assert str(error) in result.err
    assert ("a mistake of ours" in result.err) == (code == 3)
    assert ("Traceback" in result.err) == (code == 3 and not isinstance(error, InternalError))


@pytest.mark.parametrize("error", [InputError("wrong shape"), ZeroDivisionError("division by zero")], ids=repr)
def test_json_says_what_failed(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, error)
    result = sanderling(capsys, "fake", "--json")
    assert result.json == {"error": {"type": type(error).__name__, "message": str(error)}}


@pytest.mark.parametrize("code", [0, 1])
def test_an_outcome_is_printed_and_its_exit_code_kept(
    code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, Outcome({"answer": [1, None]}, "for people", code))
    assert sanderling(capsys, "fake").out == "for people\n"
    result = sanderling(capsys, "fake", "--json")
    assert (result.code, result.json) == (code, {"answer": [1, None]})


def test_a_verb_package_that_is_not_installed_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "VERB_PACKAGES", ("sanderling.verbs", "sanderling.nowhere.verbs", "nowhere"))
    assert sorted(cli.find_verbs()) == ["doctor", "inspect", "plan", "run", "verify"]


def test_a_verb_file_without_a_verb_is_our_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd_verbs").mkdir()
    (tmp_path / "odd_verbs" / "__init__.py").write_text("")
    (tmp_path / "odd_verbs" / "silent.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(cli, "VERB_PACKAGES", ("odd_verbs",))
    result = sanderling(capsys, "silent")
    assert result.code == 3
    assert "odd_verbs.silent exports no VERB" in result.err


def test_a_broken_import_in_a_verb_package_is_not_taken_for_an_absent_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_verbs").mkdir()
    (tmp_path / "broken_verbs" / "__init__.py").write_text("import a_library_that_is_not_there")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(cli, "VERB_PACKAGES", ("broken_verbs",))
    with pytest.raises(ModuleNotFoundError, match="a_library_that_is_not_there"):
        cli.find_verbs()


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys; from sanderling.cli import main\n"
        "try: main(['--help'])\n"
        f"except SystemExit: print('heavy:', sorted(set({HEAVY}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("heavy: []\n")


def test_a_closed_pipe_is_quiet(laddered: Path) -> None:
    command = [sys.executable, "-m", "sanderling.cli", "inspect", str(laddered)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 141
