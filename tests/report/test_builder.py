"""The page is parsed as a browser would: what is text must stay text."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnsm_monai.report import build_report
from gnsm_monai.report.colours import class_hex
from gnsm_monai.scoring.result import CaseResult, FailedCase, Result, StructureResult, scored

HOSTILE = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</script><script>alert(2)</script>", "__proto__",
    "=cmd|' /C calc'!A0", "a'b\"c & {{ 7 * 7 }} {% endraw %}", "\u202etxt.exe", "line\nbreak", "\udcff not utf-8",
    "$x^{2$ <!-- -->",
]  # fmt: skip


class Page(HTMLParser):
    """Elements with their attributes, text of every element by tag, and tags that are not balanced."""

    VOID = frozenset({"meta", "img", "input", "br", "link", "wbr"})

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
def results(make_result: Callable[..., CaseResult], make_failed: Callable[..., FailedCase], rank: Any) -> list[Result]:
    cases = [make_result(i, folder=f"fold_{i % 2}", with_image=i % 2 == 0) for i in range(8)]
    found: list[Result] = rank([*cases, make_failed("fold_1/broken", "fold_1")])
    return found


@pytest.fixture
def build(tmp_path: Path, references: np.ndarray) -> Callable[..., Page]:
    def built(results: list[Result], summary: dict[str, Any], scores: Any = references, **options: Any) -> Page:
        build_report(tmp_path / "report.html", results, summary, scores, **{"max_cards": 2, **options})
        page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
        assert page.open == []
        ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        return page

    return built


def test_the_page_loads_nothing_and_allows_nothing_but_its_own_script(
    build: Callable[..., Page], results: list[Result], summarise: Callable[..., Any]
) -> None:
    page = build(results, summarise(results))
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
    build: Callable[..., Page], results: list[Result], summarise: Callable[..., Any]
) -> None:
    page = build(results, summarise(results), max_cards=3)
    assert [a["data-case"] for a in page.all("tr") if "data-case" in a] == [result.case for result in results]
    assert [a["data-case"] for a in page.all("article")] == [result.case for result in results[:3]]
    assert len(page.all("img", **{"class": "outlines"})) == 9
    assert scored(results)[0].reason in page.text
    assert "fold_1/broken.nii.gz: cannot be read: file ends" in page.text


def test_only_the_reason_of_a_flagged_mask_looks_like_an_alarm(
    build: Callable[..., Page], results: list[Result], summarise: Callable[..., Any]
) -> None:
    cases = scored(results)
    flags = [number < 2 for number in range(len(cases))]
    cases = [replace(c, decision=replace(c.decision, flagged=f)) for c, f in zip(cases, flags, strict=True)]
    page = build(cases, summarise(cases), max_cards=len(cases))
    classes = [p["class"] for p in page.all("p") if p.get("class", "").startswith("reason")]
    assert classes == ["reason bad" if flag else "reason" for flag in flags]


def test_the_header_says_what_was_scored_by_which_model(
    build: Callable[..., Page], results: list[Result], summarise: Callable[..., Any]
) -> None:
    text = build(results, summarise(results)).text
    flagged = sum(result.decision.flagged for result in scored(results))
    for words in ("9 masks of heart/fold_0 , heart/fold_1", "Model heart 0123456789ab", "mixing", "references 39",
                  "8 scored", f"{flagged} flagged", "1 could not be scored", "about 5 in 100"):  # fmt: skip
        assert words in text


def test_hostile_names_are_text_everywhere(
    build: Callable[..., Page], results: list[Result], rank: Any, summarise: Callable[..., Any]
) -> None:
    cases, broken = scored(results), results[-1]
    assert isinstance(broken, FailedCase)
    tame = rank([replace(cases[i % 8], case=f"case {i}") for i in range(len(HOSTILE))])
    evil: list[Result] = []
    for result, name in zip(tame, HOSTILE, strict=True):
        structures = tuple(replace(entry, name=name) for entry in result.structures)
        place = replace(result.place, structure=name)
        evil.append(replace(result, case=name, reason=name, folder=name, place=place, structures=structures))
    evil.append(replace(broken, message=HOSTILE[0], folder=HOSTILE[0]))
    tame = [*tame, broken]
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


def test_structures_have_the_colours_that_their_references_gave_them(
    build: Callable[..., Page], results: list[Result], summarise: Callable[..., Any]
) -> None:
    summary = summarise(results)
    names = [entry.name for entry in scored(results)[0].structures]
    given = ["#123456", HOSTILE[2], *[""] * (len(names) - 2)]
    page = build(results, {**summary, "settings": {**summary["settings"], "structures": names, "colours": given}})
    (style,) = page.texts["style"]
    assert f".tone-0{{color:#123456}}\n.tone-1{{color:{class_hex(3)[2]}}}" in style and HOSTILE[2] not in style


def test_of_many_structures_a_card_shows_the_worst_and_keeps_the_others_below(
    build: Callable[..., Page], results: list[Result], summarise: Callable[..., Any]
) -> None:
    """The contacts of the ninth weigh its low score most; one that has no score comes last."""
    structures = [StructureResult(f"part {n}", n / 100, 0.5, 1.0, contacts=0.0) for n in range(11)]
    structures[0] = replace(structures[0], anomaly=float("nan"))
    structures[3] = replace(structures[3], contacts=9.0)
    worst = replace(scored(results)[0], structures=tuple(structures))
    page = build([worst], summarise([worst]))
    rows = [text.strip() for text in page.texts["bdi"] if text.startswith("part ")]
    assert rows == [f"part {n}" for n in (3, 10, 9, 8, 7, 6, 5, 4, 2, 1, 0)]
    assert "3 more structures" in [text.strip() for text in page.texts["summary"]]
    assert [text.strip() for text in page.texts["th"]].count("contacts") == 2 and "9.0" in page.text
    few = replace(worst, structures=tuple(replace(entry, contacts=float("nan")) for entry in structures[:8]))
    page = build([few], summarise([few]))
    assert [text for text in page.texts["bdi"] if text.startswith("part ")] == [f"part {n}" for n in range(8)]
    assert "contacts" not in page.text and "more structure" not in page.text


def test_numbers_that_are_missing_are_left_out(
    build: Callable[..., Page], results: list[Result], summarise: Callable[..., Any]
) -> None:
    nothing = dict.fromkeys(("p_value", "predicted_dice", "predicted_dice_low", "predicted_dice_high"), float("nan"))
    structures = (StructureResult("ventricle", *[float("nan")] * 3),)
    bare: dict[str, Any] = {"dice": None, "reason": "", "picture": (), "structures": structures}
    poor = [
        replace(result, **bare, decision=replace(result.decision, flagged=False, **nothing))
        if isinstance(result, CaseResult)
        else result
        for result in results
    ]
    page = build(poor, summarise(poor))
    text = page.text
    assert "How many to review" not in text
    for words in ("Predicted Dice", "Measured Dice", "flagged", "Agreement", "nan", "None"):
        assert words not in text
    assert "No picture was kept" in text


def test_measured_and_predicted_dice_are_told_apart(
    build: Callable[..., Page], results: list[Result], summarise: Callable[..., Any]
) -> None:
    page = build(results, summarise(results), max_cards=1)
    worst = scored(results)[0]
    assert f"Predicted Dice (estimate) ≈ {worst.decision.predicted_dice:.2f}" in page.text
    assert f"Measured Dice {worst.dice:.2f}" in page.text
    titles = [text.strip() for text in page.texts["th"]]
    assert "Predicted Dice" in titles and "Measured Dice" in titles


def test_the_review_budget_is_shown_and_says_where_it_comes_from(
    build: Callable[..., Page], results: list[Result], summarise: Callable[..., Any]
) -> None:
    summary = summarise(results)
    summary["review_budget"]["source"] = "predicted"
    assert "Estimated from predicted Dice" in build(results, summary).text
    summary["review_budget"]["source"] = "measured"
    assert "Counted with the references" in build(results, summary).text


def test_masks_that_are_rightly_empty_are_counted_beside_the_budget(
    build: Callable[..., Page], results: list[Result], summarise: Callable[..., Any]
) -> None:
    summary = summarise(results)
    assert "rightly empty" not in build(results, summary).text
    text = build(results, {**summary, "correct_empty": 3}).text
    assert "Counted with the references. 3 masks rightly empty: no Dice, and no failure." in text


def test_without_references_there_is_no_agreement(
    build: Callable[..., Page], results: list[Result], summarise: Callable[..., Any]
) -> None:
    unmeasured = [replace(result, dice=None) for result in scored(results)]
    text = build(unmeasured, summarise(unmeasured)).text
    assert "Agreement" not in text and "Risk-coverage" not in text


def test_one_case_is_enough(build: Callable[..., Page], results: list[Result], summarise: Callable[..., Any]) -> None:
    text = build(results[:1], summarise(results[:1])).text
    assert "1 mask of" in text and "The worst case" in text and "fewer than 3 cases" in text


def test_nothing_but_failures_is_still_a_page(
    build: Callable[..., Page], results: list[Result], summarise: Callable[..., Any]
) -> None:
    page = build(results[-1:], summarise(results[-1:]), scores=[])
    assert "0 scored" in page.text and not page.all("article")


def test_few_references_cannot_flag_and_the_page_says_so(
    build: Callable[..., Page], results: list[Result], summarise: Callable[..., Any]
) -> None:
    text = build(results, summarise(results), scores=[0.1, 0.2]).text
    assert "nothing can be flagged" in text and "here that would be" not in text
    text = build(results, summarise(results)).text
    assert "nothing can be flagged" not in text and "here that would be" in text


def test_a_flat_mask_has_one_picture(
    build: Callable[..., Page], make_result: Callable[..., CaseResult], rank: Any, summarise: Callable[..., Any]
) -> None:
    flat = rank([make_result(i, spatial_dims=2) for i in range(3)])
    page = build(flat, summarise(flat))
    assert len(page.all("img", **{"class": "outlines"})) == 2
    assert "2D mask" in page.text and "Slices go through" not in page.text
    heads = set(page.texts["th"])
    assert "cm²" in heads and "ml" not in heads


def test_a_scene_of_many_cases_stays_small(
    build: Callable[..., Page], results: list[Result], rank: Any, summarise: Callable[..., Any], tmp_path: Path
) -> None:
    many = rank([replace(scored(results)[i % 8], case=f"case_{i:04d}") for i in range(2000)])
    page = build(many, summarise(results), max_cards=24)
    assert len(page.all("article")) == 24
    assert (tmp_path / "report.html").stat().st_size < 5e6


def test_the_wheel_holds_the_template_its_style_and_its_script() -> None:
    config = (Path(__file__).resolve().parents[2] / "setup.cfg").read_text(encoding="utf-8")
    listed = re.search(r"^gnsm_monai\.report =\n((?: +.*\n)+)", config, re.MULTILINE)
    assert listed
    package = Path(build_report.__code__.co_filename).parent
    found = {path for pattern in listed.group(1).split() for path in package.glob(pattern)}
    assert found == set((package / "templates").iterdir())


def test_the_verdicts_stand_first_and_the_rest_is_folded(
    build: Callable[..., Page], results: list[Result], summarise: Callable[..., Any]
) -> None:
    folder = {"folder": "fold_0", "mean_dice": {"value": 0.7, "low": 0.6, "high": 0.8}, "failure_dice": 0.7,
              "failure_share": {"value": 0.4, "low": 0.2, "high": 0.6}, "measured_dice": None,
              "unlike_references": 0.4}  # fmt: skip
    score = {"strength": "weak", "text": "weak (Spearman -0.27): do not stop reviewing."}
    verdict = {"folders": [folder, {**folder, "folder": "fold_1"}], "verdict": "2 folders: 0.70.", "limits": ["No mm."]}
    page = build(results, {**summarise(results), **verdict, "score_on_failures": score})
    assert [a["class"] for a in page.all("p") if "verdict" in a.get("class", "")] == ["verdict", "verdict doubtful"]
    assert (
        page.text.index("2 folders: 0.70.")
        < page.text.index("weak (Spearman -0.27)")
        < page.text.index("What a flag means")
    )
    (details,) = page.all("details")
    assert "open" not in details
    assert "No mm." in page.text and "0.70 (0.60 to 0.80)" in page.text
    assert not build(results, summarise(results)).all("details")  # an audit has no verdict


def test_flags_by_a_rate_are_explained_as_such(
    build: Callable[..., Page], results: list[Result], summarise: Callable[..., Any]
) -> None:
    summary = summarise(results)
    page = build(results, {**summary, "settings": {**summary["settings"], "fdr": 0.1}})
    assert "The q-value is at most 0.1" in page.text and "The p-value is at most" not in page.text
