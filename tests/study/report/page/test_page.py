"""The page in a real browser, as a reader opens it: without a network."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from filled import fill
from prunelit.study.report.charts.run_arrays import RunTable
from prunelit.study.report.figures import all_figures
from prunelit.study.report.page.html import write_page
from prunelit.study.report.records.study import read_study
from prunelit.study.report.tables.metrics import METRICS
from prunelit.study.report.tables.report_tables import make_tables

HOSTILE = "</script><script>document.documentElement.dataset.pwned=1</script><img src=x onerror=alert(1)>"
"""What would run, or end the script, if it were not escaped wherever it stands."""
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FIGURES = {figure.name for figure in all_figures()}
OF_RUN = {figure.name for figure in all_figures() if isinstance(figure.table, RunTable)}
ACCURACIES = {("snip", 0): 92.0, ("snip", 1): 94.0, ("mag", 0): 88.0, ("mag", 1): 89.0}


@pytest.fixture(scope="module")
def study_folder(tmp_path_factory: pytest.TempPathFactory, recording: Callable[[Path], Any]) -> Path:
    """A study with everything that a page can show: two networks, seeds, rounds, a failure, hostile names."""
    root = tmp_path_factory.mktemp("page")
    make = recording(root)
    for (pruner, seed), top1 in ACCURACIES.items():
        for compression in (0.5, 1.0):
            run = make(
                *(f"pruner={pruner}", f"seed={seed}", f"compression={compression}", "model=mlp"),
                top1=top1 - 10 * compression,
                flops_sparse=1000 * 10 ** (-0.8 * compression),
                latency_cut_64=5 - compression - seed,
                latency_dense_64=5.0,
                collapsed=["fc2.weight"] if pruner == "mag" and compression == 1 else [],
            )
            fill(run, {"fc1.weight": (4, 64), "fc2.weight": (3, 4)})
    whole = {"compression": 0.0, "density": 1.0, "kept": 1000, "flops_sparse": 1000.0}
    dense = make("pruner=none", "seed=0", "model=mlp", top1=95.0, **whole)
    fill(dense, {"fc1.weight": (4, 64), "fc2.weight": (3, 4)})
    hostile = make("pruner=snip", "model=conv", "seed=0", "compression=1", model=HOSTILE)
    fill(hostile, {"conv1.weight": (4, 1, 3, 3), HOSTILE: (3, 4)}, classes=["a", f"\u2028{HOSTILE}", "c"])
    fill(make("pruner=iterative", "seed=0", "model=mlp", top1=60.0), {"fc1.weight": (4, 64)}, rounds=3)
    make("pruner=grasp", "seed=0", "model=mlp", state="failed", error=HOSTILE)
    return root / "study"


@pytest.fixture(scope="module")
def written(study_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the report."""
    return write(study_folder, tmp_path_factory.mktemp("out"))


