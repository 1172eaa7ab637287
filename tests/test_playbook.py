"""The playbook: its pages can be found from anywhere, are complete, and name only settings that exist."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlwatch import playbook

DETECTORS = (
    "advantage_spike",
    "entropy_collapse",
    "gradient_spike",
    "kl_explosion",
    "loss_nonfinite",
    "reward_bimodality",
    "reward_drift",
    "reward_variance_explosion",
)
SECTIONS = [
    "What the alert says",
    "What is happening",
    "Fixes, in order",
    "The common mistake",
    "Look also at",
    "Stop or go on",
]
FRAMEWORKS = {"TRL", "OpenRLHF", "verl", "SB3", "raw PyTorch"}
FIGURES = {
    "entropy_collapse": [
        "5-10x",
        "2-3x",
        "0.005 to 0.02",
        "0.5 nats",
        "0.03 to 0.6",
        "step 200",
        "0.35 to 0.07",
    ],
    "kl_explosion": [
        "4.5 sigma",
        "0.194",
        "0.05 to 0.09",
        "17 times",
        "2x the target",
        "3x its target",
        "0.4 ",
    ],
    "reward_variance_explosion": [
        "3x",
        "[-2, 2]",
        "36 %",
        "two or three reward models",
        "5-10k steps",
        "0.975",
    ],
    "reward_bimodality": ["[-2, 2]", "0/1 verifier", "p near 0.99", "minimum", "0.6"],
    "reward_drift": ["+10 %", "-5 %", "0.7 to 1.1", "78 % to 69 %", "0.35", "1.28", "5-10k steps", "0.6"],
    "advantage_spike": ["3x", "0.95 to 0.90", "2-5x", "explained variance below 0", "50-100 steps", "rho"],
    "loss_nonfinite": ["logging_nan_inf_filter", "same NaN", "log(0)", "bf16", "5-10x", "721", "skipped"],
    "gradient_spike": ["1.0, then 0.5, then 0.1", "10-50 steps", "53 of 56", "2.9 steps in 1,000", "25 rows"],
    "index": [
        "3,847",
        "11,153",
        "$1,487",
        "+10 %",
        "-5 %",
        "5x from a checkpoint",
        "outside in",
        "3x its target",
    ],
    "checklists": [":4096:8", "OMP_NUM_THREADS=1", "TOKENIZERS_PARALLELISM=false", "1.4 runs", "10 at 8 %"],
}


@pytest.fixture(autouse=True)
def forget_fixes() -> Iterator[None]:
    """Fixes read under one root must not leak into the next test."""
    playbook._fixes.cache_clear()
    yield
    playbook._fixes.cache_clear()


def headings(text: str, level: int) -> list[str]:
    """Titles of the headings of one level, code blocks left out."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(rf"^#{{{level}}} (.+)$", prose, flags=re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The anchors that a Markdown viewer gives to the headings."""
    titles = [title for level in (1, 2, 3) for title in headings(text, level)]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def tables(text: str) -> list[list[list[str]]]:
    """Every table of a page as rows of cells, the header first, the ruler left out."""
    blocks = re.findall(r"(?:^\|.*\|$\n?)+", text, flags=re.MULTILINE)
    rows = [[line.strip("|").split("|") for line in block.splitlines()] for block in blocks]
    return [[[cell.strip() for cell in row] for row in table if set("".join(row)) != {"-"}] for table in rows]


def settings(name: str) -> list[list[str]]:
    """The rows of a page's table of settings: framework, fixes, setting."""
    return next(table for table in tables(playbook.page(name)) if table[0][0] == "framework")[1:]


def section(name: str, title: str) -> str:
    """The text of one section of a page."""
    return playbook.page(name).split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_every_page_is_listed() -> None:
    """The eight detectors, the principles and the checklists are there."""
    assert {*DETECTORS, "index", "checklists"} <= set(playbook.names())
    assert playbook.names() == sorted(playbook.names())


