"""The page in a browser that the machine has, as a reader uses it."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnsm_monai.files import save_table
from gnsm_monai.report import build_report
from gnsm_monai.report.write_results import case_row

playwright_api = pytest.importorskip(
    "playwright.sync_api", reason="the extra 'browser' is not installed: no playwright"
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((found for name in BROWSERS if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser is installed: none of {', '.join(BROWSERS)}")

EVIL = "=1+1,\"<img src=x onerror=document.title='hacked'>"
VISIBLE_CASES = "rows => rows.filter(row => !row.hidden).map(row => row.dataset.case)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    # Chromium refuses its sandbox to root, as whom tests run in a container.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright_api.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=BROWSER, args=arguments)
        yield found
        found.close()


@pytest.fixture(scope="module")
def results(make_result: Callable[..., Any], make_failed: Callable[..., Any], rank: Callable[..., Any]) -> Any:
    cases = [make_result(i, folder=f"fold_{i % 2}") for i in range(12)]
    cases[4], cases[5] = replace(cases[4], case=EVIL), replace(cases[5], case="__proto__")
    return rank([*cases, make_failed("fold_1/broken", "fold_1")])


@pytest.fixture(scope="module")
def report(results: Any, summarise: Callable[..., Any], references: np.ndarray, tmp_path_factory: Any) -> Path:
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    build_report(path, results, summarise(results), references, max_cards=4)
    return path


@pytest.fixture
def problems() -> list[str]:
    """What the page asked of the network, and what its script complained about."""
    return []


@pytest.fixture
def page(browser: Any, report: Path, problems: list[str]) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text))
    page.on("request", lambda request: None if request.url.startswith(("file:", "data:", "blob:")) else
            problems.append(request.url))  # fmt: skip
    page.goto(report.as_uri())
    yield page
    context.close()


def visible_cases(page: Any) -> list[str]:
    found: list[str] = page.eval_on_selector_all("#table tbody tr", VISIBLE_CASES)
    return found


def exported(page: Any, path: Path) -> list[dict[str, str]]:
    with page.expect_download() as download:
        page.click("#export")
    assert download.value.suggested_filename == "marks.csv"
    download.value.save_as(path)
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_page_asks_for_nothing_and_its_script_runs_without_complaint(
    page: Any, problems: list[str], results: Any
) -> None:
    assert visible_cases(page) == [result.case for result in results]
    assert page.title() != "hacked"
    assert page.locator("#marked").inner_text() == f"0 of {len(results)} marked"
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert problems == []


def test_a_click_on_a_heading_sorts_and_another_turns_the_order(page: Any, results: Any) -> None:
    heading = page.locator("th[data-name=dice]")
    dice = {result.case: getattr(result, "dice", None) for result in results}
    upward = sorted(value for value in dice.values() if value is not None)
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert page.locator("th[data-name=rank]").get_attribute("aria-sort") is None
    upwards = visible_cases(page)
    assert [dice[case] for case in upwards] == [*upward, None]
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert [dice[case] for case in visible_cases(page)] == [*reversed(upward), None]
    page.locator("th[data-name=message] button").click()
    assert visible_cases(page) == ["fold_1/broken", *(result.case for result in results[:-1])]
    page.locator("th[data-name=anomaly_score] button").click()
    assert visible_cases(page)[0] == results[0].case  # the worst first, at the first click


def test_filters_narrow_the_table_and_say_how_many_are_left(page: Any, results: Any) -> None:
    page.check("#only-flagged")
    assert visible_cases(page) == [result.case for result in results[:-1] if result.decision.flagged]
    page.uncheck("#only-flagged")
    page.check("#only-failed")
    assert visible_cases(page) == ["fold_1/broken"]
    page.uncheck("#only-failed")
    page.select_option("#folder", label="fold_1")
    assert visible_cases(page) == [result.case for result in results if result.folder == "fold_1"]
    page.fill("#search", "PHANTOM_007 fold_1")
    assert visible_cases(page) == ["fold_1/phantom_007"]
    assert page.locator("#shown").inner_text() == f"1 of {len(results)} shown"
    page.fill("#search", page.locator("#row-1 td").nth(4).inner_text())  # the score: numbers are not searched
    assert page.locator("#shown").inner_text() == f"0 of {len(results)} shown"


def test_marks_set_with_the_mouse_are_exported(page: Any, results: Any, tmp_path: Path) -> None:
    page.locator("#row-1 [data-mark=bad]").click()
    page.locator("#row-1 .note").fill('-2 slices, tail "gone"')
    page.locator("#row-1 .note").press("Enter")
    page.locator("#card-2 [data-mark=unsure]").click()
    assert page.locator("#card-1 [data-mark=bad]").get_attribute("aria-pressed") == "true"
    assert page.locator("#card-1 .note").input_value() == '-2 slices, tail "gone"'
    assert page.locator("#marked").inner_text() == f"2 of {len(results)} marked"
    table = exported(page, tmp_path / "marks.csv")
    assert [line["rank"] for line in table] == [str(rank) for rank in range(1, len(results) + 1)]
    assert (table[0]["mark"], table[0]["note"]) == ("bad", '\'-2 slices, tail "gone"')
    assert (table[1]["mark"], table[1]["note"]) == ("unsure", "")
    assert all(line["mark"] == "" for line in table[2:])


def test_names_and_scores_are_written_as_in_the_ranking(page: Any, results: Any, tmp_path: Path) -> None:
    columns = ["case", "rank", "anomaly_score"]
    save_table(tmp_path / "ranking.csv", columns, [case_row(*each) for each in enumerate(results, start=1)])
    with (tmp_path / "ranking.csv").open(newline="", encoding="utf-8") as file:
        expected = list(csv.DictReader(file))
    assert [{c: line[c] for c in columns} for line in exported(page, tmp_path / "marks.csv")] == expected
    assert f"'{EVIL}" in [line["case"] for line in expected]


def test_marks_can_be_set_with_the_keyboard_alone(page: Any, results: Any) -> None:
    page.locator("#search").focus()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "row-1":
            break
    for key in ("ArrowDown", "ArrowDown", "2"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.id") == "row-3"
    assert page.locator("#row-3").get_attribute("data-mark") == "bad"
    page.keyboard.press("n")
    page.keyboard.type("1 leak")
    page.keyboard.press("Enter")
    assert page.locator("#row-3 .note").input_value() == "1 leak"
    assert page.locator("#row-3").get_attribute("data-mark") == "bad"  # the digit went into the note
    page.keyboard.press("0")
    assert page.locator("#row-3").get_attribute("data-mark") == ""
    page.locator("#card-1").focus()
    page.keyboard.press("1")
    assert page.locator("#row-1").get_attribute("data-mark") == "ok"


def test_few_tab_stops_lie_in_a_long_table(page: Any, results: Any) -> None:
    stops = (
        "rows => rows.flatMap(row => [row, ...row.querySelectorAll('a, button, input')]).filter(e => e.tabIndex >= 0)"
    )
    assert page.eval_on_selector_all("#table tbody tr", f"rows => ({stops})(rows).length") <= 6


def test_marks_are_there_again_when_the_page_is_opened_again(page: Any) -> None:
    case = page.locator("#table tbody tr", has_text="__proto__").first
    case.locator("[data-mark=ok]").click()
    page.reload()
    assert page.locator("#table tbody tr", has_text="__proto__").first.get_attribute("data-mark") == "ok"
    page.select_option("#mark-filter", "ok")
    assert visible_cases(page) == ["__proto__"]


def test_a_mark_is_not_carried_over_to_a_mask_of_another_score(
    page: Any, report: Path, results: Any, summarise: Callable[..., Any], references: np.ndarray
) -> None:
    page.locator("#row-1 [data-mark=ok]").click()
    page.locator("#row-2 [data-mark=bad]").click()
    before = report.read_bytes()
    worst = results[0]
    worst = replace(worst, decision=replace(worst.decision, anomaly=worst.decision.anomaly + 0.01))
    try:
        build_report(report, [worst, *results[1:]], summarise(results), references, max_cards=4)
        page.reload()
        assert page.locator("#row-1").get_attribute("data-mark") is None
        assert page.locator("#row-2").get_attribute("data-mark") == "bad"
    finally:
        report.write_bytes(before)


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_sticks_out_at_the_side(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.eval_on_selector_all(".card", "cards => cards.every(card => card.scrollWidth <= card.clientWidth)")


def test_heat_map_and_outlines_can_be_hidden(page: Any) -> None:
    page.uncheck("#show-heat")
    assert not page.locator("#card-1 .heat").first.is_visible()
    page.uncheck("#show-outlines")
    assert page.locator("#card-1 .outlines").first.evaluate("image => getComputedStyle(image).opacity") == "0"
    page.check("#show-heat")
    assert page.locator("#card-1 .heat").first.is_visible()


def test_paper_has_no_controls_and_the_whole_table(page: Any, results: Any) -> None:
    page.emulate_media(media="print")
    for control in ("#bar", "#search", "nav", "#row-2 .note"):
        assert not page.locator(control).first.is_visible()
    assert page.locator(f"#row-{len(results)}").is_visible()
    assert page.locator(".scroll").first.evaluate("box => box.scrollHeight <= box.clientHeight")


def test_without_scripts_the_page_is_complete_and_has_no_dead_controls(
    browser: Any, report: Path, results: Any
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("#table tbody tr").count() == len(results)
    assert page.locator("button:visible, input:visible, select:visible").count() == 0
    assert page.locator("#card-1 .heat").first.is_visible()
    context.close()


def test_two_thousand_cases_can_be_sorted_and_marked(
    browser: Any, results: Any, rank: Any, summarise: Callable[..., Any], references: np.ndarray, tmp_path: Path
) -> None:
    many = [
        replace(result, case=f"case_{i:04d}", decision=replace(result.decision, anomaly=i / 7))
        for i in range(2000)
        for result in [results[i % 12]]
    ]
    many = rank(many)
    build_report(tmp_path / "report.html", many, summarise(results), references, max_cards=1)
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    page.locator("th[data-name=case] button").click()
    assert visible_cases(page) == sorted(result.case for result in many)
    page.locator("#table tbody tr").nth(1999).locator("[data-mark=bad]").click()
    page.select_option("#mark-filter", "bad")
    assert visible_cases(page) == ["case_1999"]
    page.close()
