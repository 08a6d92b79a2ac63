"""The runs of an object: on its page in the admin, in the list, and on a page of the project's own."""

from __future__ import annotations

import re
import subprocess
import sys
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import pytest
from django.db import connection
from django.template import Context, Template
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from canx_flow.admin import WorkflowRunInline
from canx_flow.models import WorkflowRun
from canx_flow.testing import run_until_idle
from shop.admin import OrderAdmin
from shop.models import Order

from .conftest import VIEW, Person, url
from .runs import anything
from .test_csp import forbidden

pytestmark = pytest.mark.django_db

SECRET = "planted-secret"


def an_order() -> Order:
    """An order with two runs: the shop's own, which waits to be approved, and one that has failed with a secret."""
    order = Order.objects.create(customer="ada", email="ada@example.com", total=Decimal(900), requires_approval=True)
    anything.using(subject=order).start("fail", note=SECRET)
    run_until_idle()
    return order


def page_of(order: Order) -> str:
    """The address of its page in the admin."""
    return reverse("admin:shop_order_change", args=[order.pk])


def rows(content: str) -> list[str]:
    """The rows of the inline, without markup."""
    body = re.search(r'canx-runs-of".*?<tbody>(.*?)</tbody>', content, re.DOTALL)
    plain = re.sub(r"<[^>]+>", " ", body[1]) if body is not None else ""
    return [" ".join(row.split()) for row in plain.splitlines() if row.strip()]


def test_an_object_shows_its_runs(admin_client: Client) -> None:
    """Newest first: run, workflow, state, where it stands, created; under a strict policy."""
    order = an_order()
    content = admin_client.get(page_of(order)).content.decode()
    newest, oldest = rows(content)
    assert "admin.any failed" in newest
    assert "order-processing waiting approval" in oldest
    assert [str(run.id) for run in WorkflowRun.objects.for_subject(order).order_by("-id")] == re.findall(
        r'class="canx-id" title="([0-9a-f-]{36})"', content
    )
    assert forbidden(content) == []


def test_its_button_leads_to_the_list_of_its_runs(admin_client: Client) -> None:
    """`Runs (2)`, and the list behind it has those two alone."""
    order, _other = an_order(), an_order()
    content = admin_client.get(page_of(order)).content.decode()
    button = re.search(r'<a href="([^"]*)" class="canx-runs">Runs \(2\)</a>', content)
    assert button is not None
    assert unquote(button[1]) == f"{url('changelist')}?subject=shop.Order:{order.pk}"
    found = set(re.findall(r'class="canx-id" title="([^"]*)"', admin_client.get(button[1]).content.decode()))
    assert found == {str(run.id) for run in WorkflowRun.objects.for_subject(order)}


def test_who_may_not_see_runs_sees_none_on_the_object(person: Person) -> None:
    """Neither the inline nor the button."""
    from django.contrib.auth.models import Permission, User

    order, client = an_order(), person(name="clerk")
    User.objects.get(username="clerk").user_permissions.add(Permission.objects.get(codename="view_order"))
    content = client.get(page_of(order)).content.decode()
    assert "ada@example.com" in content
    assert "canx-runs" not in content
    assert "order-processing" not in content


def test_nothing_that_a_run_was_given_is_shown_on_the_object(person: Person) -> None:
    """Whoever may see runs, and the object."""
    from django.contrib.auth.models import Permission, User

    order, client = an_order(), person(VIEW, name="clerk")
    User.objects.get(username="clerk").user_permissions.add(Permission.objects.get(codename="view_order"))
    content = client.get(page_of(order)).content.decode()
    assert "admin.any" in content
    assert SECRET not in content


