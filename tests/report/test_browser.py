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
from gnsm_monai.report.marks import Mark, read_marks
from gnsm_monai.report.rows import case_row

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
        found = driver.chromium.launch(executable_path=BROWSER, args=arguments, timeout=0)
        yield found
        found.close()


def unhurried(context: Any) -> Any:
    """A page that waits for what is to happen, however busy the machine is."""
    context.set_default_timeout(0)
    context.set_default_navigation_timeout(0)
    return context.new_page()


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
    page = unhurried(context)
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


@pytest.fixture
def two_reports(summarise: Callable[..., Any], references: np.ndarray, tmp_path: Path) -> Callable[..., list[Path]]:
    """Makes two reports of one model and of predictions that were given alike, each from another folder."""

    def made(*results_of_each: Any) -> list[Path]:
        paths = [tmp_path / name / "report.html" for name in "ab"]
        for path, results in zip(paths, results_of_each, strict=True):
            summary = summarise(results)
            summary["settings"] |= {"predictions_dir": ["predictions"], "model_dir": "model"}
            path.parent.mkdir(exist_ok=True)
            build_report(path, results, summary, references, max_cards=4)
        return paths

    return made


def marks_of(page: Any) -> dict[str, tuple[str, str]]:
    """Mark and note of the first rows, by rank."""
    found = {}
    for rank in range(1, 5):
        row = page.locator(f"#row-{rank}")
        found[str(rank)] = (row.get_attribute("data-mark") or "", row.locator(".note").input_value())
    return found


@pytest.mark.parametrize("higher", [0, 1], ids=["the same masks", "other masks"])
def test_two_reports_keep_their_marks_beside_each_other(
    page: Any, results: Any, two_reports: Callable[..., list[Path]], higher: float
) -> None:
    others = [replace(r, decision=replace(r.decision, anomaly=r.decision.anomaly + higher)) for r in results[:-1]]
    first, second = two_reports(results, [*others, results[-1]])
    unmarked = {str(rank): ("", "") for rank in range(1, 5)}
    marked = {first: unmarked, second: unmarked}
    for path, rank, mark in ((first, 1, "bad"), (second, 1, "ok"), (first, 2, "unsure"), (second, 3, "bad")):
        page.goto(path.as_uri())
        assert marks_of(page) == marked[path]
        page.locator(f"#row-{rank} [data-mark={mark}]").click()
        page.locator(f"#row-{rank} .note").fill(f"of {path.parent.name}")
        marked[path] = {**marked[path], str(rank): (mark, f"of {path.parent.name}")}
        page.reload()
        assert marks_of(page) == marked[path]
    page.goto(first.as_uri())
    assert marks_of(page) == marked[first]


def test_opening_a_report_writes_nothing(page: Any, results: Any, two_reports: Callable[..., list[Path]]) -> None:
    page.locator("#row-1 [data-mark=ok]").click()
    kept = page.evaluate("JSON.stringify(localStorage)")
    for path in two_reports(results, results):
        page.goto(path.as_uri())
        assert page.evaluate("JSON.stringify(localStorage)") == kept


def test_two_tabs_of_a_report_add_up(page: Any, report: Path) -> None:
    other = unhurried(page.context)
    other.goto(report.as_uri())
    page.locator("#row-1 [data-mark=ok]").click()
    other.locator("#row-2 [data-mark=bad]").click()
    other.reload()
    assert [mark for mark, _ in marks_of(other).values()] == ["ok", "bad", "", ""]


def test_marks_of_an_earlier_version_are_found_again_and_stay(page: Any, results: Any) -> None:
    marked = enumerate(results[:3], start=1)
    earlier = [[r.case, "bad", f"note {rank}", f"{r.decision.anomaly:.9g}"] for rank, r in marked]
    earlier[2][3] = "0.123"  # another mask of the same name
    keep = "entries => localStorage.setItem(document.body.dataset.formerStore, JSON.stringify(entries))"
    stored = "() => JSON.parse(localStorage.getItem(document.body.dataset.formerStore))"
    page.evaluate(keep, earlier)
    page.reload()
    found = {"1": ("bad", "note 1"), "2": ("bad", "note 2"), "3": ("", ""), "4": ("", "")}
    assert marks_of(page) == found
    page.locator("#row-1 [data-mark=bad]").click()  # takes it back
    page.locator("#row-1 .note").fill("")
    assert page.evaluate(stored) == earlier
    page.evaluate(keep, [])  # as an earlier version's page would leave it
    page.reload()
    assert marks_of(page) == {**found, "1": ("", "")}
    page.evaluate(keep, earlier)
    page.reload()
    assert marks_of(page) == {**found, "1": ("", "")}