@pytest.mark.parametrize("name", DETECTORS)
def test_detector_page_has_its_sections_in_order(name: str) -> None:
    """A reader finds the same headings in the same order on every page, each with something below it."""
    text = playbook.page(name)
    assert headings(text, 1) == [name]
    assert headings(text, 2) == SECTIONS
    assert all(len(section(name, title).strip()) > 100 for title in SECTIONS)


@pytest.mark.parametrize("name", [*DETECTORS, "index", "checklists"])
def test_page_opens_with_one_sentence(name: str) -> None:
    """The line below the title is a single sentence that says what the page is about."""
    summary = playbook.page(name).splitlines()[2]
    assert summary.endswith(".")
    assert summary.count(". ") == 0


@pytest.mark.parametrize("name", DETECTORS)
def test_fixes_are_numbered_and_each_begins_with_its_remedy(name: str) -> None:
    """Code reads the bold sentences: no numbered fix may lack one, and the numbers run on."""
    fixes = re.findall(r"^(\d+)\. (\*\*)?", section(name, "Fixes, in order"), flags=re.MULTILINE)
    assert [int(number) for number, _ in fixes] == list(range(1, len(fixes) + 1))
    assert all(bold for _, bold in fixes)
    assert len(playbook.remedies(name)) == len(fixes) >= 4


@pytest.mark.parametrize("name", DETECTORS)
def test_remedies_are_plain_sentences(name: str) -> None:
    """An alert quotes the first remedy: one line, no Markdown, short enough for a panel."""
    for remedy in playbook.remedies(name):
        assert re.fullmatch(r"[A-Z][^`*\[\]\n]*[.?]", remedy) or "[-2, 2]" in remedy
    assert playbook.remedy(name) == playbook.remedies(name)[0]
    assert 10 < len(playbook.remedy(name)) < 100


def test_first_remedies_are_those_the_field_advises() -> None:
    """The first remedy says what to do first, not what may be tried later."""
    assert playbook.remedy("entropy_collapse") == "Lower the learning rate 5-10x."
    assert playbook.remedy("kl_explosion").startswith("Raise the KL coefficient")
    assert "completions" in playbook.remedy("reward_variance_explosion")
    assert playbook.remedy("loss_nonfinite").startswith("Stop now")


@pytest.mark.parametrize("name", [*DETECTORS, "index", "checklists"])
def test_page_carries_the_figures_that_matter(name: str) -> None:
    """The advised and the measured figures are on the page."""
    text = " ".join(playbook.page(name).split())
    assert [figure for figure in FIGURES[name] if figure not in text] == []


@pytest.mark.parametrize("name", DETECTORS)
def test_page_tells_advice_from_measurement(name: str) -> None:
    """Where the two contradict each other the reader sees both."""
    alert = section(name, "What the alert says")
    assert "- Commonly advised:" in alert
    assert "- Measured:" in alert


def test_no_link_between_pages_is_dead() -> None:
    """Every relative link leads to a page, and its anchor to a heading there."""
    links = [(name, *found) for name in playbook.names() for found in _links(playbook.page(name))]
    assert len(links) > 40
    for name, target, anchor in links:
        text = playbook.page(target)
        assert not anchor or anchor in anchors(text), f"{name}: {target}#{anchor}"


def _links(text: str) -> list[tuple[str, str]]:
    return re.findall(r"\]\((?!https?://)([\w./]+)#?([\w-]*)\)", text)


def test_index_and_checklists_lead_to_every_detector_page() -> None:
    """No page can be missed from the two overviews."""
    for overview in ("index", "checklists"):
        assert {f"{name}.md" for name in DETECTORS} <= {
            target for target, _ in _links(playbook.page(overview))
        }


@pytest.mark.parametrize("name", [*DETECTORS, "index", "checklists"])
def test_tables_are_rectangular(name: str) -> None:
    """Every row has as many cells as its header, none of them empty."""
    found = tables(playbook.page(name))
    assert found
    for table in found:
        assert {len(row) for row in table} == {len(table[0])}
        assert all(cell for row in table for cell in row)