def write(study_folder: Path, out: Path) -> Path:
    study = read_study([study_folder])
    assert study.skipped == []
    write_page(study, make_tables(study, METRICS["top1"]), out)
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def open_page(browser: Any, written: Path) -> Iterator[Callable[..., Any]]:
    """Return a function that opens the page without a network; ``said`` is what the console heard."""
    contexts = []

    def open_it(width: int = 1400, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.said = []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("dialog", lambda dialog: page.said.append(dialog.message) or dialog.dismiss())
        page.on(
            "request", lambda request: page.said.append(request.url) if "http" in request.url[:5] else None
        )
        page.goto((written / "report.html").as_uri())
        settle(page)
        return page

    yield open_it
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def page(open_page: Callable[..., Any]) -> Any:
    """The page as it opens, for tests that leave the filters alone."""
    return open_page()


def settle(page: Any) -> None:
    """Wait until every figure is drawn."""
    page.wait_for_function("document.body.dataset.drawing === 'no'", timeout=120000)


def marks(page: Any, figure: str) -> int:
    """Return how many marks a figure has, its axes and legends left out."""
    return int(page.evaluate(f"document.querySelectorAll('#chart-{figure} .role-mark path').length"))


def data_with(page: Any, figure: str, field: str) -> list[dict[str, Any]]:
    """Return the rows behind the marks of a figure, transforms done, that have a column."""
    code = """([id, field]) => {
        const found = new Set();
        const walk = (item) => {
            if (item.datum && field in item.datum) found.add(item.datum);
            (item.items || []).forEach(walk);
        };
        walk(document.getElementById(id).drawn.view.scenegraph().root);
        return JSON.stringify([...found]);
    }"""
    return list(json.loads(page.evaluate(code, [f"chart-{figure}", field])))


def choose(page: Any, name: str, value: str) -> None:
    """Click the filter of a value."""
    page.locator(f"#filters input[name={name}][value='{value}'] + span").click()
    settle(page)


def test_every_figure_is_drawn_without_a_network_or_a_complaint(page: Any) -> None:
    assert page.said == []
    ids = page.eval_on_selector_all("figure.chart", "all => all.map((one) => one.id)")
    assert set(ids) == FIGURES
    runs = page.eval_on_selector_all("#one-run option", "all => all.map((one) => one.value)")
    drawn: set[str] = set()
    for run in runs:  # which pictures a run has depends on its network
        page.select_option("#one-run", run)
        settle(page)
        drawn |= {figure for figure in FIGURES if marks(page, figure)}
    assert drawn == FIGURES
    assert page.said == []
    for svg in page.query_selector_all("svg.marks"):
        assert svg.get_attribute("role") == "img"
        assert svg.get_attribute("aria-label")


def test_a_filter_changes_everything_at_once(open_page: Callable[..., Any]) -> None:
    page = open_page()
    before = {figure: page.inner_html(f"#chart-{figure}") for figure in FIGURES - OF_RUN}
    choose(page, "method", "mag")
    unchanged = {figure for figure, html in before.items() if page.inner_html(f"#chart-{figure}") == html}
    assert unchanged == {"rounds_by_epoch", "rounds_by_sparsity"}  # no run of mag is iterative
    assert page.inner_text("#count") == "8 of 12 runs"
    assert "mag" not in page.inner_text("#chart-accuracy_by_compression")
    assert not page.is_visible("#results tr[data-methods*=mag] >> nth=0")
    assert page.is_visible("#results tr[data-methods='[\"snip\"]'] >> nth=0")
    assert not any(
        "mag" in text for text in page.eval_on_selector_all("#one-run option", "a => a.map((o) => o.text)")
    )
    assert page.eval_on_selector_all("#runs li", "all => all.filter((one) => !one.hidden).length") == 8
    choose(page, "method", "snip")
    choose(page, "method", "iterative")
    assert "Nothing to show" in page.inner_text("#chart-density_by_layer")


def test_intervals_follow_the_seeds_that_are_shown(open_page: Callable[..., Any]) -> None:
    page = open_page()
    rows = [row for row in data_with(page, "accuracy_by_compression", "half") if row["method"] == "snip"]
    found = {row["asked"]: row for row in rows if "mlp" in row["setting"]}["compression 0.5"]
    # 87 and 89: mean 88, standard deviation sqrt(2), Student's t with one degree of freedom 12.706
    assert found["top1"] == pytest.approx(88.0)
    assert found["half"] == pytest.approx(12.706, abs=1e-3)
    assert found["low"] == pytest.approx(88 - 12.706, abs=1e-3)
    assert found["high"] == 100
    choose(page, "seed", "1")
    rows = data_with(page, "accuracy_by_compression", "half")
    assert rows
    assert all(row["half"] is None and row["low"] is None for row in rows)


def test_pareto_frontier_holds_what_no_run_beats(page: Any) -> None:
    rows = [row for row in data_with(page, "pareto_kept", "dominated") if "mlp" in row["setting"]]
    front = {(row["method"], row["seed"], row["asked"]) for row in rows if not row["dominated"]}
    assert front == {("snip", 1, "compression 1"), ("snip", 1, "compression 0.5"), ("none", 0, "dense")}


def test_hovering_shows_the_run(page: Any) -> None:
    page.locator("#chart-pareto_kept").scroll_into_view_if_needed()
    page.locator("#chart-pareto_kept .mark-symbol.role-mark path").last.hover(force=True)
    tip = page.locator("#vg-tooltip-element.visible")
    tip.wait_for(timeout=60000)
    assert re.search(r"run\d{4}", tip.inner_text())


def test_dark_and_light(open_page: Callable[..., Any]) -> None:
    page = open_page(color_scheme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    chart = "getComputedStyle(document.querySelector('#chart-times svg.marks')).backgroundColor"
    dark = (page.evaluate(paper), page.evaluate(chart))
    page.click("#theme")
    settle(page)
    light = (page.evaluate(paper), page.evaluate(chart))
    assert dark == ("rgb(23, 27, 33)", "rgb(23, 27, 33)")
    assert light == ("rgb(255, 255, 255)", "rgb(255, 255, 255)")


def test_a_phone_needs_no_sideways_scrolling(open_page: Callable[..., Any]) -> None:
    page = open_page(width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    wide = page.eval_on_selector_all("svg.marks", "a => a.map((s) => s.getBoundingClientRect().right)")
    assert max(wide) <= 390


def test_print_leaves_out_what_paper_cannot_do(page: Any) -> None:
    page.emulate_media(media="print")
    assert page.is_visible("#chart-accuracy_by_compression svg")
    assert not page.is_visible("#filters")
    assert not page.is_visible("button")
    page.emulate_media(media="screen")


def test_printing_redraws_before_paper_comes_out(open_page: Callable[..., Any]) -> None:
    page = open_page(color_scheme="dark")
    # A browser prints when the promises of its "beforeprint" event are done, and waits for no timer.
    code = """async () => {
        dispatchEvent(new Event("beforeprint"));
        for (let turn = 0; turn < 20000 && !document.body.dataset.paper; turn++) await null;
        const drawn = [...document.querySelectorAll(".chart:not([hidden]) svg.marks")];
        return drawn.map((svg) => [svg.viewBox.baseVal.width, getComputedStyle(svg).backgroundColor]);
    }"""
    drawn = page.evaluate(code)
    assert len(drawn) >= 15
    assert {paper for _, paper in drawn} == {"rgb(255, 255, 255)"}
    assert max(width for width, _ in drawn) <= 800


def test_what_records_say_is_text_and_never_code(page: Any, written: Path) -> None:
    assert page.said == []
    assert page.evaluate("document.documentElement.dataset.pwned") is None
    assert page.query_selector("img[src=x]") is None
    assert "<script>document.documentElement.dataset.pwned" in page.inner_text("#problems")
    assert "<script>document.documentElement.dataset.pwned" in page.inner_text("#filters")
    text = (written / "report.html").read_text()
    assert "<script>document.documentElement.dataset.pwned" not in text
    assert text.count("<script") == 3


def test_failures_come_first_with_their_traceback(page: Any) -> None:
    assert page.eval_on_selector_all("main > section", "all => all[0].id") == "problems"
    assert "ValueError" in page.text_content("#problems li:has(.failed) pre")
    assert page.locator("#problems li:has(.collapsed)").count() == 1


def test_each_run_has_its_config_and_command(page: Any) -> None:
    first = page.locator("#runs li").first
    first.locator("summary").click()
    command = "python -m prunelit.train pruner=snip seed=0 compression=0.5 model=mlp"
    assert first.locator(".command pre").inner_text() == command
    assert "seed: 0" in first.locator(".config").inner_text()
    first.locator("button.copy").click()
    page.wait_for_function("/copied|selected/.test(document.querySelector('button.copy').textContent)")


def test_the_same_records_give_the_same_bytes(study_folder: Path, written: Path, tmp_path: Path) -> None:
    again = write(study_folder, tmp_path)
    files = sorted(path.relative_to(written) for path in written.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    for file in files:
        assert (written / file).read_bytes() == (again / file).read_bytes(), file


def test_each_figure_is_a_png_and_an_svg(written: Path) -> None:
    files = list((written / "figures").rglob("*"))
    for kind in ("png", "svg"):
        assert {file.stem for file in files if file.suffix == f".{kind}"} == FIGURES
    for file in files:
        if file.suffix == ".svg":
            assert re.search(r'<g class="mark-[^"]*role-mark[^"]*"[^>]*><path', file.read_text()), file
        if file.suffix == ".png":
            with Image.open(file) as picture:
                assert len(picture.convert("L").getcolors()) > 20, file
