"""The comparison on labelled runs: its scorer, its readers, and that a package that does not run is said to."""

from __future__ import annotations

import csv
import gzip
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlwatch.detectors.registry import detector_classes
from rlwatch.offline.replay import replay

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path[:0] = [str(BENCHMARKS.parent), str(BENCHMARKS)]

import detection  # noqa: E402
from detection_parts import leave_out, ours, peers, seen_otherwise, tables  # noqa: E402
from detection_parts.runs import Run, canonical, corpus, traces  # noqa: E402
from detection_parts.score import Said, score  # noqa: E402


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings file."""
    monkeypatch.chdir(tmp_path)


def run(name: str = "one", failed: bool = False, onset: float = 0.0, words: tuple[str, ...] = (), n: int = 100) -> Run:
    """A run of `n` rows, ten steps apart, without metrics."""
    return Run(name, "project", failed, [10.0 * row for row in range(n)], [], words, onset, fault="-".join(words))


def said(step: float, severity: str = "warning", detector: str = "kl_explosion") -> Said:
    return Said(step, severity, detector)


def test_healthy_runs() -> None:
    """A critical is a wrong critical and an alert, a warning is an alert, silence is neither."""
    runs = [run("critical"), run("warned"), run("silent"), run("unheard of")]
    alerts = {
        "critical": [said(10), said(20, "critical"), said(30, "critical")],
        "warned": [said(10), said(20)],
        "silent": [],
    }
    found = score(runs, alerts)
    assert (found.healthy, found.healthy_rows) == (4, 400)
    assert (found.wrong_criticals, found.wrong_alerts) == (1, 2)
    assert (found.failed, found.delay) == (0, None)
    assert [line.split(":")[0] for line in found.wrong] == ["critical", "warned"]


@pytest.mark.parametrize(
    ("step", "told", "early", "delay"),
    [
        (440, 0, 1, None),  # more than the slack of 5 rows before the onset
        (450, 1, 0, 0),  # within it
        (500, 1, 0, 0),  # the row of the onset
        (510, 1, 0, 1),
        (990, 1, 0, 49),
    ],
)
def test_when_a_failure_is_told(step: float, told: int, early: int, delay: int | None) -> None:
    """From the onset less the slack on; the delay counts logged rows after the onset, not steps."""
    found = score([run(failed=True, onset=500, words=("kl",))], {"one": [said(step)]})
    assert (found.failed, found.told, found.early, found.delay) == (1, told, early, delay)
    assert found.early_rows == 45
    assert len(found.missed) == 1 - told


def test_short_runs_have_a_slack_of_two_rows() -> None:
    """A twentieth of 20 rows is one: two are given."""
    one = run(failed=True, onset=100, words=("kl",), n=20)
    assert score([one], {"one": [said(80)]}).told == 1
    assert score([one], {"one": [said(70)]}).told == 0


def test_who_is_right() -> None:
    """Any alert from the onset on may name the failure; one before it, or of another name, does not."""
    one = run(failed=True, onset=500, words=("entropy", "length"))
    late = [said(510, detector="kl_explosion"), said(900, "critical", "length_exploitation")]
    found = score([one], {"one": late})
    assert (found.told, found.named, found.told_critical, found.delay) == (1, 1, 1, 1)
    assert score([one], {"one": [said(510, "critical")]}).named == 0
    assert score([one], {"one": [said(10, detector="entropy_collapse"), said(510)]}).named == 0
    assert "kl_explosion warning at 510" in score([one], {"one": [said(510)]}).unnamed[0]


def test_other_names_for_the_same() -> None:
    """A tool's own name counts, in any case, and so does what it is said to mean."""
    one = run(failed=True, words=("reward_degenerate",))
    assert score([one], {"one": [said(10, detector="plateau")]}).named == 0
    assert score([one], {"one": [said(10, detector="plateau")]}, {"plateau": ("reward_degenerate",)}).named == 1
    assert score([one], {"one": [said(10, detector="REWARD_DEGENERATE")]}).named == 1


def test_a_verdict_at_the_end_has_no_delay() -> None:
    """A tool that judges the finished log is early or late for nobody."""
    found = score([run(failed=True, onset=500, words=("kl",))], {"one": [said(10)]}, timed=False)
    assert (found.told, found.named, found.early, found.delay) == (1, 1, 0, None)
    assert tables.row("tool", found)[-1] == "at the end"