def test_an_object_is_saved_beside_its_runs(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The inline takes no part in what is typed on the page."""
    order = an_order()
    monkeypatch.setattr(OrderAdmin, "has_change_permission", lambda *_: True)
    monkeypatch.setattr(OrderAdmin, "inlines", [WorkflowRunInline])
    sent = {"customer": "grace", "email": "grace@example.com", "total": "5", "status": "placed"}
    answer = admin_client.post(page_of(order), sent)
    assert answer.status_code == 302, answer.content.decode()
    order.refresh_from_db()
    assert order.customer == "grace"


def test_a_new_object_has_no_runs(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page that adds one shows neither."""
    monkeypatch.setattr(OrderAdmin, "has_add_permission", lambda *_: True)
    content = admin_client.get(reverse("admin:shop_order_add")).content.decode()
    assert "canx-runs" not in content


def test_an_object_asks_the_database_as_often_with_many_runs(admin_client: Client) -> None:
    """Two runs or twenty: ten are shown, all are counted, and as many queries are made but for the count."""
    few, many = an_order(), an_order()
    for number in range(20):
        anything.using(subject=many).start("sleep" if number % 2 else "fail", note="x")
    run_until_idle()
    asked = {}
    for order in (few, many):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            content = admin_client.get(page_of(order)).content.decode()
        asked[order.pk] = len(queries)
    assert len(rows(content)) == 10
    assert "All 22 runs" in content
    assert asked[many.pk] <= asked[few.pk] + 1


# -- on a page of the project's own -------------------------------------------------------------------


def drawn(source: str, **context: Any) -> str:
    """What a template of the project's makes of it."""
    return Template("{% load canx_flow %}" + source).render(Context(context))


def test_a_page_of_the_projects_shows_the_runs_of_an_object() -> None:
    """Workflow, state, where it stands and when it was created; no payload, no error, no id."""
    order = an_order()
    said = drawn("{% workflow_runs order %}", order=order)
    assert '<tr class="workflow-run-waiting"><th scope="row">order-processing</th><td>waiting</td><td>approval' in said
    assert '<tr class="workflow-run-failed"><th scope="row">admin.any</th><td>failed</td>' in said
    assert SECRET not in said
    assert not [run for run in WorkflowRun.objects.all() if str(run.id) in said]


def test_a_page_shows_as_many_as_it_asks_for() -> None:
    """And says how many there are beside them; of an object without runs nothing."""
    order = an_order()
    said = drawn("{% workflow_runs order most=1 %}", order=order)
    assert said.count("<tr class") == 1
    assert "and 1 older one" in said
    WorkflowRun.objects.all().delete()
    assert drawn("{% workflow_runs order %}", order=order).strip() == ""


@pytest.mark.once
def test_the_tag_needs_no_admin() -> None:
    """A project without django.contrib.admin loads our tags, and every other."""
    code = (
        "from django.conf import settings\n"
        "settings.configure(INSTALLED_APPS=['django.contrib.contenttypes', 'django.contrib.auth', 'canx_flow'],"
        " TEMPLATES=[{'BACKEND': 'django.template.backends.django.DjangoTemplates', 'APP_DIRS': True}],"
        " DATABASES={'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}}, USE_TZ=True)\n"
        "import django; django.setup()\n"
        "from django.template import engines\n"
        "print(engines['django'].from_string('{% load canx_flow %}fine').render())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "fine", done.stderr


def test_the_filter_is_asked_by_the_index_of_subjects() -> None:
    """The condition names the index's own, so that SQLite takes it; a subject that is none finds nothing."""
    from canx_flow.admin.subjects import SubjectFilter

    request = RequestFactory().get("/", {"subject": "shop.Order:1"})
    chosen = SubjectFilter(request, {"subject": ["shop.Order:1"]}, WorkflowRun, None)
    sql = str(chosen.queryset(request, WorkflowRun.objects.all()).query)
    assert '"subject_type" = ' in sql.replace("`", '"')
    if connection.vendor == "sqlite":
        plan = chosen.queryset(request, WorkflowRun.objects.all()).explain()
        assert "canx_run_subject" in plan
