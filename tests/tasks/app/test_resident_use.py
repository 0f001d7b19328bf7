"""What the application's models ask of a migrated database, and which of it fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.app.residence import Residence
from tasks.release.environment import Endpoint
from tests.tasks.app.django_projects import Project
from tests.tasks.app.scratch import Scratch, scratch_of

__all__ = ["scratch_of"]

MODELS = """
import uuid
from django.contrib.auth.models import AbstractBaseUser
from django.db.models.signals import post_init, pre_save

class Person(AbstractBaseUser):
    email = models.EmailField(unique=True)
    USERNAME_FIELD = "email"

class Order(models.Model):
    key = models.UUIDField(primary_key=True, default=uuid.uuid4)
    number = models.IntegerField(unique=True)
    note = models.CharField(max_length=50, null=True)
    paid = models.DecimalField(max_digits=8, decimal_places=2)
    person = models.ForeignKey(Person, on_delete=models.CASCADE)
    class Meta:
        unique_together = [("note", "paid")]
    def save(self, *args, **kwargs):
        raise AssertionError("save() runs")

class Item(models.Model):
    order = models.ForeignKey(Order, null=True, on_delete=models.CASCADE)
    at = models.DateTimeField(auto_now_add=True)
    tags = models.ManyToManyField("Tag")

class Special(Item):
    percent = models.SmallIntegerField(default=0)

class Tag(models.Model):
    word = models.CharField(max_length=20)

class Elsewhere(models.Model):
    word = models.CharField(max_length=20)

def forbidden(**kwargs):
    raise AssertionError("a signal is sent")

for kind in (Order, Tag, Special):
    pre_save.connect(forbidden, sender=kind)
post_init.connect(forbidden, sender=Order)
"""
ROUTER = """
class Router:
    def allow_migrate(self, db, app_label, model_name=None, **hints):
        return (model_name == "elsewhere") == (db == "second")
    def db_for_read(self, model, **hints):
        return "second" if model._meta.model_name == "elsewhere" else "default"
    db_for_write = db_for_read
"""
URLS = """
from django.http import HttpResponse
from django.urls import path
from shop.models import Order

def broken(request):
    raise RuntimeError("out of order")

