"""The page of a study of a thousand runs offers choices instead of showing everything at once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from large_study import AMOUNTS, METHODS, large_study
from prunelit.study.report.charts.study_figures import draw_study
from prunelit.study.report.figures import all_figures
from prunelit.study.report.page.html import page
from prunelit.study.report.page.vega import bundle
from prunelit.study.report.tables.metrics import METRICS
from prunelit.study.report.tables.report_tables import make_tables

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MOST_PIXELS = 15_000


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The page of 1,008 runs, as it opens."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    study = large_study()
    file: Path = tmp_path_factory.mktemp("large") / "report.html"
    file.write_text(
        page(study, make_tables(study, METRICS["top1"]), draw_study(study, all_figures()), bundle)
    )
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1400, "height": 900})
        tab.goto(file.as_uri())
        settle(tab)
        yield tab
        browser.close()


def settle(tab: Any) -> None:
    tab.wait_for_function("document.body.dataset.drawing === 'no'", timeout=60000)


def test_a_thousand_runs_are_a_page_that_can_be_scrolled(opened: Any) -> None:
    assert opened.evaluate("document.documentElement.scrollHeight") < MOST_PIXELS
    assert opened.locator("#runs .runs > li").count() > 1000


def test_one_network_is_shown_and_another_can_be_chosen(opened: Any) -> None:
    shown = len(METHODS) * len(AMOUNTS) * 2
    assert opened.inner_text("#count") == f"{shown} of {7 * shown} runs"
    assert opened.locator("#results > figure.table:visible").count() == 1
    opened.select_option("#setting", "vgg3 on cifar10")
    settle(opened)
    assert "cifar10, vgg3" in opened.inner_text("#results > figure.table:visible figcaption")
    assert opened.inner_text("#count") == f"{shown} of {7 * shown} runs"


def test_of_many_panels_some_are_shown_at_a_time(opened: Any) -> None:
    opened.select_option("#setting", "")
    settle(opened)
    choice = opened.locator("#density_by_layer select.panels")
    assert choice.locator("option").count() == 7
    headers = "#chart-density_by_layer .role-column-header text, #chart-density_by_layer .role-title text"
    before = opened.locator(headers).all_text_contents()
    choice.select_option(index=6)
    settle(opened)
    after = opened.locator(headers).all_text_contents()
    assert len(before) <= 13
    assert before != after
    opened.select_option("#setting", "vgg0 on cifar10")
    settle(opened)


def test_runs_are_found_by_what_they_are(opened: Any) -> None:
    opened.fill("#find-run", "synflow 2.5")
    visible = opened.eval_on_selector_all(
        "#runs .runs > li", "all => all.filter((one) => !one.hidden).length"
    )
    assert visible == 2
    opened.fill("#find-run", "")


def test_all_twelve_methods_have_colours_of_their_own(opened: Any) -> None:
    swatches = "all => all.map((one) => getComputedStyle(one).backgroundColor)"
    colours = opened.eval_on_selector_all("#filters .swatch", swatches)
    assert len(set(colours)) == len(METHODS) == 12


def test_no_table_keeps_a_row_of_a_method_that_is_filtered_out(opened: Any) -> None:
    opened.eval_on_selector_all("details.more", "all => all.forEach((one) => (one.open = true))")
    rows = "#results figure.table:not([hidden]) tr:not([hidden])"
    comparisons = opened.locator(rows).filter(has_text="mag").count()
    chip = opened.locator("#filters input[name=method][value=mag] + span")
    chip.click()
    settle(opened)
    left = opened.locator(rows).all_text_contents()
    assert comparisons > 0
    assert not [text for text in left if "mag" in text.split()]
    assert any("snip" in text.split() for text in left)
    chip.click()
    settle(opened)
    opened.eval_on_selector_all("details.more", "all => all.forEach((one) => (one.open = false))")


def test_methods_stand_in_one_order(opened: Any) -> None:
    filters = "#filters input[name=method]"
    order = opened.eval_on_selector_all(filters, "all => all.map((one) => one.value)")
    names = "#results > figure.table:not([hidden]) th[scope=row]"
    assert opened.locator(names).all_text_contents() == order == sorted(METHODS)
    panels = opened.locator("#chart-training_accuracy .role-row-header, #chart-training_accuracy text")
    titles = panels.all_text_contents()
    assert [title.split(":")[0] for title in titles if title and ": vgg0" in title] == order


def test_a_phone_says_that_a_table_goes_on_to_the_right(opened: Any) -> None:
    hint = opened.locator("#results > figure.table:not([hidden]) .hint")
    assert not hint.is_visible()
    opened.set_viewport_size({"width": 390, "height": 800})
    hint.wait_for(state="visible", timeout=10000)
    settle(opened)
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    assert opened.evaluate("document.documentElement.scrollHeight") < MOST_PIXELS