def labelled(folder: Path, **changes: str) -> Path:
    """A corpus of one run of Stable-Baselines3, with labels to change."""
    label = {
        "slug": "lab-run-1", "framework": "SB3 (fork)",
        "algorithm": "PPO", "status": "failed", "failure_types": "kl_explosion;reward_collapse",
        "onset_step": "300", "confidence": "high", "map": "reward_mean=score",
    } | changes  # fmt: skip
    (folder / "runs").mkdir(exist_ok=True)
    with (folder / "runs.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(label))
        table.writeheader()
        table.writerow(label)
    rows = [{"step": 100 * i, "train/entropy_loss": -1.5, "score": i, "train/loss": "NaN"} for i in range(10)]
    with gzip.open(folder / "runs" / f"{label['slug']}.jsonl.gz", "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
    return folder


def test_reading_a_corpus(tmp_path: Path) -> None:
    """Labels, the words that name the failure, and rows with non-finite numbers."""
    (found,) = corpus(labelled(tmp_path))
    assert (found.project, found.failed, found.onset, found.algorithm) == ("A: SB3", True, 300.0, "ppo")
    assert found.words == ("kl", "reward")
    assert found.steps == [100.0 * i for i in range(10)]
    assert math.isnan(found.rows[0][1]["train/loss"])


@pytest.mark.parametrize("label", [{"status": "ambiguous"}, {"confidence": "low"}])
def test_uncertain_labels_are_left_out(tmp_path: Path, label: dict[str, str]) -> None:
    """An alert on such a run is neither right nor wrong."""
    assert list(corpus(labelled(tmp_path, **label))) == []


def test_reading_the_gym_s_runs() -> None:
    """Healthy ones and those whose fault did harm, with the detectors that name it; the rest is only counted."""
    pytest.importorskip("torch")
    from benchmarks.gym.traces import load

    known = {trace.key: trace for trace in load()}
    found, harmless = traces()
    assert len(found) + harmless == len(known)
    assert harmless >= 1
    for one in found:
        trace = known[one.name]
        assert one.failed == bool(trace.fault)
        assert len(one.rows) == len(one.steps) == len(trace)
        assert set(one.words) <= set(detector_classes())
        assert bool(one.words) == one.failed
    left_out = set(known) - {one.name for one in found}
    assert all(known[key].fault and known[key].info["end"] > 0.2 for key in left_out)


def test_rows_for_other_packages(tmp_path: Path) -> None:
    """Our names, signs and mapped keys; what is not finite stays as it came."""
    (found,) = corpus(labelled(tmp_path))
    row = canonical(found)[3]
    assert row["step"] == 300
    assert row["signals"]["entropy"] == 1.5
    assert row["signals"]["reward_mean"] == 3.0
    assert math.isnan(row["signals"]["loss"])


def test_we_are_judged_by_what_scan_says(tmp_path: Path) -> None:
    """The alerts of the comparison are those of `rlwatch scan` on the file."""
    (found,) = corpus(labelled(tmp_path))
    scanned = replay(tmp_path / "runs" / "lab-run-1.jsonl.gz", signal_map=found.signal_map).alerts
    expected = [Said(alert.step, alert.severity.value, alert.detector) for alert in scanned]
    assert ours.watched(found, catalogue="core") == expected
    assert [alert.detector for alert in expected] == ["loss_nonfinite"]


def rows_of(**signals: float) -> Run:
    """Ten rows of the same signals."""
    return Run("one", "project", False, [float(i) for i in range(10)], [(i, dict(signals)) for i in range(10)])


@pytest.mark.parametrize(
    ("signals", "rule", "step"),
    [
        ({"kl": 0.4}, "kl > 0.35 for 5", 4),
        ({"approx_kl": 0.4}, "kl > 0.35 for 5", 4),
        ({"grad_norm": 13.0}, "grad_norm > 12 for 3", 2),
        ({"entropy": 1.7}, "mean(entropy, 10) < 1.8", 9),
        ({"clip_fraction": 0.36}, "mean(clip_fraction, 6) > 0.35", 5),
    ],
)
def test_fixed_rules(signals: dict[str, float], rule: str, step: int) -> None:
    """Each of the four fires when it holds for as long as it says, and is critical; what it means is known."""
    assert ours.ruled(rows_of(**signals)) == [Said(step, "critical", rule)]
    assert rule in ours.RULES


def test_fixed_rules_below_their_limits() -> None:
    """And stays silent otherwise."""
    assert ours.ruled(rows_of(kl=0.3, grad_norm=11.0, entropy=1.9, clip_fraction=0.3)) == []


def test_meanings_are_detectors() -> None:
    """What an alert of another tool is said to mean is one of ours."""
    known = set(detector_classes())
    for means in (ours.RULES, *(peer.means for peer in peers.PEERS)):
        for detectors in means.values():
            assert set(detectors) <= known


@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda peer: f"{peer.package}-{peer.way}")
def test_a_package_that_does_not_run_is_said_to(peer: peers.Peer) -> None:
    """One sentence with the reason, no figures."""
    lines = peers.rows_of([rows_of(kl=0.1)])
    with pytest.raises(peers.PeerError, match=r"does not run: .*(No module|is installed, not)"):
        peers.judge(peer, lines, Path(sys.executable))


def test_a_package_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is in the table, in place of figures."""

    def refuse(command: list[str]) -> None:
        raise subprocess.CalledProcessError(1, command, stderr="WARNING: x\nERROR: no network")

    monkeypatch.setattr(peers, "_call", refuse)
    with pytest.raises(peers.PeerError, match=r"rldoctor==0\.2\.0 cannot be installed: ERROR: no network"):
        peers.environment("rldoctor==0.2.0", tmp_path)
    assert tables.row("rldoctor", "not compared: no network")[1] == "not compared: no network"


def test_every_run_must_be_answered() -> None:
    """A worker that ends early is not taken for a silent one."""
    answer = json.dumps({"name": "one", "alerts": [[3, "warning", "plateau"]], "error": "ValueError: x"})
    judged = peers._read([answer], peers.PEERS[0], 1)
    assert judged.alerts == {"one": [Said(3, "warning", "plateau")]}
    assert judged.raised == {"one": "ValueError: x"}
    with pytest.raises(peers.PeerError, match="judged 1 of 2 runs"):
        peers._read([answer], peers.PEERS[0], 2)


def test_the_table_goes_between_its_marks(tmp_path: Path) -> None:
    """And what stands around it stays; a document without the marks is an error."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- x -->\nold\n<!-- /x -->\nafter\n", encoding="utf-8")
    tables.put(page, "x", "| new |")
    tables.put(page, "x", "| newer |")
    assert page.read_text(encoding="utf-8") == "before\n<!-- x -->\n\n| newer |\n\n<!-- /x -->\nafter\n"
    with pytest.raises(ValueError, match="<!-- y -->"):
        tables.put(page, "y", "")