urlpatterns = [
    path("health", lambda request: HttpResponse("up, " + request.get_host() + "." * 1000)),
    path("orders", lambda request: HttpResponse(str(Order.objects.count()))),
    path("broken", broken),
]
"""
PERSON = "INSERT INTO shop_person (password, email) VALUES ('', 'a@example.org')"
ORDER = (
    "INSERT INTO shop_order (key, number, note, paid, person_id)"
    " SELECT gen_random_uuid(), 1, 'x', 2, id FROM shop_person"
)


@pytest.fixture
def shop(project: Callable[[str], Project], scratch_of: Callable[..., Scratch]) -> Callable[..., Scratch]:
    """Return a function that makes a shop with a user model of its own and a second database."""

    def make(version: str, *rows: str) -> Scratch:
        made = project(version)
        made.apps[:] = ["django.contrib.auth", "django.contrib.contenttypes"]
        made.app("shop", MODELS)
        made.write("shop/routers.py", ROUTER)
        made.write("urls.py", URLS)
        made.routers[:] = ["shop.routers.Router"]
        made.settings()
        settings = made.home / "site_settings.py"
        settings.write_text(
            settings.read_text()
            + 'AUTH_USER_MODEL = "shop.Person"\nROOT_URLCONF = "urls"\nALLOWED_HOSTS = ["shop.example"]\n'
            'DATABASES["second"] = dict(DATABASES["default"], NAME="second", USER="second")\n'
        )
        made.manage("makemigrations", "shop", "-v0")
        return scratch_of(made, *rows)

    return make


def failures(app: Residence, *tables: str) -> dict[str, str | None]:
    """What failed and says something, by what was tried, with its SQLSTATE."""
    return {tried.what: tried.sqlstate for tried in app.use(tables or None) if tried.error and not tried.inconclusive}


@pytest.mark.parametrize("version", ["3.2", "4.2", "5.2"])
@pytest.mark.parametrize("rows", [(), (PERSON, ORDER)], ids=["empty", "filled"])
def test_the_models_queries(shop: Callable[..., Scratch], version: str, rows: tuple[str, ...]) -> None:
    scratch = shop(version, *rows)
    count = "select count(*)::int from shop_order"
    with scratch.resident() as app:
        tried = {entry.what: entry for entry in app.use()}
        assert {name.split()[1] for name in tried} >= {"shop.Person", "shop.Order", "shop.Special", "shop.Item_tags"}
        assert not any("Elsewhere" in name for name in tried)
        told = {name: entry.error for name, entry in tried.items() if entry.error}
        assert all("unique" in str(error) for error in told.values()), told
        assert failures(app) == {}
        assert tried["insert shop.Order"].error is None
        assert tried["insert shop.Order with NULLs"].error is None
        assert tried["insert shop.Special"].error is None
        assert tried["update shop.Order"].query.startswith('UPDATE "shop_order" SET "number" = %s')
        assert scratch.ask(count) == [(len(rows[1:]),)]

        scratch.server.execute("ALTER TABLE shop_order ADD more text", dbname=scratch.name)
        assert failures(app) == {}
        scratch.server.execute("ALTER TABLE shop_order ALTER note TYPE varchar(60)", dbname=scratch.name)
        assert failures(app) == {}

        scratch.server.execute("ALTER TABLE shop_tag ADD must text NOT NULL", dbname=scratch.name)
        assert failures(app) == {"insert shop.Tag": "23502", "insert shop.Tag at its limits": "23502"}
        assert failures(app, "shop_person") == {}
        scratch.server.execute("ALTER TABLE shop_tag DROP must", dbname=scratch.name)

        scratch.server.execute("ALTER TABLE shop_tag ALTER word TYPE varchar(10)", dbname=scratch.name)
        assert failures(app, "shop_tag") == {"insert shop.Tag at its limits": "22001"}

        scratch.server.execute("ALTER TABLE shop_item ALTER order_id SET NOT NULL", dbname=scratch.name)
        assert failures(app, "shop_item").get("insert shop.Item with NULLs") == "23502"

        scratch.server.execute("ALTER TABLE shop_order RENAME paid TO total", dbname=scratch.name)
        broken = failures(app, "shop_order")
        assert broken["select shop.Order"] == "42703"
        assert broken["update shop.Order"] == "42703"
        assert "count shop.Order" not in broken
        assert broken["insert shop.Order"] == "42703"
    assert scratch.ask(count) == [(len(rows[1:]),)]


def test_requests_are_answered_in_process(shop: Callable[..., Scratch]) -> None:
    scratch = shop("5.2", PERSON, ORDER)
    scratch.server.execute("DELETE FROM shop_order", dbname=scratch.project.database)
    paths = ["/health", "/orders", "/broken", "/nothing"]
    with scratch.resident() as app:
        endpoints = [Endpoint(path=path) for path in paths]
        health, orders, broken, nothing = app.requests(endpoints, "shop.example:80", secure=True)
        scratch.server.execute("ALTER TABLE shop_order RENAME TO orders", dbname=scratch.name)
        [lost] = app.requests([Endpoint(path="/orders")], "shop.example")
    assert (health.what, health.status, health.error) == ("GET /health", 200, None)
    assert health.head.startswith("up, shop.example:80")
    assert len(health.head) == 300
    assert orders.head == "1"  # of the copy
    assert (orders.route, orders.relations, health.relations) == ("orders", ("shop_order",), ())
    assert (broken.status, broken.error) == (500, "RuntimeError: out of order")
    assert nothing.status == 404
    assert (lost.status, lost.error) == (500, 'ProgrammingError: relation "shop_order" does not exist')