def test_what_cannot_be_read_is_not_written_over(page: Any, problems: list[str]) -> None:
    page.evaluate('localStorage.setItem(document.body.dataset.store, \'{"of": "a later version"}\')')
    page.reload()
    page.locator("#row-1 [data-mark=ok]").click()
    assert "this browser keeps none" in page.locator("#marked").inner_text()
    assert page.evaluate("localStorage.getItem(document.body.dataset.store)") == '{"of": "a later version"}'
    assert len(problems) == 1 and "no marks could be read" in problems[0]


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_sticks_out_at_the_side(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.eval_on_selector_all(".card", "cards => cards.every(card => card.scrollWidth <= card.clientWidth)")
    assert page.eval_on_selector_all(".sideways", "all => all.every(one => one.scrollWidth <= one.clientWidth)")


def test_numbers_of_neighbouring_columns_stand_apart(page: Any) -> None:
    gaps = """rows => rows.flatMap(row => {
        const texts = [...row.cells].map(cell => {
            const range = document.createRange();
            range.selectNodeContents(cell);
            return range.getBoundingClientRect();
        });
        return texts.slice(1).map((text, i) => text.left - texts[i].right);
    })"""
    assert min(page.eval_on_selector_all("#card-1 .structures tr", gaps)) >= 8


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
    page = unhurried(context)
    page.goto(report.as_uri())
    assert page.locator("#table tbody tr").count() == len(results)
    assert page.locator("button:visible, input:visible, select:visible").count() == 0
    assert page.locator("#card-1 .heat").first.is_visible()
    context.close()


@pytest.fixture(scope="module")
def long_report(
    results: Any, rank: Any, summarise: Callable[..., Any], references: np.ndarray, tmp_path_factory: Any
) -> tuple[Path, list[str]]:
    """A report of 2 000 cases, and their names in rank order."""
    repeated = [(i, results[i % 12]) for i in range(2000)]
    many = rank([replace(r, case=f"case_{i:04d}", decision=replace(r.decision, anomaly=i / 7)) for i, r in repeated])
    path: Path = tmp_path_factory.mktemp("long") / "report.html"
    build_report(path, many, summarise(results), references, max_cards=1)
    return path, [result.case for result in many]


def test_two_thousand_cases_can_be_sorted_and_marked(browser: Any, long_report: tuple[Path, list[str]]) -> None:
    path, cases = long_report
    context = browser.new_context()
    page = unhurried(context)
    page.goto(path.as_uri())
    page.locator("th[data-name=case] button").click()
    assert visible_cases(page) == sorted(cases)
    page.locator("#table tbody tr").nth(1999).locator("[data-mark=bad]").click()
    page.select_option("#mark-filter", "bad")
    assert visible_cases(page) == ["case_1999"]
    context.close()


def test_of_two_thousand_cases_only_those_in_sight_are_laid_out(
    browser: Any, long_report: tuple[Path, list[str]]
) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = unhurried(context)
    page.goto(long_report[0].as_uri())
    page.locator("#table").scroll_into_view_if_needed()
    skipped = """rows => rows.filter(row => !row.cells[1].checkVisibility({ contentVisibilityAuto: true })).length"""
    assert page.eval_on_selector_all("#table tbody tr", skipped) > 1800
    columns = page.evaluate(
        """() => ["thead tr", "#row-1", "#row-2000"].map(
          (row) => [...document.querySelector(`#table ${row}`).cells].map((cell) => cell.getBoundingClientRect().x))"""
    )
    assert columns[0] == columns[1] == columns[2]
    page.emulate_media(media="print")
    assert page.eval_on_selector_all("#table tbody tr", skipped) == 0
    context.close()


def test_marks_that_were_exported_stand_in_the_next_report(
    page: Any, results: Any, summarise: Callable[..., Any], references: np.ndarray, tmp_path: Path
) -> None:
    page.locator("#row-1 [data-mark=bad]").click()
    page.locator("#row-1 .note").fill('=1+1, "so"')
    page.locator("#row-2 [data-mark=ok]").click()
    page.locator("#row-3 [data-mark=unsure]").click()
    exported(page, tmp_path / "marks.csv")
    marks = read_marks(tmp_path / "marks.csv")
    assert {case: (mark.mark, mark.note) for case, mark in marks.items()} == {
        results[0].case: ("bad", '=1+1, "so"'), results[1].case: ("ok", ""), results[2].case: ("unsure", ""),
    }  # fmt: skip
    third = results[2]
    anew = replace(third, decision=replace(third.decision, anomaly=third.decision.anomaly - 1e-4))
    results = [*results[:2], anew, *results[3:]]
    path = tmp_path / "next" / "report.html"
    path.parent.mkdir()
    build_report(path, results, summarise(results), references, max_cards=4, marks={**marks, EVIL: Mark("", EVIL)})
    page.goto(path.as_uri())
    marked = [page.locator(f"#row-{rank}").get_attribute("data-mark") or "" for rank in (1, 2, 3)]
    assert marked == ["bad", "ok", ""]  # the third mask is another one
    assert page.locator("#row-1 .note").input_value() == '=1+1, "so"'
    assert page.locator("#card-2").get_attribute("data-mark") == "ok"
    assert "unsure (another mask or model)" in (page.locator("#row-3").text_content() or "")
    page.select_option("#earlier-filter", "unsure")
    assert visible_cases(page) == [anew.case]
    page.select_option("#earlier-filter", "*")
    page.select_option("#mark-filter", "bad")
    assert visible_cases(page) == [results[0].case]
    page.locator("#row-1 [data-mark=bad]").click()  # taken back here
    page.reload()
    assert not page.locator("#row-1").get_attribute("data-mark")
    assert page.title() != "hacked"
