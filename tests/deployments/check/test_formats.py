"""What a check found, in each form: stable for programs, and nothing that a text could break out of."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.check.formats import FORMATS
from deployments.check.run import Checked
from tasks.release.risk import Finding, Suppression
from tests.builders import AT, finding, risk

LABEL = "documents.0002_document_category"
ACCEPTED = Suppression(rule="add-index", migration=LABEL, reason="quiet", expires=AT.date(), file="x.py", line=3)
KEYS = ["rule", "migration", "severity", "harm", "subject", "message", "evidence", "mitigation", "file", "line"]


def told(form: str, *findings: Finding, prefix: str = "backend/") -> str:
    return FORMATS[form](Checked(risk(*findings, labels=(LABEL, "shop.0003_b")), "abc123", (), prefix))


def test_json() -> None:
    answer = json.loads(told("json", finding(), finding(suppressed=ACCEPTED)))
    assert list(answer) == ["format", "level", "base", "findings", "suppressed", "migrations", "notes", "facts"]
    assert (answer["format"], answer["level"], answer["base"]) == (1, "medium", "abc123")
    [one] = answer["findings"]
    assert list(one) == KEYS
    assert one["file"] == "backend/apps/documents/migrations/0002_document_category.py"
    [accepted] = answer["suppressed"]
    assert (accepted["reason"], accepted["expires"]) == ("quiet", "2026-11-22")
    assert answer["migrations"] == [
        {"migration": LABEL, "level": "medium"},
        {"migration": "shop.0003_b", "level": "low"},
    ]


def test_sarif() -> None:
    run = json.loads(told("sarif", finding(), finding(rule="remove-column", severity="high")))["runs"][0]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    for result, rule, level in zip(run["results"], ["add-index", "remove-column"], ["warning", "error"], strict=True):
        assert (result["ruleId"], rules[result["ruleIndex"]], result["level"]) == (rule, rule, level)
        place = result["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"].startswith("backend/apps/")
        assert place["region"]["startLine"] == 12
    accepted = json.loads(told("sarif", finding(suppressed=ACCEPTED)))["runs"][0]["results"][0]
    assert accepted["suppressions"] == [{"kind": "inSource", "justification": "quiet"}]


def test_sarif_is_what_code_scanning_takes() -> None:
    """The parts of the 2.1.0 schema, and of GitHub's limits to it, that concern what is written."""
    odd = (
        finding(file="apps/a b/100%#ü.py", line=None),
        finding(file=None, line=None, rule="drift", severity="unknown"),
        finding(file="/usr/lib/site packages/x.py", line=0),
        finding(suppressed=ACCEPTED),
    )
    log = json.loads(told("sarif", *odd))
    assert log["version"] == "2.1.0"
    [run] = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"]
    assert len({rule["id"] for rule in driver["rules"]}) == len(driver["rules"])
    for result in run["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in {"none", "note", "warning", "error"}
        assert result["message"]["text"]
        [location] = result["locations"]
        place = location["physicalLocation"]
        assert place["region"]["startLine"] >= 1
        uri = place["artifactLocation"]["uri"]
        assert re.fullmatch(r"(?:[\w.~!$&'()*+,;=:@/-]|%[0-9A-F]{2})+", uri, re.ASCII)
        assert not uri.startswith("/")
    uris = [result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in run["results"]]
    assert uris[0] == "backend/apps/a%20b/100%25%23%C3%BC.py"
    assert uris[2] == "file:///usr/lib/site%20packages/x.py"


def test_text_names_every_migration_its_level_and_what_to_do() -> None:
    text = told("text", finding(), finding(suppressed=ACCEPTED))
    assert f"{LABEL}: medium\n" in text
    assert "shop.0003_b: low\n" in text
    assert "1. build it concurrently:\n       AddIndexConcurrently(...)" in text
    assert "accepted until 2026-11-22: quiet" in text
    assert text.endswith("2 migrations, 1 finding, 1 accepted: medium")


def test_github() -> None:
    line = told("github", finding(message="100 %\nof it"))
    assert line.startswith("::warning file=backend/apps/documents/migrations/0002_document_category.py,line=12,title=")
    assert "100 %25%0Aof it" in line


def test_an_annotation_can_be_read_and_the_worst_comes_first() -> None:
    long = finding(message="m" * 300, evidence=tuple("e" * 200 for _ in range(10)))
    first, second = told("github", long, finding(severity="high")).splitlines()
    assert first.startswith("::error ")
    text = second.rpartition("::")[2].replace("%0A", "\n")
    assert len(text) < 1100
    assert text.splitlines()[-1] == "... (`runbook check` shows the rest)"
    assert all(set(line) == {"e"} for line in text.splitlines()[1:-1])


@pytest.mark.parametrize("form", ["github", "sarif", "json", "text"])
@given(text=st.text(min_size=1))
def test_no_text_breaks_a_form(form: str, text: str) -> None:
    one = finding(text, message=text, evidence=(text,), mitigation=(text,), file=text, subject=text)
    output = told(form, one)
    if form == "github":
        assert len(re.split("[\r\n]", output)) == 1
        assert output.count("::") >= 2
    elif form != "text":
        json.loads(output)
