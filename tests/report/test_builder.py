"""The page is parsed as a browser would: what is text must stay text."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnsm_monai.report import build_report

Row = dict[str, Any]
HOSTILE = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</script><script>alert(2)</script>", "__proto__",
    "=cmd|' /C calc'!A0", "a'b\"c & {{ 7 * 7 }} {% endraw %}", "\u202etxt.exe", "line\nbreak", "\udcff not utf-8",
    "$x^{2$ <!-- -->",
]  # fmt: skip


class Page(HTMLParser):
    """Elements with their attributes, text of every element by tag, and tags that are not balanced."""

    VOID = frozenset({"meta", "img", "input", "br", "link"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)
            if self.open[-1] not in ("style", "script"):
                self.words.append(data)

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        return [a for t, a in self.elements if t == tag and all(a.get(k) == v for k, v in attributes.items())]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def rows(make_row: Callable[..., Row], make_failed: Callable[..., Row], rank: Callable[[list[Row]], list[Row]]) -> Any:
    scored = [make_row(i, folder=f"fold_{i % 2}", with_image=i % 2 == 0) for i in range(8)]
    return rank([*scored, make_failed("fold_1/broken", "fold_1")])


@pytest.fixture
def build(tmp_path: Path, references: np.ndarray) -> Callable[..., Page]:
    def built(rows: list[Row], summary: dict[str, Any], scores: Any = references, **options: Any) -> Page:
        build_report(tmp_path / "report.html", rows, summary, scores, **{"max_cards": 2, **options})
        page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
        assert page.open == []
        ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        return page

    return built


def test_the_page_loads_nothing_and_allows_nothing_but_its_own_script(
    build: Callable[..., Page], rows: list[Row], summarise: Callable[..., Any]
) -> None:
    page = build(rows, summarise(rows))
    for _, attributes in page.elements:
        for name in ("src", "href", "action", "srcset", "poster", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:image/"))
        assert not any(name.startswith("on") or name == "style" for name in attributes)
    assert not page.all("link") and not page.all("iframe") and not page.all("object")
    (policy,) = (a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    for tag in ("style", "script"):
        (text,) = page.texts[tag]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
        assert "://" not in text and "@import" not in text and "url(" not in text


def test_every_case_is_in_the_table_in_rank_order_and_the_worst_have_cards(
    build: Callable[..., Page], rows: list[Row], summarise: Callable[..., Any]
) -> None:
    page = build(rows, summarise(rows), max_cards=3)
    assert [a["data-case"] for a in page.all("tr") if "data-case" in a] == [row["case"] for row in rows]
    assert [a["data-case"] for a in page.all("article")] == [row["case"] for row in rows[:3]]
    assert len(page.all("img", **{"class": "outlines"})) == 9
    assert rows[0]["reason"] in page.text
    assert "fold_1/broken.nii.gz: cannot be read: file ends" in page.text


def test_the_header_says_what_was_scored_by_which_model(
    build: Callable[..., Page], rows: list[Row], summarise: Callable[..., Any]
) -> None:
    text = build(rows, summarise(rows)).text
    flagged = sum(row.get("flag", 0) for row in rows)
    for words in ("9 masks of heart/fold_0 , heart/fold_1", "Model heart 0123456789ab", "mixing", "references 39",
                  "8 scored", f"{flagged} flagged", "1 could not be scored", "about 5 in 100"):  # fmt: skip
        assert words in text


def test_hostile_names_are_text_everywhere(
    build: Callable[..., Page], rows: list[Row], rank: Any, summarise: Callable[..., Any]
) -> None:
    tame = rank([{**rows[i % 8], "case": f"case {i}"} for i in range(len(HOSTILE))] + rows[-1:])
    evil = [dict(row) for row in tame]
    for row, name in zip(evil, HOSTILE, strict=False):
        row |= {"case": name, "reason": name, "worst_structure": name, "folder": name}
        row["structures"] = [{**part, "structure": name} for part in row["structures"]]
    evil[-1]["message"] = evil[-1]["folder"] = HOSTILE[0]
    summary = summarise(tame)
    settings = {key: HOSTILE[2] for key in ("model_dir", "noise", "weights_sha256", "references_dir", "anomaly_score")}
    summary["settings"] |= {**settings, "predictions_dir": HOSTILE, "structures": HOSTILE[:3]}
    summary["metrics_per_folder"] = {name: summary["metrics"] for name in HOSTILE}
    page, plain = build(evil, summary, max_cards=12), build(tame, summarise(tame), max_cards=12)
    for tag in ("script", "style", "link", "iframe", "meta", "tr", "article"):
        assert len(page.all(tag)) == len(plain.all(tag))
    assert all(a["src"].startswith("data:image/") for a in page.all("img"))
    for name in HOSTILE:
        shown = name.encode(errors="backslashreplace").decode()
        assert shown in [a.get("data-case") for a in page.all("tr")]
        assert page.texts["bdi"].count(shown) >= 3


def test_numbers_that_are_missing_are_left_out(
    build: Callable[..., Page], rows: list[Row], summarise: Callable[..., Any]
) -> None:
    bare = (
        "predicted_dice",
        "predicted_dice_low",
        "predicted_dice_high",
        "p_value",
        "flag",
        "dice",
        "reason",
        "picture",
    )
    poor = [{k: v for k, v in row.items() if k not in bare} for row in rows]
    for row in poor:
        row["structures"] = [{"structure": "ventricle", "anomaly_score": float("nan")}] if "structures" in row else []
    page = build(poor, summarise(poor))
    text = page.text
    assert "How many to review" not in text
    for words in ("Predicted Dice", "Measured Dice", "flagged", "Agreement", "nan", "None"):
        assert words not in text
    assert "No picture was kept" in text


def test_measured_and_predicted_dice_are_told_apart(
    build: Callable[..., Page], rows: list[Row], summarise: Callable[..., Any]
) -> None:
    page = build(rows, summarise(rows), max_cards=1)
    worst = rows[0]
    assert f"Predicted Dice (estimate) ≈ {worst['predicted_dice']:.2f}" in page.text
    assert f"Measured Dice {worst['dice']:.2f}" in page.text
    titles = [text.strip() for text in page.texts["th"]]
    assert "Predicted Dice" in titles and "Measured Dice" in titles


def test_the_review_budget_is_shown_and_says_where_it_comes_from(
    build: Callable[..., Page], rows: list[Row], summarise: Callable[..., Any]
) -> None:
    summary = summarise(rows)
    summary["review_budget"]["source"] = "predicted"
    assert "Estimated from predicted Dice" in build(rows, summary).text
    summary["review_budget"]["source"] = "measured"
    assert "Counted with the references" in build(rows, summary).text


def test_without_references_there_is_no_agreement(
    build: Callable[..., Page], rows: list[Row], summarise: Callable[..., Any]
) -> None:
    unmeasured = [{**row, "dice": None} for row in rows]
    text = build(unmeasured, summarise(unmeasured)).text
    assert "Agreement" not in text and "Risk-coverage" not in text


def test_one_case_is_enough(build: Callable[..., Page], rows: list[Row], summarise: Callable[..., Any]) -> None:
    text = build(rows[:1], summarise(rows[:1])).text
    assert "1 mask of" in text and "The worst case" in text and "fewer than 3 cases" in text


def test_nothing_but_failures_is_still_a_page(
    build: Callable[..., Page], rows: list[Row], summarise: Callable[..., Any]
) -> None:
    page = build([{**rows[-1], "rank": 1}], summarise(rows[-1:]), scores=[])
    assert "0 scored" in page.text and not page.all("article")


def test_few_references_cannot_flag_and_the_page_says_so(
    build: Callable[..., Page], rows: list[Row], summarise: Callable[..., Any]
) -> None:
    text = build(rows, summarise(rows), scores=[0.1, 0.2]).text
    assert "nothing can be flagged" in text and "here that would be" not in text
    text = build(rows, summarise(rows)).text
    assert "nothing can be flagged" not in text and "here that would be" in text


def test_a_flat_mask_has_one_picture(
    build: Callable[..., Page], make_row: Callable[..., Row], rank: Any, summarise: Callable[..., Any]
) -> None:
    flat = rank([make_row(i, spatial_dims=2) for i in range(3)])
    page = build(flat, summarise(flat))
    assert len(page.all("img", **{"class": "outlines"})) == 2
    assert "2D mask" in page.text and "Slices go through" not in page.text
    heads = set(page.texts["th"])
    assert "cm²" in heads and "ml" not in heads


def test_a_scene_of_many_cases_stays_small(
    build: Callable[..., Page], rows: list[Row], rank: Any, summarise: Callable[..., Any], tmp_path: Path
) -> None:
    many = rank([{**rows[i % 8], "case": f"case_{i:04d}"} for i in range(2000)])
    page = build(many, summarise(rows), max_cards=24)
    assert len(page.all("article")) == 24
    assert (tmp_path / "report.html").stat().st_size < 5e6


def test_the_wheel_holds_the_template_its_style_and_its_script() -> None:
    config = (Path(__file__).resolve().parents[2] / "setup.cfg").read_text(encoding="utf-8")
    listed = re.search(r"^gnsm_monai\.report =\n((?: +.*\n)+)", config, re.MULTILINE)
    assert listed
    package = Path(build_report.__code__.co_filename).parent
    found = {path for pattern in listed.group(1).split() for path in package.glob(pattern)}
    assert found == set((package / "templates").iterdir())