@pytest.mark.parametrize("name", DETECTORS)
def test_settings_cover_the_frameworks_and_point_at_fixes(name: str) -> None:
    """Each framework has its settings, and each row names fixes that exist."""
    rows = settings(name)
    assert {row[0] for row in rows} == FRAMEWORKS
    numbers = {int(number) for row in rows for number in row[1].split(",")}
    assert numbers <= set(range(1, len(playbook.remedies(name)) + 1))


def test_trl_settings_exist_in_the_installed_version() -> None:
    """No TRL setting is invented: each is a field of a TRL config or of TrainingArguments."""
    known = _fields("trl", "trainer/*_config.py") | _fields("transformers", "training_args.py")
    assert "beta" in known
    named = {
        field
        for name in DETECTORS
        for framework, _, text in settings(name)
        if framework == "TRL"
        for code in re.findall(r"`([^`]+)`", text)
        for field in re.findall(r"\b([a-z_]+)=", code)
    }
    assert len(named) > 15
    assert named - known == set()


def _fields(package: str, pattern: str) -> set[str]:
    """Annotated names in a package's sources, read without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed")
    files = Path(str(spec.origin)).parent.glob(pattern)
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)]
    return {node.target.id for node in nodes if isinstance(node.target, ast.Name)}


def test_torch_names_exist_in_the_installed_version() -> None:
    """No PyTorch function on the pages is invented."""
    torch = pytest.importorskip("torch")
    text = "".join(playbook.page(name) for name in playbook.names())
    found = set(re.findall(r"\btorch\.([a-zA-Z_][\w.]*\w)", text))
    assert len(found) > 8
    for name in found:
        value = torch
        for part in name.split("."):
            value = getattr(value, part)


def test_code_blocks_compile() -> None:
    """Code that a reader pastes at night is at least Python."""
    blocks = [block for name in playbook.names() for block in _code(name)]
    assert len(blocks) >= 3
    for block in blocks:
        compile(block, "page", "exec")


def _code(name: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", playbook.page(name), flags=re.MULTILINE | re.DOTALL)


def test_index_callback_lowers_the_rate_of_a_resumed_run() -> None:
    """The callback printed in the index scales this step's rate and the schedule's, and only on a resume."""
    torch = pytest.importorskip("torch")
    scope: dict[str, type] = {"TrainerCallback": object}
    exec(_code("index")[0], scope)
    callback = scope["LowerRate"](0.2)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 - step / 10)
    for global_step, now, after in ((0, 1.0, 0.9), (1, 0.18, 0.16)):
        state = type("State", (), {"global_step": global_step})
        callback.on_train_begin(None, state, None, optimizer=optimizer, lr_scheduler=schedule)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(now)
        optimizer.step()
        schedule.step()
        assert optimizer.param_groups[0]["lr"] == pytest.approx(after)


def test_gradient_snippet_prints_the_largest_layer_first(capsys: pytest.CaptureFixture[str]) -> None:
    """The lines on the gradient page find the layer that carries the spike."""
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    for index, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, 100.0 if index == 2 else 1.0)
    exec(_code("gradient_spike")[0], {"model": model})
    assert capsys.readouterr().out.splitlines()[0].endswith("1.weight")


@pytest.mark.parametrize(
    "name",
    [
        "kl_explosion",
        "kl_explosion.md",
        "playbook/kl_explosion.md",
        "./playbook/kl_explosion.md#look-also-at",
        "playbook\\kl_explosion.md",
        " KL-explosion ",
        playbook.link("kl_explosion"),
    ],
)
def test_every_way_to_name_a_page_resolves(name: str) -> None:
    """An id, a file name, an alert's link and a hasty spelling lead to the same page."""
    assert playbook.path(name).name == "kl_explosion.md"
    assert playbook.page(name).startswith("# kl_explosion\n")


@pytest.mark.parametrize(
    ("name", "nearest"), [("kl_exploson", "kl_explosion"), ("entropy", "entropy_collapse"), ("indx", "index")]
)
def test_unknown_name_suggests_the_nearest(name: str, nearest: str) -> None:
    """The error names the page that was meant and how to list them all."""
    with pytest.raises(
        playbook.PlaybookError, match=rf"did you mean .*\b{nearest}\b.*`rlwatch playbook index`"
    ):
        playbook.page(name)
    assert issubclass(playbook.PlaybookError, LookupError)