def test_dials_turn_about_the_defaults() -> None:
    """The fourth position is what the detector has without settings, and the others go one way."""
    for name, dial in leave_out.DIALS.items():
        settings: Any = detector_classes()[name]().settings
        for setting, values in dial.items():
            assert len(values) == leave_out.POSITIONS
            assert values[leave_out.DEFAULT] == getattr(settings, setting)
            assert list(values) in (sorted(values), sorted(values, reverse=True))


def test_fitting_a_dial() -> None:
    """Silent on the healthy runs first, then most failures named, then the middle."""
    runs = [run("healthy"), run("a", failed=True, words=("kl",)), run("b", failed=True, words=("kl",))]
    alarm = [said(10)]
    by_position = [
        {"healthy": alarm, "a": alarm, "b": alarm},  # too touchy
        *[{"healthy": [], "a": alarm, "b": alarm}] * 3,
        *[{"healthy": [], "a": alarm, "b": []}] * 3,  # too dull
    ]
    told = {("kl_explosion", at): found for at, found in enumerate(by_position)}
    assert leave_out.fitted("kl_explosion", told, runs) == 2


def test_the_same_run_logged_otherwise() -> None:
    """Rows are left out, averaged over those that have the key, or begin later; steps go with them."""
    rows = [(10 * i, {"kl": float(i), "text": "x"} | ({"gold": 1.0} if i == 4 else {})) for i in range(60)]
    one = Run("one", "project", False, [float(step) for step, _ in rows], rows)
    half = seen_otherwise.seen(one, "the other half")
    assert half is not None
    assert half.steps[:2] == [10.0, 30.0]
    assert len(half.rows) == 30
    thirds = seen_otherwise.seen(one, "means of 3 rows")
    assert thirds is not None
    assert thirds.rows[1] == (50, {"kl": 4.0, "text": "x", "gold": 1.0})
    middle = seen_otherwise.seen(one, "from the middle on")
    assert middle is not None
    assert middle.rows == rows[30:]


def test_what_is_too_short_or_failed_already_is_left_out() -> None:
    """A failed run seen from later on, and a run of which less than 10 rows are left."""
    rows = [(i, {"kl": 0.1}) for i in range(19)]
    steps = [float(i) for i in range(19)]
    assert seen_otherwise.seen(Run("one", "p", True, steps, rows), "from a tenth on") is None
    assert seen_otherwise.seen(Run("one", "p", False, steps, rows), "from a tenth on") is not None
    assert seen_otherwise.seen(Run("one", "p", False, steps, rows), "the other half") is None


@pytest.mark.parametrize("broken", ["folder", "column", "run"])
def test_what_is_no_corpus_is_said_to_be(tmp_path: Path, broken: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and exit code 1."""
    if broken != "folder":
        labelled(tmp_path)
    if broken == "column":
        (tmp_path / "runs.csv").write_text("slug\nlab-run-1\n", encoding="utf-8")
    if broken == "run":
        (tmp_path / "runs" / "lab-run-1.jsonl.gz").unlink()
    assert detection.main(["--corpus", str(tmp_path), "--no-traces"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "is no corpus that can be read" in said
