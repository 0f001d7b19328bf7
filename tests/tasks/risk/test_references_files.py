"""Which files of a checkout are searched, and how what is found in them is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.risk.references import LONGEST_TEXT, Named, Reference, notes, search, told
from tests.fix_app import git
from tests.tasks.risk.checkouts import CUSTOMER, IMPORTS, MODEL, MODELS, TOTAL, Checkout, checkout, found

__all__ = ["checkout"]


def test_templates_are_only_possible(checkout: Checkout) -> None:
    html = "<p>total</p>\n{{ order.total }} {{ order.totals }}\n{% if a.b.total > 3 %}{% endif %}\n{{ row['total'] }}\n"
    root = checkout({"templates/a.html": html, "mail/b.jinja2": "{% for t in order.total %}{% endfor %}"})
    references = search(root, TOTAL)
    assert [(r.file, r.line) for r in references] == [
        ("mail/b.jinja2", 1),
        ("templates/a.html", 2),
        ("templates/a.html", 3),
        ("templates/a.html", 4),
    ]
    assert {(reference.kind, reference.certain) for reference in references} == {("template", False)}


def test_line_within_a_long_string(checkout: Checkout) -> None:
    code = 'SQL = """\n    SELECT id,\n           total\n    FROM shop_order\n"""\nX = ("SELECT id, "\n     "total FROM shop_order")\n'  # noqa: E501
    assert [r.line for r in search(checkout({"web.py": code}), TOTAL)] == [3, 7]


def test_tests_are_never_certain_and_migrations_not_searched(checkout: Checkout) -> None:
    code = IMPORTS + "Order.objects.filter(total=1)\n"
    moved = "class Migration(migrations.Migration):\n    x = Order.objects.filter(total=1)\n"
    files = dict.fromkeys(("shop/tests/test_a.py", "shop/tests.py", "conftest.py", "test_x.py"), code)
    root = checkout({**files, "shop/migrations/0001_a.py": code, "shop/schema/0002_b.py": IMPORTS + moved})
    assert {reference.file for reference in search(root, TOTAL)} == set(files)
    assert found(root, TOTAL, certain=True) == []


def test_only_what_git_tracks(checkout: Checkout, tmp_path: Path) -> None:
    code = IMPORTS + "Order.objects.filter(total=1)\n"
    root = checkout({"web.py": code, ".hidden/a.py": code, "node_modules/x/a.py": code, "venv/lib/a.py": code})
    (root / "scratch.py").write_text(code, encoding="utf-8")
    assert [reference.file for reference in search(root, TOTAL)] == ["web.py"]
    (root / ".git").rename(tmp_path / "elsewhere")
    (root / "own").mkdir()
    (root / "own" / "pyvenv.cfg").touch()
    (root / "own" / "a.py").write_text(code, encoding="utf-8")
    assert [reference.file for reference in search(root, TOTAL)] == ["scratch.py", "web.py"]


def test_a_changed_checkout_is_read_again(checkout: Checkout) -> None:
    root = checkout({"web.py": IMPORTS + "Order.objects.filter(total=1)\n"})
    assert len(search(root, TOTAL)) == 1
    (root / "web.py").write_text(IMPORTS, encoding="utf-8")
    assert search(root, TOTAL) == ()
    assert len(search(checkout({"more.py": IMPORTS + "Order(total=1)\n", "web.py": IMPORTS}), TOTAL)) == 1


def test_what_cannot_be_read_is_noted(checkout: Checkout) -> None:
    root = checkout({"web.py": IMPORTS + "Order.objects.filter(total=1)\n", "broken.py": "def total(:  # Order\n"})
    (root / "latin.py").write_bytes(
        b"# -*- coding: latin-1 -*-\n" + IMPORTS.encode() + "Order(total='ä')\n".encode("latin-1")
    )
    (root / "binary.py").write_bytes(b"total = '\xff\xfe'\n")
    (root / "nul.py").write_bytes(b"Order.total = 1\0\n")
    (root / "deep.py").write_text("Order.total = " + "(" * 5000 + ")" * 5000, encoding="utf-8")
    git(root, "add", "--all")
    assert [reference.file for reference in search(root, TOTAL)] == ["latin.py", "web.py"]
    assert sorted(note.partition(" ")[0] for note in notes(root)) == ["binary.py", "broken.py", "deep.py", "nul.py"]


def test_secrets_are_masked_and_lines_are_short(checkout: Checkout) -> None:
    code = IMPORTS + (
        'Order(total=1, password="hunter2")\n'
        'Order(total=1, url="postgres://web:hunter3@db/shop")\n'
        'Order(total=1, key="f3a9c1d2e4b5a6978812aa90bb31cc42")\n'
        f'Order(total=1, text="{"x " * 200}")\n'
    )
    references = search(checkout({"web.py": code}), TOTAL)
    assert len(references) == 4
    shown = " ".join(reference.text for reference in references)
    for secret in ("hunter2", "hunter3", "f3a9c1d2"):
        assert secret not in shown
    assert max(len(reference.text) for reference in references) == LONGEST_TEXT


def test_possible_ones_are_counted_and_the_first_shown() -> None:
    certain = [Reference("a.py", line, "x.total", "attribute", True) for line in range(8)]
    possible = [Reference("b.py", line, "y.total", "attribute", False) for line in range(40)]
    sentences = told([*certain, *possible])
    assert len(sentences) == 7
    assert sentences[0] == "a.py:0: x.total (attribute)"
    assert sentences[5] == "and 3 more lines"
    assert sentences[6].startswith("40 other lines may mean it")


PIECES = st.sampled_from(
    ["total", "Order", "shop_order", "shop.Order", "(", ")", "=", ".", "'", '"', "\n", "    ", "class ", "def ", "for ",
     " in ", ":", "SELECT ", " FROM ", "Order.objects.filter(total=1)", "{{ ", " }}", "\\", "\x00", "f'", "lambda ", ",",  # noqa: E501
     "import ", "from ", "*", "[", "]", "as ", "%s", ";", "ä", "$$", "--", "yield ", "await ", "match ", "#"]
)  # fmt: skip


@pytest.fixture(scope="module")
def any_checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("any") / "checkout"
    (root / "shop").mkdir(parents=True)
    (root / "shop" / "models.py").write_text(MODELS, encoding="utf-8")
    return root


@given(
    content=st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=40).map(lambda parts: "".join(parts).encode()))
)
def test_any_content_is_survived(any_checkout: Path, content: bytes) -> None:
    for name in ("web.py", "raw.sql", "page.html", "shop/apps.py"):
        (any_checkout / name).write_bytes(content)
    for named in (TOTAL, CUSTOMER, MODEL, Named(None, None, "shop_order"), Named(None, None, "x", None, "y z")):
        for reference in search(any_checkout, named):
            assert reference.line >= 1
            assert len(reference.text) <= LONGEST_TEXT