@given(st.text(max_size=400))
def test_any_text_is_a_page_or_a_playbook_error(name: str) -> None:
    """No name, however odd, raises anything but PlaybookError, and none has a remedy without a page."""
    try:
        assert playbook.path(name).stem in playbook.names()
    except playbook.PlaybookError:
        assert playbook.remedies(name) == []


def test_no_name_leaves_the_folder_of_pages() -> None:
    """A path with dots in it is taken for its last part."""
    assert playbook.path("../../somewhere/index").parent == playbook.path("index").parent
    with pytest.raises(playbook.PlaybookError):
        playbook.path("..")


def _install(folder: Path, fix: str = "") -> Path:
    """A folder of pages: an index, and `mine` with one fix."""
    folder.mkdir(parents=True)
    (folder / "index.md").write_text("# index\n", encoding="utf-8")
    (folder / "mine.md").write_text(f"# mine\n\n## Fixes, in order\n\n{fix}\n", encoding="utf-8")
    return folder


def test_pages_are_found_inside_an_installed_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel's pages win over a foreign folder called `playbook` beside the package."""
    wheel = _install(tmp_path / "site-packages/rlwatch/_playbook", "1. **Wheel.**")
    foreign = _install(tmp_path / "site-packages/playbook", "1. **Foreign.**")
    monkeypatch.setattr(playbook, "_ROOTS", (wheel, foreign))
    assert playbook.names() == ["index", "mine"]
    assert playbook.path("playbook/mine.md") == wheel / "mine.md"
    assert playbook.remedy("mine") == "Wheel."


def test_pages_are_found_in_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a copy inside the package the folder beside it is used."""
    checkout = _install(tmp_path / "playbook")
    monkeypatch.setattr(playbook, "_ROOTS", (tmp_path / "rlwatch/_playbook", checkout))
    assert playbook.path("mine") == checkout / "mine.md"


def test_search_order_is_wheel_then_checkout() -> None:
    """The two places are the package's own copy and the folder beside the package."""
    package = Path(playbook.__file__).resolve().parent
    assert (package / "_playbook", package.parent / "playbook") == playbook._ROOTS


def test_missing_pages_are_an_error_for_readers_and_silence_for_alerts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken installation is told to the reader; an alert merely has no remedy."""
    monkeypatch.setattr(playbook, "_ROOTS", (tmp_path / "nowhere",))
    assert playbook.names() == []
    with pytest.raises(playbook.PlaybookError, match="reinstall rlwatch"):
        playbook.page("index")
    assert playbook.remedy("kl_explosion") == ""


def test_unreadable_page_is_an_error_for_readers_and_silence_for_alerts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder where the page should be, or bytes that are no text, cost a remedy and not a step."""
    root = _install(tmp_path / "playbook")
    (root / "folder.md").mkdir()
    (root / "binary.md").write_bytes(b"\xff\xfe\x00")
    monkeypatch.setattr(playbook, "_ROOTS", (root,))
    for name in ("folder", "binary"):
        with pytest.raises(playbook.PlaybookError, match="cannot be read"):
            playbook.page(name)
    assert playbook.remedy("folder") == playbook.remedy("binary") == playbook.remedy("mine") == ""


def test_detector_without_a_page_has_a_link_and_no_remedy() -> None:
    """A user's own detector can alert without a page."""
    assert playbook.link("my_detector") == "playbook/my_detector.md"
    assert playbook.remedy("my_detector") == ""
    assert playbook.remedies("my_detector") == []


def test_remedy_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first call an alert needs no file."""
    root = _install(tmp_path / "playbook", "1. **Use `beta`\n   [more](x.md).** Then.")
    monkeypatch.setattr(playbook, "_ROOTS", (root,))
    assert playbook.remedy("mine") == "Use beta more."
    (root / "mine.md").unlink()
    assert playbook.remedy("mine") == "Use beta more."
